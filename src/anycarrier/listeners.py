"""The listeners of one exchange: opened, opened again where that failed, and closed; the desk that each reports to.

A listener that does not open is named in the log and tried again, less and less often, until it opens or its credential
goes: it stops neither the exchange nor another listener.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from anycarrier.call_phases import longer
from anycarrier.errors import (
    AnycarrierError,
    ConfigurationError,
    ProviderError,
    StoreUnavailable,
    TicketRefused,
    UnknownCredential,
    UnknownProvider,
)
from anycarrier.events import CallEvent, IncomingCall
from anycarrier.held_calls import HeldCalls
from anycarrier.incoming import WebhookHandler
from anycarrier.listener import Closable, Desk, Figure, Health, Listener, MediaTransport, OperatedListener, S, T
from anycarrier.media import MediaServer
from anycarrier.provider import Capability, Provider
from anycarrier.switchboard import Switchboard
from anycarrier.webhooks import WebhookReply

log = logging.getLogger("anycarrier")

RETRY = (1.0, 300.0)
"""Seconds before a listener that did not open is tried again: the first time, and at most."""

START_TIMEOUT = 30.0
"""Seconds a listener has to open."""

STOP_TIMEOUT = 15.0
"""Seconds a listener has to end its calls and close."""

TELL_AGAIN = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between tries to take in what a listener has told."""

TOLD_TIMEOUT = 2.0
"""Seconds in which what a listener told at its end is to be taken in, before its closing counts as done."""

NEXT_STEPS = {
    errno.EADDRINUSE: "Another process has the address, or another listener: stop it, or set another address",
    errno.EADDRNOTAVAIL: "This machine has no such address: set one that it has",
    errno.EACCES: "It may not be opened by this user: set a port from 1024 on",
}
OTHER_STEP = "Check the addresses that the operator's settings name"


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


