"""A call's words and happenings, on their way to the store: taken without waiting, written by the writer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from anycarrier_server.refusals import StoreOverloaded
from anycarrier_server.store import public_id

if TYPE_CHECKING:
    from anycarrier_server.service import Service

log = logging.getLogger("anycarrier")


class StoredRecord:
    """A :class:`anycarrier.agent.transcript.Transcript` over the store.

    If the database is too far behind, words are lost and the call goes on. ``websocket_url`` is where the call's agent
    is, if it has one.
    """

    def __init__(
        self, service: Service, call_id: UUID, workspace_id: UUID, *, websocket_url: str | None = None
    ) -> None:
        self._service = service
        self._call_id = call_id
        self._workspace_id = workspace_id
        self._websocket_url = websocket_url
        self._lost = 0

    def said(self, party: str, text: str, at_ms: int) -> None:
        writer = self._service.store.writer
        with self._losing("words"):
            writer.segment(self._call_id, party=party, text=text, ts_ms=at_ms, workspace_id=self._workspace_id)

    def note(self, kind: str, **facts: Any) -> None:
        if kind == "mode":
            self._service.spawn(self._mode(facts), "note who does speech on a call")
        with self._losing("notes"):
            self._service.store.writer.event(self._call_id, kind, facts, workspace_id=self._workspace_id)

    async def flush(self) -> None:
        await self._service.store.writer.flush(call_id=self._call_id)

    @contextmanager
    def _losing(self, what: str) -> Iterator[None]:
        """The call goes on without what cannot be kept; the log says it once for a run of them."""
        try:
            yield
        except StoreOverloaded as behind:
            if not self._lost:
                log.error("%s of call %s are lost: %s", what, public_id("call", self._call_id), behind)
            self._lost += 1
        else:
            self._lost = 0

    async def _mode(self, facts: dict[str, Any]) -> None:
        """Note who does speech, and at which socket: the agent may have another one by the time a client asks."""
        notes = {"use_tts": bool(facts["tts"]), "use_stt": bool(facts["stt"]), "websocket_url": self._websocket_url}
        await self._service.store.calls.note(self._call_id, **notes)
