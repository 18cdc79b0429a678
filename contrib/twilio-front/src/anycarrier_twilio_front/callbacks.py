"""Requests to the bot, signed as Twilio signs them: for documents, action URLs, files to play, and status callbacks.

Only the front's hosts are asked. A connection that cannot be made is tried once more, as Twilio does by default; what
was delivered is never sent again. https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit, urlunsplit

import httpx

from anycarrier.errors import ConfigurationError
from anycarrier.redaction import redact
from anycarrier_twilio.signature import sign

log = logging.getLogger("anycarrier.twilio_front")

CONNECT, TOTAL = 5.0, 15.0
"""Seconds that Twilio gives a connection, and a request with all its redirects."""

LONGEST_DOCUMENT = 64 * 1024
"""Bytes of TwiML that Twilio takes."""

REDIRECTS = 5


class BotError(Exception):
    """What the bot did wrong, with Twilio's code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def shown(url: str) -> str:
    """``url`` as a log may have it: without user, password, query and fragment, and numbers in its path masked."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], redact(parts.path), "", ""))
    except ValueError:
        return "a URL that cannot be read"


def joined(base: str, url: str) -> str:
    """``url`` as it is meant in the document at ``base``; :class:`BotError` for what is none."""
    try:
        return urljoin(base, url)
    except ValueError:
        raise BotError(11100, "Invalid URL format") from None


class Hosts:
    """What may be fetched and dialled: the host of ``voice_url``, and those named. Without a port, at 80 and 443.

    Unencrypted requests go out only where ``voice_url`` is unencrypted too.
    """

    def __init__(self, voice_url: str, named: Iterable[str] = ()) -> None:
        parts = _absolute("voice_url", voice_url)
        if isinstance(named, str) or not isinstance(named, Iterable):
            raise ConfigurationError(f"hosts is a list: write hosts=['bot.example.com'], not {_described(named)}")
        self._plain = parts.scheme == "http"
        # Bots name themselves without the port that they are behind a proxy with.
        self._allowed = {_place(voice_url), (parts.hostname, None), *map(_host, named)}

    def require(self, setting: str, url: str) -> None:
        """``ConfigurationError`` unless ``url``, which a front is made with, may be asked."""
        _absolute(setting, url)
        try:
            self.check(url)
        except BotError as wrong:
            raise ConfigurationError(f"{setting}: {wrong.message}") from None

    def check(self, url: str, code: int = 11200) -> None:
        """Raise :class:`BotError` with ``code`` unless ``url`` may be asked."""
        try:
            scheme, place = urlsplit(url).scheme, _place(url)
        except ValueError:
            raise BotError(11100, "Invalid URL format") from None
        if scheme not in ("https", "wss") and not (self._plain and scheme in ("http", "ws")):
            raise BotError(code, f"the URL scheme {scheme[:16]!r} is not allowed: {shown(url)}")
        host, port = place
        if place not in self._allowed and not (port in (80, 443) and (host, None) in self._allowed):
            raise BotError(code, f"{host}:{port} is not one of the front's hosts: name it in TwilioFront(hosts=...)")


def _absolute(setting: str, url: object) -> SplitResult:
    """``url`` in parts; ``ConfigurationError`` for what is no absolute URL of the web."""
    with contextlib.suppress(ValueError):
        if isinstance(url, str) and (parts := urlsplit(url)).scheme in ("http", "https") and parts.hostname:
            _place(url)  # reads the port
            return parts
    raise ConfigurationError(f"{setting} must be like https://bot.example.com/voice, not {_described(url)}")


def _host(named: object) -> tuple[str, int | None]:
    with contextlib.suppress(ValueError):
        parts = urlsplit(f"//{named}")
        if isinstance(named, str) and parts.hostname and not parts.path and parts.username is None:
            return parts.hostname, parts.port
    raise ConfigurationError(f"hosts are like bot.example.com or 127.0.0.1:5050, not {_described(named)}")


def _described(given: object) -> str:
    """What was given for a URL or a host, as an error may have it."""
    if not isinstance(given, str):
        return "None" if given is None else f"an object of type {type(given).__name__}"
    return "what was given, which may hold a password" if "@" in given else repr(shown(given))


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme in ("https", "wss") else 80)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a URL answered; ``url`` is the one that answered in the end."""

    url: str
    content_type: str
    body: bytes


class BotRequests:
    """The HTTP client to one bot."""

    def __init__(self, auth_token: str, hosts: Hosts) -> None:
        self._auth_token = auth_token
        self._hosts = hosts
        self._client: httpx.AsyncClient | None = None

    async def send(
        self,
        url: str,
        form: Mapping[str, str],
        method: str = "POST",
        *,
        cookies: httpx.Cookies | None = None,
        longest: int = LONGEST_DOCUMENT,
    ) -> Reply:
        """Ask ``url``, following redirects; ``cookies`` are a call's own. Raises :class:`BotError`."""
        try:
            async with asyncio.timeout(TOTAL):
                for _ in range(REDIRECTS):
                    self._hosts.check(url)
                    request = self._request(url, form, method)
                    if cookies is not None:
                        cookies.set_cookie_header(request)
                    response, body = await self._ask(request, longest)
                    if cookies is not None:
                        cookies.extract_cookies(response)
                    if not response.has_redirect_location:
                        break
                    url = joined(url, response.headers["location"])
                    if response.status_code not in (307, 308):
                        method = "GET"
        except TimeoutError:
            raise BotError(11205, f"HTTP connection failure: no answer within {TOTAL:g} s: {shown(url)}") from None
        except httpx.InvalidURL:
            raise BotError(11100, "Invalid URL format") from None
        except httpx.HTTPError as failure:
            raise BotError(11205, f"HTTP connection failure: {type(failure).__name__}: {shown(url)}") from None
        if not response.is_success:
            raise BotError(11200, f"HTTP retrieval failure: status {response.status_code}: {shown(url)}")
        return Reply(url, response.headers.get("content-type", ""), body)

    def _request(self, url: str, form: Mapping[str, str], method: str) -> httpx.Request:
        parts = urlsplit(url)
        query, data = parts.query, None
        if method != "GET":
            data = dict(form)
        elif form:
            query = f"{query}&{urlencode(form)}" if query else urlencode(form)
        url = urlunsplit((parts.scheme, parts.netloc, parts.path or "/", query, ""))  # the fragment is for Twilio
        headers = {"user-agent": "TwilioProxy/1.1", "accept": "*/*", "accept-encoding": "identity"}
        request = self._http.build_request(method, url, data=data, headers=headers)
        # The bot sees no password in its own URL: httpx sends it in a header.
        signed = str(request.url.copy_with(username=None, password=None))
        request.headers["x-twilio-signature"] = sign(signed, form.items() if data is not None else (), self._auth_token)
        return request

    async def _ask(self, request: httpx.Request, longest: int) -> tuple[httpx.Response, bytes]:
        try:
            response = await self._http.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            response = await self._http.send(request, stream=True)
        try:
            if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
                where = shown(str(request.url))
                raise BotError(11200, f"the answer is compressed ({encoding[:16]!r}), which nobody asked for: {where}")
            body = bytearray()
            async for piece in response.aiter_raw():  # what is compressed may be a thousand times as large
                body += piece
                if len(body) > longest:
                    raise BotError(11750, f"the answer is larger than {longest} bytes: {shown(str(request.url))}")
            return response, bytes(body)
        finally:
            await response.aclose()

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            nobodys = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # cookies are a call's, never another's
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(TOTAL, connect=CONNECT), trust_env=False, cookies=nobodys
            )
        return self._client

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()