@dataclass
class _Kept:
    """One credential's listener: whether it is wanted, and, where it is open, of which provider it is."""

    wanted: bool = True
    listener: Listener | None = None
    provider: Provider | None = None
    desk: Desk | None = None
    retry: asyncio.TimerHandle | None = None
    failures: int = 0
    told: str = ""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Listeners:
    """Opens and closes the listeners of one exchange, by credential.

    ``settings`` are the operator's. Whatever is asked for while a listener opens or closes is done after that; the last
    wish counts.
    """

    def __init__(
        self, switchboard: Switchboard, webhooks: WebhookHandler, media: MediaServer, settings: Iterable[object] = ()
    ) -> None:
        self._board = switchboard
        self._webhooks = webhooks
        self._media = media
        self._settings = settings_by_type(settings)
        self._shared = SharedValues()
        self._kept: dict[str, _Kept] = {}
        self._held_calls: HeldCalls | None = None
        self._draining = False
        switchboard.on_new_provider.append(self._provider_changed)
        switchboard.desk_for = self.desk

    def credentials(self) -> set[str]:
        """The credentials whose listeners are open, or are tried again."""
        return {credential_id for credential_id, kept in self._kept.items() if kept.wanted}

    def is_open(self, credential_id: str) -> bool:
        """True when calls of the credential can come in."""
        kept = self._kept.get(credential_id)
        return kept is not None and kept.listener is not None

    def health(self, credential_id: str) -> list[Health]:
        """How the credential's listener does; empty where its carrier has none, or none is wanted."""
        kept = self._kept.get(credential_id)
        if kept is None or not kept.wanted:
            return []
        if kept.listener is None:
            why = f"not open, and tried again: {kept.told}" if kept.told else "not open yet"
            return [Health("listener", False, why)]
        if isinstance(kept.listener, OperatedListener):
            return [*kept.listener.health()]
        return [Health("listener", True, "open")]

    def figures(self) -> list[Figure]:
        """What the open listeners report, those of one name and labels added up."""
        totals: dict[tuple[str, tuple[tuple[str, str], ...]], Figure] = {}
        for kept in self._kept.values():
            for figure in kept.listener.figures() if isinstance(kept.listener, OperatedListener) else ():
                key = figure.name, tuple(sorted(figure.labels.items()))
                totals[key] = _added(totals[key], figure) if key in totals else figure
        return [*totals.values()]

    def drain(self) -> None:
        """Turn new calls away, also on listeners that open from now on."""
        self._draining = True
        for kept in self._kept.values():
            if isinstance(kept.listener, OperatedListener):
                kept.listener.drain()

    async def start(self, credential_id: str) -> None:
        """Open the credential's listener, if its carrier has one and it is not open with the present secrets.

        Raises what keeps it closed, and tries again later.
        """
        provider = await self._board.provider(credential_id)
        kept = self._kept.get(credential_id)
        if kept is None:
            if not provider.supports(Capability.LISTEN):
                return
            kept = self._kept[credential_id] = _Kept()
        kept.wanted = True
        await self._settle(credential_id, kept)

    async def close(self, credential_id: str) -> None:
        """Close the credential's listener, and do not try again; its calls in progress are ended."""
        if (kept := self._kept.get(credential_id)) is not None:
            kept.wanted = False
            await self._settle(credential_id, kept)

    async def close_all(self) -> None:
        """Close them all, side by side."""
        await asyncio.gather(*(self.close(credential_id) for credential_id in [*self._kept]))
        if self._held_calls is not None:
            self._held_calls.stop()

    def desk(self, provider: Provider, credential_id: str) -> CredentialDesk:
        """What a listener of that provider reports to."""
        return CredentialDesk(
            provider, credential_id, self._board, self._webhooks, self._media, self._shared, self._settings
        )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _provider_changed(self, credential_id: str) -> None:
        if (kept := self._kept.get(credential_id)) is not None:
            self._board.spawn(self._try_again(credential_id, kept), "open a listener with changed secrets")

    async def _try_again(self, credential_id: str, kept: _Kept) -> None:
        with suppress(AnycarrierError, StoreUnavailable):  # which is in the log, and tried again
            await self._settle(credential_id, kept)

    async def _settle(self, credential_id: str, kept: _Kept) -> None:
        """Open or close it, as it is wanted."""
        async with kept.changing:
            if kept.retry is not None:
                kept.retry.cancel()
                kept.retry = None
            try:
                if kept.wanted:
                    await self._open(credential_id, kept)
            except (UnknownCredential, UnknownProvider):
                kept.wanted = False
                raise
            except (AnycarrierError, StoreUnavailable) as problem:
                self._retry_later(credential_id, kept, problem)
                raise
            finally:
                if not kept.wanted:
                    await self._shut(credential_id, kept)
                    if not kept.wanted and self._kept.get(credential_id) is kept:  # nobody wants it again by now
                        del self._kept[credential_id]

    async def _open(self, credential_id: str, kept: _Kept) -> None:
        provider = await self._board.provider(credential_id)
        if kept.listener is not None and kept.provider is provider:
            return
        await self._shut(credential_id, kept)
        if not provider.supports(Capability.LISTEN):
            kept.wanted = False
            return
        limit = asyncio.timeout(START_TIMEOUT)
        try:
            desk = provider.desk or self.desk(provider, credential_id)
            listener = provider.listen(desk)
            async with limit:
                await listener.start()
        except AnycarrierError:
            raise
        except OSError as refused:
            if limit.expired():
                raise ProviderError(provider.name, "listen", f"not open within {START_TIMEOUT:g} s") from None
            raise ConfigurationError(
                f"{provider.name} cannot open its sockets for credential {credential_id!r}: "
                f"{refused.strerror or refused}. {NEXT_STEPS.get(refused.errno or 0, OTHER_STEP)}"
            ) from refused
        except Exception as bug:
            self._board.report(f"opening the listener of {provider.name}: a bug of its plugin", bug)
            raise ProviderError(provider.name, "listen", type(bug).__name__) from bug
        kept.listener, kept.provider, kept.desk = listener, provider, desk
        if self._held_calls is None:  # an exchange without listeners has none
            self._held_calls = HeldCalls(self._board)
        if self._draining and isinstance(listener, OperatedListener):
            listener.drain()
        if kept.failures:
            log.info("the listener of credential %s on %s is open now", credential_id, provider.name)
        kept.failures, kept.told = 0, ""

    def _retry_later(self, credential_id: str, kept: _Kept, problem: Exception) -> None:
        pause = longer(RETRY, kept.failures)
        kept.failures += 1
        if kept.told != str(problem):
            kept.told = str(problem)
            log.error("the listener of credential %s is not open, it is tried again: %s", credential_id, problem)

        def due() -> None:
            self._board.spawn(self._try_again(credential_id, kept), "open a listener again")

        kept.retry = asyncio.get_running_loop().call_later(pause, due)

    async def _shut(self, credential_id: str, kept: _Kept) -> None:
        listener, kept.listener, kept.provider = kept.listener, None, None
        if listener is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await listener.stop()
        except Exception as bug:  # noqa: BLE001 reported: it is closed as far as we are concerned
            self._board.report(f"closing the listener of credential {credential_id} failed", bug)
        if isinstance(kept.desk, CredentialDesk):
            await kept.desk.told()


