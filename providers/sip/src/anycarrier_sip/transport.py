"""The sockets of an endpoint: UDP, TCP and TLS. Whole messages in and out; who may send them, ``guard`` knows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from errno import ECONNREFUSED, EHOSTUNREACH, ENETUNREACH
from functools import partial
from ipaddress import ip_address
from typing import cast

from anycarrier.errors import ConfigurationError
from anycarrier_sip.guard import OF_ONE, Guard
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
"""Seconds without a whole message or a dialog, then a connection is closed (P8), ours too; what a stranger sends does
not prolong them."""
UNSENT = 1 << 20
"""Bytes waiting for a peer that does not read; then it is cut off."""
PING, PONG = b"\r\n\r\n", b"\r\n"
"""RFC 5626, 3.5.1."""
RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""Linux: IP_RECVERR and IPV6_RECVERR, which :mod:`socket` does not name before Python 3.14."""
UNREACHABLE = (ECONNREFUSED, EHOSTUNREACH, ENETUNREACH)

logger = logging.getLogger(__name__)


class Transport:
    """All sockets. ``received(data, flow)`` gets whole messages; ``lost(flow)`` is called when a connection ends;
    ``unreachable(datagram)`` with the beginning of one of ours that reached no socket, as far as the network says so.
    """

    def __init__(
        self, settings: SipSettings, guard: Guard, received: Callable[[bytes, Flow], None],
        lost: Callable[[Flow], None], unreachable: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        self.settings, self.guard = settings, guard
        self.received, self.lost, self.unreachable = received, lost, unreachable
        self.addresses: dict[str, tuple[str, int]] = {}
        """Where we listen, the first of each transport."""
        self.connections: dict[int, Connection] = {}
        """By their flow's number, accepted ones and ours, those too that are not open yet."""
        self.loop = asyncio.get_running_loop()
        self.numbers = itertools.count(1)
        self._udp: dict[tuple[str, int], socket.socket] = {}
        self._listening: list[socket.socket] = []
        self._opening: dict[Target, asyncio.Task[Flow]] = {}
        self._greeting: set[asyncio.Task[None]] = set()
        self._buffer = bytearray(65536)
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
        tls = self._context(ssl.Purpose.CLIENT_AUTH) if binding.transport == "tls" else None
        address = (binding.host, binding.port)
        family = socket.AF_INET6 if ":" in binding.host else socket.AF_INET
        try:
            if binding.transport == "udp":
                self._listening.append(sock := socket.socket(family, socket.SOCK_DGRAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if sys.platform == "linux":
                    sock.setsockopt(*RECVERR[family], 1)
                sock.bind(address)
            else:
                self._listening.append(sock := socket.create_server(address, family=family, backlog=128))
        except OSError as problem:
            raise ConfigurationError(
                f"sip cannot listen on {binding}: {problem.strerror or problem}. "
                "Free that port or choose another address or port: SipSettings(listen=...)"
            ) from problem
        sock.setblocking(False)
        local: tuple[str, int] = sock.getsockname()[:2]
        self.addresses.setdefault(binding.transport, local)
        if binding.transport == "udp":
            self._udp[local] = sock
            self.loop.add_reader(sock, self._datagrams, sock, local)
        else:
            self._listen(sock, binding.transport, tls)

    async def aclose(self) -> None:
        """Close everything."""
        self._udp.clear()
        for sock in self._listening:
            self.loop.remove_reader(sock)
            sock.close()
        tasks = [*self._greeting, *self._opening.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in tuple(self.connections.values()):
            connection.close()

    def send(self, data: bytes, flow: Flow) -> None:
        """Write one message; ``OSError`` when there is no way any more."""
        if flow.connection:
            if (connection := self.connections.get(flow.connection)) is None:
                raise ConnectionError("the connection is closed")
            return connection.send(data)
        if (sock := self._udp.get(flow.local)) is None:
            raise ConnectionError("the socket is closed")
        try:
            sock.sendto(data, flow.remote)
        except BlockingIOError:
            pass  # a full buffer loses it, as the network may; it is repeated
        except OSError:  # perhaps about an earlier one, to somebody else
            self.loop.call_soon(self._read_on, sock, flow.local)
            with contextlib.suppress(BlockingIOError):
                sock.sendto(data, flow.remote)

    async def flow(self, target: Target) -> Flow:
        """The way to ``target``: a UDP socket of ours or a connection, opened if there is none. ``ConnectionError``."""
        if target.transport == "udp":
            local = next((local for local in self._udp if (":" in local[0]) == (":" in target.host)), None)
            if local is None:
                raise ConnectionError(f"no UDP socket for {target}: add one to SipSettings(listen=...), or use TCP")
            return Flow("udp", local, (target.host, target.port))
        if (task := self._opening.get(target)) is None:
            there = [one for one in self.connections.values() if one.target and one.target.host == target.host]
            for connection in there:
                if connection.target == target:
                    return connection.flow
            if len(there) >= OF_ONE:
                raise ConnectionError(f"sip: {target.host} has as many connections of ours as one address may")
            task = self._opening[target] = self.loop.create_task(self._connect(target))
            task.add_done_callback(partial(self._opened, target))
        return await asyncio.shield(task)

    def _opened(self, target: Target, task: asyncio.Task[Flow]) -> None:
        del self._opening[target]
        if not task.cancelled():
            task.exception()  # seen, even where nobody waits any more

    def alive(self, flow: Flow) -> bool:
        """Whether :meth:`send` still has a way; always true of UDP."""
        return not flow.connection or flow.connection in self.connections

    def hold(self, flow: Flow, times: int = 1) -> None:
        """Keep the connection open though idle, until that was called with as many ``times`` below 0."""
        if (connection := self.connections.get(flow.connection)) is not None:
            connection.held += times

    # --- UDP ----------------------------------------------------------------------------------------------------

    def _datagrams(self, sock: socket.socket, local: tuple[str, int]) -> None:
        stopped, heard = sys.platform == "linux" and self._read_errors(sock), 0
        for _ in range(BURST):
            try:
                size, remote = sock.recvfrom_into(self._buffer)
            except BlockingIOError:
                break
            except OSError:  # about something we sent earlier
                stopped = True
                continue
            if self.guard.datagram(remote[0], self.loop.time()):
                self.received(bytes(self._buffer[:size]), Flow("udp", local, remote[:2]))
                heard += 1
                if heard == HEARD:
                    break
        if stopped:
            self._read_on(sock, local)

    def _read_errors(self, sock: socket.socket) -> bool:
        """What hosts and routers say of datagrams of ours (ICMP): RFC 3261, 18.4. Whether they said anything."""
        for read in range(BURST):
            try:
                datagram, told, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return read > 0
            if any(struct.unpack_from("=I", one)[0] in UNREACHABLE for _, _, one in told):
                self.unreachable(datagram)
        return True

    def _read_on(self, sock: socket.socket, local: tuple[str, int]) -> None:
        """uvloop reads no more from a socket that reported an error, and calls back once."""
        if self._udp.get(local) is sock:
            self.loop.remove_reader(sock)
            self.loop.add_reader(sock, self._datagrams, sock, local)

    # --- TCP and TLS --------------------------------------------------------------------------------------------

    def _listen(self, sock: socket.socket, kind: str, tls: ssl.SSLContext | None) -> None:
        if sock.fileno() >= 0:
            self.loop.add_reader(sock, self._accept, sock, kind, tls)

    def _accept(self, listening: socket.socket, kind: str, tls: ssl.SSLContext | None) -> None:
        for _ in range(BURST):
            try:
                sock, remote = listening.accept()
            except BlockingIOError:
                return
            except OSError as problem:  # no descriptors left: without a pause we would be called again at once
                logger.warning("sip cannot accept connections now: %s", problem)
                self.loop.remove_reader(listening)
                self.loop.call_later(1, self._listen, listening, kind, tls)
                return
            others = [one.flow.remote[0] for one in self.connections.values() if one.target is None]
            if not self.guard.connection(remote[0], others, self.loop.time()):
                sock.close()
                continue
            sock.setblocking(False)
            connection = Connection(self, kind, remote[:2])
            task = self.loop.create_task(self._greet(connection, sock, tls))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, connection: Connection, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        wait = FIRST_MESSAGE if tls else None
        try:
            await self.loop.connect_accepted_socket(lambda: connection, sock, ssl=tls, ssl_handshake_timeout=wait)
        except BaseException as problem:
            connection.forget()
            if not isinstance(problem, OSError):
                raise
            sock.close()
            self.guard.counters.closed_connections += 1  # no TLS, or none of ours

    async def _connect(self, target: Target) -> Flow:
        context = self._client_context(target) if target.transport == "tls" else None
        family = ":" in target.host
        ours = next((one.host for one in self.settings.bindings if (":" in one.host) == family), None)
        local = None if ours is None or ip_address(ours).is_unspecified else (ours, 0)
        name = (target.tls_name or target.host) if context else None
        connection = Connection(self, target.transport, (target.host, target.port), target)
        try:
            async with asyncio.timeout(CONNECT):
                await self.loop.create_connection(
                    lambda: connection, target.host, target.port, ssl=context, server_hostname=name, local_addr=local
                )
        except BaseException as problem:
            connection.forget()
            if isinstance(problem, ssl.SSLCertVerificationError):
                raise ConnectionError(
                    f"sip: the certificate of {target} is not trusted for {name}: {problem.verify_message}. Use the "
                    "name in it as host, or have the operator add its authority: SipSettings(tls_ca=...)"
                ) from problem
            if isinstance(problem, OSError):
                why = problem.strerror or str(problem) or "no answer"
                raise ConnectionError(f"sip: no connection to {target}: {why}") from problem
            raise
        return connection.flow

    def _client_context(self, target: Target) -> ssl.SSLContext:
        """Names are always checked, but on loopback without an authority: nobody else can be there."""
        checked = self.settings.tls_ca is not None or not ip_address(target.host).is_loopback
        if checked not in self._client_tls:
            context = self._client_tls[checked] = self._context(ssl.Purpose.SERVER_AUTH)
            if not checked:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return self._client_tls[checked]

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        settings = self.settings
        try:
            authority = settings.tls_ca if purpose is ssl.Purpose.SERVER_AUTH else None
            context = ssl.create_default_context(purpose, cafile=authority)
        except OSError as problem:
            raise ConnectionError(f"sip tls_ca {settings.tls_ca} cannot be read: {problem}") from problem
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # the system's policy may allow older ones
        if settings.tls_certificate is not None:
            try:
                context.load_cert_chain(settings.tls_certificate, settings.tls_key)
            except OSError as problem:
                raise ConfigurationError(
                    f"sip tls_certificate {settings.tls_certificate} cannot be used: {problem.strerror or problem}. "
                    "It is a PEM file with the chain, and the key is in it or in tls_key"
                ) from problem
        return context


class Connection(asyncio.Protocol):
    """One TCP or TLS connection, accepted (``target`` None) or ours; on the transport's list from its beginning."""

    def __init__(self, owner: Transport, kind: str, remote: tuple[str, int], target: Target | None = None) -> None:
        self.target = target
        self.flow = Flow(kind, ("", 0), remote, next(owner.numbers))
        self.held = 0
        """How many need it though nothing comes."""
        self._owner = owner
        self._reader = StreamReader()
        self._greeted = target is not None
        self._last = owner.loop.time()
        self._watch: asyncio.TimerHandle | None = None
        owner.connections[self.flow.connection] = self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.flow = replace(self.flow, local=transport.get_extra_info("sockname")[:2])
        self._watch = self._owner.loop.call_later(FIRST_MESSAGE, self._look)

    def data_received(self, data: bytes) -> None:
        owner, address = self._owner, self.flow.remote[0]
        try:
            messages = self._reader.feed(data)
        except SipError:
            owner.guard.counters.malformed += 1
            return self._cut()
        for message in messages:
            if not owner.guard.datagram(address, owner.loop.time()):
                return self._cut()
            if self._transport.is_closing():
                return None  # what came before it ended the connection
            if message == PING:  # no message: who only pings is idle
                self._transport.write(PONG)
            else:
                self._greeted = True
                self._used()
                owner.received(message, self.flow)
        return None

    def send(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionError("the connection is closing")
        if self._transport.get_write_buffer_size() > UNSENT:
            self._transport.abort()
            raise ConnectionError("the peer does not read")
        self._used()
        self._transport.write(data)

    def connection_lost(self, problem: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self.forget()
        self._owner.lost(self.flow)

    def close(self) -> None:
        self._transport.close()

    def forget(self) -> None:
        """Take it from the list."""
        self._owner.connections.pop(self.flow.connection, None)

    def _used(self) -> None:
        if self.target or self._owner.guard.trusts(self.flow.remote[0]):  # a stranger cannot keep his place by talking
            self._last = self._owner.loop.time()

    def _cut(self) -> None:
        self._owner.guard.counters.closed_connections += 1
        self._transport.abort()

    def _look(self) -> None:
        idle = self._owner.loop.time() - self._last
        if not self._greeted or (idle >= IDLE and not self.held):
            self._owner.guard.counters.closed_connections += 1
            return self.close()
        self._watch = self._owner.loop.call_later(IDLE - idle if idle < IDLE else IDLE, self._look)
        return None
