"""Listeners: they open, close, name an address that is taken, and hang up no call that they do not have."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, ClassVar

import pytest

from anycarrier.credentials import Credential
from anycarrier.errors import AnycarrierError, CallElsewhere, ConfigurationError
from anycarrier.exchange import Exchange
from anycarrier.listener import Listener
from anycarrier.provider import Capability, Provider
from anycarrier.routing import MemoryNumberRegistry
from anycarrier.testing.conformance.kit import CALL_ID, THEIRS, Kit
from anycarrier.testing.live_server import serve_sandbox
from anycarrier.testing.sandbox import sandbox_type

OF_ONE_CALL: dict[Capability | str, Callable[[Provider], Coroutine[Any, Any, Any]]] = {
    "hang_up": lambda provider: provider.hang_up(CALL_ID),
    Capability.FETCH_CALL: lambda provider: provider.fetch_call(CALL_ID),
    Capability.TRANSFER: lambda provider: provider.transfer(CALL_ID, THEIRS),
    Capability.SEND_DIGITS: lambda provider: provider.send_digits(CALL_ID, "1"),
}
"""What is asked of one call."""


class ListenerChecks(Kit):
    """For a carrier with sockets of its own; a carrier without skips them. They open real sockets on loopback.

    An author sets :attr:`listener_settings` where the defaults of the carrier's ``settings_type`` would not do, and
    writes :meth:`settings_at` where they name an address.
    """

    listener_settings: ClassVar[tuple[object, ...]] = ()
    """The operator's settings that the kit's listeners are given, as in ``Exchange(carrier_settings=...)``."""

    def settings_at(self, port: int) -> object | None:
        """The operator's settings that have the listener open ``port`` of 127.0.0.1. None: it opens no address, and
        connects to the carrier's sandbox, if that ships one."""
        return None

    def test_a_listener_opens_and_closes_and_opens_again(self) -> None:
        """And closing it twice is harmless: an exchange that stops closes what was closed before."""

        async def twice(exchange: Exchange) -> None:
            for _ in range(2):
                provider = await exchange.switchboard.provider("kit")
                listener = provider.listen(exchange.listeners.desk(provider, "kit"))
                assert isinstance(listener, Listener), f"listen gave a {type(listener).__name__}, no Listener"
                await listener.start()
                await listener.stop()
                await listener.stop()

        self.listening(twice)

    def test_an_address_that_is_taken_is_named_and_opens_once_it_is_free(self) -> None:
        """What the exchange says of it is all that its operator sees."""
        with taken() as port:
            settings = self.settings_at(port)
            if settings is None:
                pytest.skip("settings_at is not written: this listener opens no address")

            async def refused(exchange: Exchange) -> None:
                with pytest.raises(ConfigurationError) as told:
                    await exchange.start_listener("kit")
                assert str(port) in str(told.value), f"the error does not name port {port}: {told.value}"

            self.listening(refused, settings)

        async def opened(exchange: Exchange) -> None:
            await exchange.start_listener("kit")
            assert exchange.listeners.is_open("kit")

        self.listening(opened, settings)

    @pytest.mark.parametrize("operation", OF_ONE_CALL, ids=str)
    def test_a_call_that_is_not_here_is_elsewhere(self, operation: Capability | str) -> None:
        """Success would leave up a call that another process has; the exchange tells that process."""
        if isinstance(operation, Capability) and operation not in self.provider.capabilities:
            pytest.skip(f"capability {operation.name}: not declared")

        async def asked(exchange: Exchange) -> None:
            await exchange.start_listener("kit")
            provider = await exchange.switchboard.provider("kit")
            outcome: BaseException | None = None
            try:
                await OF_ONE_CALL[operation](provider)
            except AnycarrierError as failure:
                outcome = failure
            assert isinstance(outcome, CallElsewhere), (
                f"{operation} of a call that is not here must raise CallElsewhere, and "
                f"{'succeeded' if outcome is None else f'raised {type(outcome).__name__}'}"
            )
            assert (outcome.provider, outcome.operation, outcome.call_id) == (self.name, operation, CALL_ID)

        self.listening(asked)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def listening(self, act: Callable[[Exchange], Coroutine[Any, Any, None]], *settings: object) -> None:
        """Run ``act`` with an exchange whose credential ``kit`` is the author's."""
        if Capability.LISTEN not in self.provider.capabilities:
            pytest.skip("capability LISTEN: not declared")
        if self.kept("rest", "yaml"):
            pytest.skip("this carrier has REST too: its calls may be anywhere")

        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[Exchange]:
            async with contextlib.AsyncExitStack() as held:
                credential = self.credential
                if self.settings_at(0) is None and self.provider.sandbox:  # it opens no address, but connects to one
                    credential = (await held.enter_async_context(serve_sandbox(sandbox_type(self.name)))).credential()
                async with connected(credential) as exchange:
                    yield exchange

        @contextlib.asynccontextmanager
        async def connected(credential: Credential) -> AsyncIterator[Exchange]:
            exchange = Exchange(
                registry=MemoryNumberRegistry(),
                credentials={"kit": credential},
                public_url="https://voice.example.com",
                secret="x" * 32,
                carrier_settings=settings or self.listener_settings,
            )
            try:
                yield exchange
            finally:
                await exchange.stop()

        async def run() -> None:
            async with opened() as exchange:
                await act(exchange)

        asyncio.run(run())


@contextlib.contextmanager
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody else has, for TCP and UDP."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        port: int = stream.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))
        stream.listen()
        yield port
