"""What the exchange is to listeners: the desk that each reports to, and what they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from anycarrier.errors import ConfigurationError, TicketRefused
from anycarrier.events import CallEvent
from anycarrier.incoming import WebhookHandler
from anycarrier.listener import Closable, MediaTransport, S, T
from anycarrier.media import MediaServer
from anycarrier.provider import Provider
from anycarrier.switchboard import Switchboard
from anycarrier.webhooks import WebhookReply


def settings_by_type(given: Iterable[object]) -> Mapping[type, object]:
    """The operator's settings by their type; ``ConfigurationError`` for two of one type."""
    settings: dict[type, object] = {}
    for each in given:
        if settings.setdefault(type(each), each) is not each:
            raise ConfigurationError(f"carrier_settings has two {type(each).__name__}: give one of each type")
    return settings


@dataclass
class _Shared:
    value: Closable | None = None
    users: int = 0
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the value is made or closed: whoever enters meanwhile waits."""


class SharedValues:
    """One value for each key, closed when its last user has left; see :meth:`anycarrier.listener.Desk.shared`."""

    def __init__(self) -> None:
        self._held: dict[Hashable, _Shared] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
        """The key's value, made if nobody holds it."""
        held = self._held.setdefault(key, _Shared())
        held.users += 1
        try:
            async with held.changing:
                if held.value is None:
                    held.value = await make()
            yield cast(T, held.value)
        finally:
            held.users -= 1
            if not held.users:
                await self._close(key, held)

    async def _close(self, key: Hashable, held: _Shared) -> None:
        async with held.changing:
            if held.users:
                return  # somebody entered meanwhile, and keeps it
            value, held.value = held.value, None
            try:
                if value is not None:
                    await value.aclose()
            finally:
                if not held.users and self._held.get(key) is held:
                    del self._held[key]


class CredentialDesk:
    """The :class:`anycarrier.listener.Desk` of one credential's listener."""

    def __init__(
        self,
        provider: Provider,
        credential_id: str,
        switchboard: Switchboard,
        webhooks: WebhookHandler,
        media: MediaServer,
        shared: SharedValues,
        settings: Mapping[type, object],
    ) -> None:
        self.credential_id = credential_id
        self._provider = provider
        self._board = switchboard
        self._webhooks = webhooks
        self._media = media
        self._shared = shared
        self._settings = settings

    async def event(self, event: CallEvent) -> WebhookReply:
        """Handle a call event."""
        await self._board.provider(self.credential_id)  # as for a webhook: credentials know whose work this is
        # The listener's own: a newer one, made since the secrets changed, does not have its calls.
        return await self._webhooks.handle_event(self._provider, self.credential_id, event)

    async def media(self, ticket: str, transport: MediaTransport) -> None:
        """Serve a call's audio until it is over."""
        admitted = await self._media.admit(ticket, None)
        if admitted.credential_id != self.credential_id:
            raise TicketRefused("it was made for another credential's call")
        await self._media.serve(admitted, transport)

    def shared(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> AbstractAsyncContextManager[T]:
        """One value for all listeners of the exchange."""
        return self._shared.hold(key, make)

    def settings(self, kind: type[S]) -> S:
        """The operator's settings, else the defaults."""
        return cast(S, self._settings.get(kind)) if kind in self._settings else kind()
