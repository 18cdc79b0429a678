"""The sockets of an endpoint: UDP, TCP and TLS. Whole messages in and out; who may send them, ``guard`` knows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

from anycarrier.errors import ConfigurationError
from anycarrier_sip.guard import Guard
from anycarrier_sip.message import SipError, StreamReader
from anycarrier_sip.resolver import Target
from anycarrier_sip.settings import Binding, SipSettings
from anycarrier_sip.transaction import Flow

BURST, HEARD = 64, 8
"""Datagrams or connections taken at a time, and read at a time, before sound and others have their turn."""
BUFFER = 1 << 20
"""Bytes that may wait in a UDP socket while we are at work; the system may allow fewer."""
CONNECT = 4.0
"""Seconds for a connection of ours, TLS included."""
FIRST_MESSAGE = 10.0
"""Seconds that a peer has for TLS, and again for a first whole message (P8)."""
IDLE = 60.0
"""Seconds without a whole message or a dialog, then an accepted connection is closed (P8)."""
UNSENT = 1 << 20
"""Bytes waiting for a peer that does not read; then it is cut off."""
PING, PONG = b"\r\n\r\n", b"\r\n"
"""RFC 5626, 3.5.1."""

logger = logging.getLogger(__name__)


class Transport:
    """All sockets. ``received(data, flow)`` gets whole messages; ``lost(flow)`` is called when a connection ends."""

    def __init__(
        self,
        settings: SipSettings,
        guard: Guard,
        received: Callable[[bytes, Flow], None],
        lost: Callable[[Flow], None],
    ) -> None:
        self.settings = settings
        self.guard = guard
        self.received = received
        self.addresses: dict[str, tuple[str, int]] = {}
        """Where we listen, the first of each transport."""
        self.loop = asyncio.get_running_loop()
        self._lost = lost
        self._udp: dict[tuple[str, int], socket.socket] = {}
        self._listening: list[socket.socket] = []
        self._connections: dict[int, Connection] = {}
        self._accepted = 0
        self._numbers = itertools.count(1)
        self._held: dict[int, int] = {}
        self._ours: dict[Target, asyncio.Task[Flow]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._buffer = bytearray(65536)
        self._server_tls: ssl.SSLContext | None = None
        self._client_tls: dict[bool, ssl.SSLContext] = {}

    async def open(self) -> None:
        """Open all sockets, or none: ``ConfigurationError`` names the one that could not be."""
        try:
            for binding in self.settings.bindings:
                self._open(binding)
        except BaseException:
            await self.aclose()
            raise

    def _open(self, binding: Binding) -> None:
        if binding.transport == "tls":
            self._server_tls = self._server_context()
        kind = socket.SOCK_DGRAM if binding.transport == "udp" else socket.SOCK_STREAM
        sock = socket.socket(socket.AF_INET6 if ":" in binding.host else socket.AF_INET, kind)
        self._listening.append(sock)
        try:
            sock.setblocking(False)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.bind((binding.host, binding.port))
            if kind == socket.SOCK_STREAM:
                sock.listen(128)
        except OSError as problem:
            raise ConfigurationError(
                f"sip cannot listen on {binding}: {problem.strerror or problem}. "
                "Free that port or choose another address or port: SipSettings(listen=...)"
            ) from problem
        local: tuple[str, int] = sock.getsockname()[:2]
        self.addresses.setdefault(binding.transport, local)
        if kind == socket.SOCK_DGRAM:
            self._udp[local] = sock
            self.loop.add_reader(sock, self._datagrams, sock, local)
        else:
            self.loop.add_reader(sock, self._accept, sock, binding.transport)

    async def aclose(self) -> None:
        """Close everything."""
        self._udp.clear()
        for sock in self._listening:
            self.loop.remove_reader(sock)
            sock.close()
        for connection in tuple(self._connections.values()):
            connection.close()
        tasks = [*self._tasks, *self._ours.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def send(self, data: bytes, flow: Flow) -> None:
        """Write one message; ``OSError`` when there is no way any more."""
        if flow.connection:
            if (connection := self._connections.get(flow.connection)) is None:
                raise ConnectionError("the connection is closed")
            connection.send(data)
            return
        sock = self._udp.get(flow.local)
        if sock is None:
            raise ConnectionError("the socket is closed")
        with contextlib.suppress(BlockingIOError):  # a full buffer loses it, as the network may; it is repeated
            sock.sendto(data, flow.remote)

    async def flow(self, target: Target) -> Flow:
        """The way to ``target``: a UDP socket of ours or a connection, opened if there is none. ``ConnectionError``."""
        if target.transport == "udp":
            local = next((local for local in self._udp if (":" in local[0]) == (":" in target.host)), None)
            if local is None:
                raise ConnectionError(f"no UDP socket for {target}: add one to SipSettings(listen=...), or use TCP")
            return Flow("udp", local, (target.host, target.port))
        task = self._ours.get(target)
        if task is None:
            task = self._ours[target] = self.loop.create_task(self._connect(target))
            task.add_done_callback(lambda done: self._connected(target, done))
        return await asyncio.shield(task)

    def _connected(self, target: Target, task: asyncio.Task[Flow]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._ours.get(target) is task:
            del self._ours[target]

    def alive(self, flow: Flow) -> bool:
        """Whether :meth:`send` still has a way; always true of UDP."""
        return not flow.connection or flow.connection in self._connections

    def hold(self, flow: Flow) -> None:
        """Keep the connection open though idle, until :meth:`release` was called as often."""
        self._held[flow.connection] = self._held.get(flow.connection, 0) + 1

    def release(self, flow: Flow) -> None:
        """The end of one :meth:`hold`."""
        if (left := self._held.pop(flow.connection, 0) - 1) > 0:
            self._held[flow.connection] = left

    def held(self, flow: Flow) -> bool:
        """Whether somebody needs the connection."""
        return flow.connection in self._held

    # --- UDP ----------------------------------------------------------------------------------------------------

    def _datagrams(self, sock: socket.socket, local: tuple[str, int]) -> None:
        heard = 0
        for _ in range(BURST):
            try:
                size, remote = sock.recvfrom_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:  # about something we sent earlier
                continue
            if self.guard.datagram(remote[0], self.loop.time()):
                self.received(bytes(self._buffer[:size]), Flow("udp", local, remote[:2]))
                heard += 1
                if heard == HEARD:
                    return

    # --- TCP and TLS --------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket, kind: str) -> None:
        for _ in range(BURST):
            try:
                sock, remote = listening.accept()
            except BlockingIOError:
                return
            except OSError as problem:  # no descriptors left: without a pause we would be called again at once
                logger.warning("sip cannot accept connections now: %s", problem)
                self.loop.remove_reader(listening)
                self.loop.call_later(1, self._accept_again, listening, kind)
                return
            if not self.guard.connection(remote[0], self._accepted, self.loop.time()):
                sock.close()
                continue
            sock.setblocking(False)
            self._accepted += 1
            task: asyncio.Task[object] = self.loop.create_task(self._greet(sock, remote[:2], kind))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _accept_again(self, listening: socket.socket, kind: str) -> None:
        if listening.fileno() >= 0:
            self.loop.add_reader(listening, self._accept, listening, kind)

    async def _greet(self, sock: socket.socket, remote: tuple[str, int], kind: str) -> None:
        context = self._server_tls if kind == "tls" else None
        wait = FIRST_MESSAGE if context else None
        try:
            await self.loop.connect_accepted_socket(
                lambda: Connection(self, kind, remote, None), sock, ssl=context, ssl_handshake_timeout=wait
            )
        except (OSError, TimeoutError):  # no TLS, or none of ours
            self._accepted -= 1
            self.guard.counters.closed_connections += 1
            sock.close()

    async def _connect(self, target: Target) -> Flow:
        context = self._client_context(target) if target.transport == "tls" else None
        family = ":" in target.host
        ours = next((one.host for one in self.settings.bindings if (":" in one.host) == family), None)
        local = None if ours is None or ip_address(ours).is_unspecified else (ours, 0)
        name = (target.tls_name or target.host) if context else None
        try:
            async with asyncio.timeout(CONNECT):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self, target.transport, (target.host, target.port), target),
                    target.host, target.port, ssl=context, server_hostname=name, local_addr=local,
                )  # fmt: skip
        except ssl.SSLCertVerificationError as problem:
            raise ConnectionError(
                f"sip: the certificate of {target} is not trusted for {name}: {problem.verify_message}. Use the name "
                "in its certificate as host, or have the operator add its authority: SipSettings(tls_ca=...)"
            ) from problem
        except (OSError, TimeoutError) as problem:
            why = getattr(problem, "strerror", None) or str(problem) or "no answer"
            raise ConnectionError(f"sip: no connection to {target}: {why}") from problem
        return connection.flow

    def _opened(self, connection: Connection) -> int:
        number = next(self._numbers)
        self._connections[number] = connection
        return number

    def _closed(self, connection: Connection) -> None:
        del self._connections[connection.flow.connection]
        if connection.target is None:
            self._accepted -= 1
        else:
            self._ours.pop(connection.target, None)
        self._held.pop(connection.flow.connection, None)
        self._lost(connection.flow)

    def _server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load_certificate(context)
        return context

    def _client_context(self, target: Target) -> ssl.SSLContext:
        """Names are always checked, but on loopback without an authority: nobody else can be there."""
        checked = self.settings.tls_ca is not None or not ip_address(target.host).is_loopback
        if checked not in self._client_tls:
            try:
                context = ssl.create_default_context(cafile=self.settings.tls_ca)
            except OSError as problem:
                raise ConnectionError(f"sip tls_ca {self.settings.tls_ca} cannot be read: {problem}") from problem
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if not checked:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if self.settings.tls_certificate is not None:
                self._load_certificate(context)
            self._client_tls[checked] = context
        return self._client_tls[checked]

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        assert self.settings.tls_certificate is not None
        try:
            context.load_cert_chain(self.settings.tls_certificate, self.settings.tls_key)
        except OSError as problem:
            raise ConfigurationError(
                f"sip tls_certificate {self.settings.tls_certificate} cannot be used: {problem.strerror or problem}. "
                "It is a PEM file with the chain, and the key is in it or in tls_key"
            ) from problem


class Connection(asyncio.Protocol):
    """One TCP or TLS connection, accepted (``target`` None) or ours."""

    flow: Flow

    def __init__(self, owner: Transport, kind: str, remote: tuple[str, int], target: Target | None) -> None:
        self.target = target
        self._remote = remote
        self._owner = owner
        self._kind = kind
        self._reader = StreamReader()
        self._greeted = False
        self._last = owner.loop.time()
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        local = transport.get_extra_info("sockname")[:2]
        self.flow = Flow(self._kind, local, self._remote, self._owner._opened(self))
        if self.target is None:
            self._watch = self._owner.loop.call_later(FIRST_MESSAGE, self._look)

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        try:
            messages = self._reader.feed(data)
        except SipError:
            owner.guard.counters.malformed += 1
            return self._cut()
        for message in messages:
            now = owner.loop.time()
            if not owner.guard.datagram(self.flow.remote[0], now):
                return self._cut()
            if self._transport.is_closing():
                return None  # what came before it ended the connection
            if message == PING:  # no message: who only pings is idle
                self._transport.write(PONG)
            else:
                self._greeted, self._last = True, now
                owner.received(message, self.flow)

    def send(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionError("the connection is closing")
        if self._transport.get_write_buffer_size() > UNSENT:
            self._transport.abort()
            raise ConnectionError("the peer does not read")
        self._last = self._owner.loop.time()
        self._transport.write(data)

    def connection_lost(self, problem: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._owner._closed(self)

    def close(self) -> None:
        self._transport.close()

    def _cut(self) -> None:
        self._owner.guard.counters.closed_connections += 1
        self._transport.abort()

    def _look(self) -> None:
        idle = self._owner.loop.time() - self._last
        if not self._greeted or (idle >= IDLE and not self._owner.held(self.flow)):
            self._owner.guard.counters.closed_connections += 1
            return self.close()
        self._watch = self._owner.loop.call_later(IDLE - idle if idle < IDLE else IDLE, self._look)