def _added(one: Figure, other: Figure) -> Figure:
    buckets = {bound: one.buckets.get(bound, 0) + count for bound, count in other.buckets.items()}
    return one._replace(value=one.value + other.value, buckets=buckets)


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
        self._telling: dict[str, asyncio.Future[None]] = {}
        """The last event of each call that is being handled."""

    async def event(self, event: CallEvent) -> WebhookReply:
        """Handle a call event."""
        done = asyncio.get_running_loop().create_future()
        self._last(event.call_id, done)
        try:
            return await self._event(event)
        finally:
            done.set_result(None)

    def tell(self, event: CallEvent) -> None:
        """Handle it after what came before of the same call, and again until that succeeds."""
        work = self._tell(event, self._telling.get(event.call_id))
        self._last(event.call_id, self._board.spawn(work, f"take in what {self._provider.name} told of a call"))

    async def told(self) -> None:
        """Wait until what was told is taken in; not for long, and it is tried on after that."""
        if self._telling:
            await asyncio.wait([*self._telling.values()], timeout=TOLD_TIMEOUT)

    def _last(self, call_id: str, handled: asyncio.Future[None]) -> None:
        def over(_: asyncio.Future[None]) -> None:
            if self._telling.get(call_id) is handled:
                del self._telling[call_id]

        self._telling[call_id] = handled
        handled.add_done_callback(over)

    async def _tell(self, event: CallEvent, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        for pause in (*TELL_AGAIN, None):
            try:
                if (await self._event(event)).status < 500:
                    return
            except Exception as problem:  # noqa: BLE001 the store's, mostly
                log.warning("a call's event on %s is handled later: %s", self._provider.name, type(problem).__name__)
            if pause is not None:
                await asyncio.sleep(pause)

    async def _event(self, event: CallEvent) -> WebhookReply:
        try:
            await self._board.provider(self.credential_id)  # as for a webhook: credentials know whose work this is
        except UnknownCredential:
            if isinstance(event, IncomingCall):
                raise
            # It was deleted, and its calls end: that is written down all the same.
        # The listener's own: a newer one, made since the secrets changed, does not have its calls.
        return await self._webhooks.handle_event(self._provider, self.credential_id, event)

    async def media(self, ticket: str, transport: MediaTransport) -> None:
        """Serve a call's audio until it is over."""
        admitted = await self._media.admit(ticket, None)
        if admitted.credential_id != self.credential_id:
            raise TicketRefused("it was made for another credential's call")
        await self._media.serve(admitted, transport)

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        """Do ``work`` beside."""
        return self._board.spawn(work, what)

    def shared(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> AbstractAsyncContextManager[T]:
        """One value for all listeners of the exchange."""
        return self._shared.hold(key, make)

    def settings(self, kind: type[S]) -> S:
        """The operator's settings, else the defaults."""
        return cast(S, self._settings.get(kind)) if kind in self._settings else kind()
