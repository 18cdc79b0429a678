"""Connecting to where a client told us to: webhooks, agents' sockets. The guard against being sent inside (SSRF).

A URL is checked when it is given *and* each time it is used: the host is resolved here, every address it has must be
a public one, and the connection goes to the very address that was checked, so a name cannot change its mind in
between. Certificates are still checked against the name. Redirects are not followed: they would go unchecked.

In local mode (nobody else can reach us) loopback is allowed, over http and ws too.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import httpx

from anycarrier.networks import LOOPBACK, Address, in_networks, is_public
from anycarrier_server.refusals import HostUnknown, UrlRefused

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.%]+[\w]*")
"""A name or an IPv6 address; percent signs in names are for hiding things."""

RESOLVERS = ThreadPoolExecutor(256, "resolve a client's host")
"""Threads of their own, made when needed: a name whose servers never answer holds one for many seconds, and the event
loop's few are needed for the carriers' names."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect: ``address`` and ``port``; ``host`` is the name for TLS and the Host header."""

    url: str
    scheme: str
    host: str
    port: int
    address: str


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a name; empty when it has none."""
    try:
        look = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(RESOLVERS, look)
    except (socket.gaierror, UnicodeError):
        return []
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class UrlGuard:
    """The guard. ``local`` allows this machine; ``allow`` are private networks (CIDR) allowed all the same."""

    def __init__(self, *, local: bool = False, allow: Sequence[str] = (), resolve: Resolve = resolve) -> None:
        self._allow = tuple(ip_network(net) for net in allow)
        self._permitted = (*self._allow, *(LOOPBACK if local else ()))
        self._resolve = resolve

    async def webhook(self, url: str) -> Target:
        """Check an ``https`` URL (``http`` on this machine in local mode); ``UrlRefused`` says why not."""
        return await self._check(url, secure="https", plain="http")

    async def websocket(self, url: str) -> Target:
        """Check a ``wss`` URL (``ws`` on this machine in local mode).

        Connect to ``target.address`` and ``target.port`` with ``server_hostname=target.host``; send the URL's own
        path and query.
        """
        return await self._check(url, secure="wss", plain="ws")

    def client(self, *, timeout: float) -> httpx.AsyncClient:
        """A client for webhooks: guarded, and without cookies, environment proxies or redirects."""
        # The sender limits the connections, fairly by workspace; a limit here would be first come, first served.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        transport = GuardedTransport(self, httpx.AsyncHTTPTransport(retries=0, trust_env=False, limits=limits))
        return httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)

    async def _check(self, url: str, *, secure: str, plain: str) -> Target:
        scheme, host, port = split(url, secure, plain)
        plainly = as_address(host)
        # A trailing dot is the same name to DNS and another one to lists.
        addresses = [str(plainly)] if plainly is not None else await self._resolve(host.rstrip("."), port)
        if not addresses:
            raise HostUnknown(f"{host} has no address")
        # All of them, or a name with one good and one bad address would get in on a second try.
        for address in addresses:
            if not is_public(address) and not in_networks(address, self._permitted):
                raise UrlRefused(f"{host} is a private or reserved address")
            if scheme == plain and not in_networks(address, (*LOOPBACK, *self._allow)):
                raise UrlRefused(f"it must be {secure}, {plain} is for this machine only")
        return Target(url, scheme, host, port, addresses[0])


def split(url: str, secure: str, plain: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL fit to be called; ``UrlRefused`` when it is not, or is built to be misread."""
    if not url.isascii() or any(c <= " " or c in "\\\x7f" for c in url):
        raise UrlRefused("it holds spaces, backslashes or characters that are not ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UrlRefused("it is not a URL") from None
    scheme = parts.scheme.lower()
    if scheme not in (secure, plain):
        raise UrlRefused(f"it must start with {secure}://")
    if "@" in parts.netloc:
        raise UrlRefused("it holds a user name")
    if not host or len(host) > 253 or port == 0 or not HOST.fullmatch(host):
        raise UrlRefused("it has no proper host")
    return scheme, host, port or (443 if scheme == secure else 80)


def as_address(host: str) -> Address | None:
    """The address ``host`` spells, None when it is a name.

    ``UrlRefused`` for every other way to write one that some resolver understands: decimal (2130706433), octal
    (0177.0.0.1), hex (0x7f.1), short (127.1), with a zone (fe80::1%eth0).
    """
    if ":" in host:
        if "%" in host:
            raise UrlRefused("its address has a zone")
        try:
            return ip_address(host)
        except ValueError:
            raise UrlRefused("its address is not one") from None
    bare = host.removesuffix(".")
    last = bare.rpartition(".")[2]
    # What ends in a number is an address to browsers and to getaddrinfo, never a name.
    if not last.isdigit() and not _is_hex(last):
        return None
    try:
        address = ip_address(bare)
    except ValueError:
        raise UrlRefused("its address is in disguise; write it as four decimal numbers") from None
    return address


def _is_hex(label: str) -> bool:
    return label.lower().startswith("0x") and all(c in "0123456789abcdef" for c in label[2:].lower())


class GuardedTransport(httpx.AsyncBaseTransport):
    """Checks every request's URL and sends it to the address that was checked."""

    def __init__(self, guard: UrlGuard, inner: httpx.AsyncBaseTransport) -> None:
        self._guard = guard
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target = await self._guard.webhook(str(request.url))
        # The Host header was written from the name when the request was made, and stays; so does TLS's name.
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=target.address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": target.host},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        await self._inner.aclose()
