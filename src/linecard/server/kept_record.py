"""A call's words and happenings, on their way to the store: taken without waiting, written by the writer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

from linecard.server.refusals import StoreOverloaded

if TYPE_CHECKING:
    from linecard.server.service import Service

log = logging.getLogger("linecard")


class StoredRecord:
    """A :class:`linecard.agent.record.CallRecord` over the store.

    A database too far behind costs words, not the call.
    """

    def __init__(self, service: Service, call_id: UUID) -> None:
        self._service = service
        self._call_id = call_id

    def said(self, party: str, text: str, at_ms: int) -> None:
        try:
            self._service.store.writer.segment(self._call_id, party=party, text=text, ts_ms=at_ms)
        except StoreOverloaded as behind:
            log.error("words of a call are lost: %s", behind)

    def note(self, kind: str, **facts: Any) -> None:
        if kind == "mode":
            self._service.spawn(self._mode(facts), "note who does speech on a call")
        try:
            self._service.store.writer.event(self._call_id, kind, facts)
        except StoreOverloaded as behind:
            log.error("a note of a call is lost: %s", behind)

    async def flush(self) -> None:
        await self._service.store.writer.flush()

    async def _mode(self, facts: dict[str, Any]) -> None:
        """Who does speech, and at which socket: the agent may have another one by the time somebody asks."""
        calls, agents = self._service.store.calls, self._service.store.agents
        notes: dict[str, Any] = {"use_tts": bool(facts["tts"]), "use_stt": bool(facts["stt"])}
        row = await calls.find(self._call_id)
        if row is not None and row.websocket_url is None:
            agent = await agents.find(row.agent_id)
            notes["websocket_url"] = agent.websocket_url if agent is not None else None
        await calls.note(self._call_id, **notes)
