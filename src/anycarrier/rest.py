"""A carrier's REST API: one request, one typed error, never a retry. JSON or XML in the answer, JSON or forms to it.

:class:`RestApi` is a part of :class:`anycarrier.provider.Provider`. What a carrier calls its errors is a table:

>>> class AcmeProvider(Provider):
...     error_types = {"no_funds": InsufficientFunds, "geo": Meaning(PermissionDenied, "Allow the country first.")}
...     error_words = ((r"^409 .*\\bnot in service", NumberRejected),)
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar
from urllib.parse import urljoin, urlsplit
from xml.etree.ElementTree import Element

from anycarrier.credentials import Credential
from anycarrier.errors import (
    ConfigurationError,
    MalformedMessage,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    RequirementsMissing,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.markup import read_xml
from anycarrier.numbers import NumberRequirement
from anycarrier.oauth import ClientCredentials
from anycarrier.parsing import READ_FAILURES, explain
from anycarrier.redaction import redact
from anycarrier.refusals import Meaning, of_status, read_refusal

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

MOST_PAGES = 1000
"""Pages of one list that :meth:`RestApi.pages` turns; a carrier that has more of them is going in circles."""

UNEXPECTED = "The {provider} plugin expects another answer: report this to its author, or correct the plugin."
"""The next step where the carrier answered, and the plugin could not read it."""


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` without those that are not set: None, "" and empty lists. False and 0 are values."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], (), {})}


class RestApi:
    """How a provider asks its carrier."""

    name: ClassVar[str]
    """What credentials, URLs and users call the carrier: lower case, ``a-z0-9_-``."""

    base_url: ClassVar[str] = ""
    """Root of the carrier's REST API; :meth:`request` joins paths to it. A credential field ``base_url`` wins."""

    timeout: ClassVar[float] = 15.0
    """Seconds for any one request."""

    error_types: ClassVar[Mapping[str, type[ProviderError] | Meaning]] = {}
    """Carrier code -> the error it means, where the HTTP status alone does not tell."""

    error_words: ClassVar[Sequence[tuple[str, type[ProviderError] | Meaning]]] = ()
    """The same by a pattern in ``STATUS CODE words`` (``-`` for no code): where there are no codes, or one has several
    meanings. The first that is found counts, before :attr:`error_types`; upper and lower case are one."""

    retry_after_headers: ClassVar[Sequence[str]] = ("retry-after",)
    """Headers in which the carrier says how many seconds to wait; the first one that has a number counts."""

    requirement_codes: ClassVar[Mapping[str, NumberRequirement]] = {}
    """Carrier code -> what a regulated number lacks; such a refusal is ``RequirementsMissing``."""

    id_pattern: ClassVar[str] = r"[A-Za-z0-9_-][A-Za-z0-9_.:~=@-]{0,255}"
    """What ids of the carrier's look like, for :meth:`path_id`: nothing that could leave its place in a path."""

    reads_xml: ClassVar[bool] = False
    """True where the carrier answers in XML too: :meth:`request` then returns the root element."""

    def __init__(self, credential: Credential, http: httpx.AsyncClient | None = None) -> None:
        """``http`` is the shared client; without one, a client of its own is made on first use."""
        self.credential = credential
        self.tokens: ClientCredentials | None = None
        """Set it where the API takes a bearer token of OAuth2's: then requests have one."""
        self._http = http

    # --- who asks -------------------------------------------------------------------------------------------------

    def auth(self) -> httpx.Auth | tuple[str, str] | None:
        """Login for :meth:`request`: an httpx auth or a (user, password) pair. Default: none."""
        return None

    def headers(self) -> Mapping[str, str]:
        """Headers :meth:`request` sends along. Default: the token of :attr:`tokens`."""
        return self.tokens.headers if self.tokens is not None else {}

    async def log_in(self, operation: str) -> None:
        """Have ready what :meth:`headers` sends, where that is a token which is fetched first. :meth:`request` awaits
        this before each request, but for one with an ``auth`` of its own, such as the request for the token. Keep the
        token until shortly before it expires, and let one task at a time fetch it.

        What fails here is an error of ``operation``. Where nothing came back, nothing of ``operation`` itself was sent:
        raise ``ProviderUnavailable(..., sent=False)``. Default: what :attr:`tokens` needs.
        """
        if self.tokens is not None:
            await self.tokens.have(operation)

    @property
    def http(self) -> httpx.AsyncClient:
        """The shared HTTP client: one pool, one timeout policy, no retries."""
        if self._http is None:
            import httpx

            self._http = httpx.AsyncClient(timeout=self.timeout)
        return self._http

    def unsupported(self, operation: str, detail: str = "") -> UnsupportedOperation:
        """The error to raise for what the carrier cannot be asked."""
        return UnsupportedOperation(self.name, operation, detail)

    def word(self, operation: str, table: Mapping[Any, T], value: Any) -> T:
        """The carrier's word for ``value``; ``UnsupportedOperation`` when ``table`` has none."""
        if value not in table:
            raise self.unsupported(operation, f"{value} is not among {', '.join(map(str, table))}")
        return table[value]

    def path_id(self, operation: str, text: object) -> str:
        """``text`` if it can be an id, which becomes part of a path, unquoted; ``NotFound`` for what is none."""
        if not isinstance(text, str) or not re.fullmatch(self.id_pattern, text):
            raise NotFound(self.name, operation, f"that is no id of {self.name}'s")
        return text

    # --- requests -------------------------------------------------------------------------------------------------

    async def send(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        content: bytes | str | None = None,
        params: Any = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | tuple[str, str] | None = None,
        root: str | None = None,
        follow_redirects: bool = False,
    ) -> httpx.Response:
        """:meth:`request`, with the answer as it came, whatever its status; typed error when there is none.

        A request that a token was refused for (401) goes out once more with a new one, unless that token was new.
        """
        import httpx

        if extra:
            if json is not None:
                json = {**json, **extra}
            elif data is not None:
                data = {**data, **extra}
            else:
                params = {**(params or {}), **extra}
        sent: dict[str, Any] = {"json": json, "data": data, "content": content, "params": params}
        url = self._url(path, root, operation)
        tokens, again = self.tokens if auth is None else None, True
        while True:
            before = tokens.token if tokens is not None else ""
            if auth is None:
                await self.log_in(operation)
            told = {**self.headers(), **(headers or {})}
            used = tokens.token if tokens is not None else ""
            try:
                response = await self.http.request(
                    method, url, headers=told, auth=auth or self.auth(), timeout=self.timeout,
                    follow_redirects=follow_redirects, **sent,
                )  # fmt: skip
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
                self.unanswered(operation, failure)
            if tokens is None or response.status_code != 401 or not again or not used or used != before:
                return response
            # A token of earlier on, refused before its time: with 401 nothing was done, so once more with a new one.
            tokens.forget(used)
            again = False

    async def request(self, method: str, path: str, *, operation: str, **request: Any) -> Any:
        """One request to the carrier's REST API, one typed error if it fails, never a retry. None for an empty body.

        The body is ``json``, ``data`` (a form; a list is a key that is repeated) or ``content``. ``extra`` is merged
        last into whichever of ``json``, ``data``, ``params`` is given. ``headers`` and ``auth`` count before the
        provider's own. ``root`` is another host of the carrier's; a credential's ``base_url`` stands for all of them.
        """
        return self.read(await self.send(method, path, operation=operation, **request), operation)

    async def ask(self, into: Callable[[Any], T], method: str, path: str, *, operation: str, **request: Any) -> T:
        """:meth:`request`, with the answer read by ``into``; ``UnreadableResponse`` names the field it failed on."""
        return self.translate(operation, into, await self.request(method, path, operation=operation, **request))

    def translate(self, operation: str, into: Callable[..., T], *parts: Any) -> T:
        """``into(*parts)``, for parts of an answer; ``UnreadableResponse`` names the field it failed on."""
        try:
            return into(*parts)
        except (*READ_FAILURES, MalformedMessage) as failure:
            # Not chained: a validation error quotes what it read. The first frame of the traceback is this one.
            trace = failure.__traceback__.tb_next if failure.__traceback__ is not None else None
            problem = f"the body has another shape than expected: {explain(failure, trace)}"
            raise self.unreadable(operation, problem) from None

    async def download(self, url: str, *, operation: str, login: bool = False) -> bytes:
        """The file at ``url``, redirects followed. ``login`` is for files of the API itself, on its own host only.

        A link that is signed is for whoever holds it: the store it leads to is not given our login.
        """
        import httpx

        try:
            if login:
                answer = await self.send("GET", url, operation=operation, follow_redirects=True)
            else:
                answer = await self.http.get(url, timeout=self.timeout, follow_redirects=True)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
            self.unanswered(operation, failure)
        return self.file(answer, operation)

    async def pages(
        self, ask: Callable[[T], Awaitable[Any]], first: T, after: Callable[[Any, T], T | None], *, operation: str
    ) -> list[Any]:
        """The bodies of all pages of a list: ``ask(page)`` fetches one, ``after(body, page)`` says which follows.

        ``UnreadableResponse`` when the pages do not end.
        """
        bodies: list[Any] = []
        page: T | None = first
        while page is not None:
            if len(bodies) == MOST_PAGES:
                raise self.unreadable(operation, f"a list of more than {MOST_PAGES} pages")
            body = await ask(page)
            bodies.append(body)
            following = after(body, page)
            if following == page:
                raise self.unreadable(operation, "a page that is its own next one")
            page = following
        return bodies

    async def listed(
        self,
        path: str,
        rows: str,
        *,
        operation: str,
        params: Mapping[str, Any] | None = None,
        after: Callable[[Any, Mapping[str, Any]], Mapping[str, Any] | str | None],
        **request: Any,
    ) -> list[dict[str, Any]]:
        """Every row of a list that comes in pages, under the key ``rows``.

        ``after(body, params)`` gives what the next page is asked with: other params, a path or URL of the API (its
        query included), or None at the end.
        """

        def ask(page: Mapping[str, Any] | str) -> Awaitable[Any]:
            where, query = (page, None) if isinstance(page, str) else (path, page)
            return self.request("GET", where, operation=operation, params=query, **request)

        def following(body: Any, page: Mapping[str, Any] | str) -> Mapping[str, Any] | str | None:
            try:
                return after(body, {} if isinstance(page, str) else page)
            except READ_FAILURES:
                raise self.unreadable(operation, "no telling which page follows") from None

        first: Mapping[str, Any] | str = {**(params or {})}
        bodies = await self.pages(ask, first, following, operation=operation)
        return [row for body in bodies for row in self.rows(body, rows, operation)]

    def rows(self, body: Any, key: str, operation: str) -> list[dict[str, Any]]:
        """The list of objects under ``key``; an answer that says nothing at all (``{}``) is an empty one."""
        found = body.get(key) if isinstance(body, dict) else None
        if found is None and (body is None or (isinstance(body, dict) and not any(body.values()))):
            return []
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise self.unreadable(operation, f"no {key} list in the answer")
        return found

    def _url(self, path: str, root: str | None, operation: str) -> str:
        """Where ``path`` is: a path of the API's, or what a page names as the next, which stays on the API's host."""
        root = (getattr(self.credential, "base_url", None) or root or self.base_url).rstrip("/")
        if not path.startswith(("http://", "https://")):
            if not path.startswith("/"):  # joined to a host it could make another one of it
                raise self.unreadable(operation, "a page that is no path of the API's")
            prefix = urlsplit(root).path
            return urljoin(root, path) if prefix and path.startswith(f"{prefix}/") else root + path
        if urlsplit(path)[:2] != urlsplit(root)[:2]:
            raise self.unreadable(operation, "a link to another host, which is not given our login")
        return path

    # --- answers --------------------------------------------------------------------------------------------------

    def read(self, response: httpx.Response, operation: str) -> Any:
        """The JSON (or XML, where :attr:`reads_xml`) of a carrier's answer, or the typed error it stands for."""
        body, readable = _decoded(response)
        if response.status_code >= 400:
            code, text = self.error_detail(body) if body is not None else (None, response.text[:400])
            raise self.error(operation, response.status_code, code=code, message=text, headers=response.headers)
        if response.status_code >= 300:
            raise self.unreadable(operation, "a redirect, which an API does not send", status=response.status_code)
        if not readable or (isinstance(body, Element) and not self.reads_xml):
            wanted = "neither JSON nor XML" if self.reads_xml else "not JSON"
            raise UnreadableResponse(self.name, operation, f"the body is {wanted}", status=response.status_code)
        return body

    def file(self, response: httpx.Response, operation: str) -> bytes:
        """The bytes of a carrier's answer, or the typed error it stands for."""
        if response.status_code != 200:
            self.read(response, operation)
            raise self.unreadable(operation, "no file came", status=response.status_code)
        return response.content

    def unreadable(self, operation: str, problem: str, *, status: int | None = None) -> UnreadableResponse:
        """The error for an answer of another shape than the plugin expects."""
        advice = None if operation == "dial" else UNEXPECTED.format(provider=self.name)
        return UnreadableResponse(self.name, operation, problem, status=status, next_step=advice)

    # --- refusals -------------------------------------------------------------------------------------------------

    def error_detail(self, body: Any) -> tuple[str | None, str]:
        """The carrier's (code, words) out of a decoded error body; override for a shape that is not read here.

        Read are flat objects, RFC 9457's, one or several of them under ``errors`` or ``error``, and XML with ``Code``
        or ``ErrorCode`` and ``Message`` or ``Description``. The first code counts; all words are kept.
        """
        return read_refusal(body)

    def error(
        self,
        operation: str,
        status: int | None,
        *,
        code: str | None = None,
        message: str = "",
        headers: Mapping[str, str] | None = None,
        kind: type[ProviderError] | None = None,
        next_step: str | None = None,
    ) -> ProviderError:
        """The typed error for a carrier's answer; overrides that know more give ``kind`` and ``next_step``."""
        token = (self.tokens.token,) if self.tokens is not None and self.tokens.token else ()
        message = redact(message, (*self.credential.secrets(), *token))
        lacking = self.requirement_codes.get(code or "")
        meant = Meaning(kind) if kind else self.meaning(status, code, message)
        kind = meant.error or (RequirementsMissing if lacking else of_status(status))
        told: dict[str, Any] = {"status": status, "code": code, "next_step": next_step or meant.next_step}
        if issubclass(kind, RateLimited):
            told["retry_after"] = self.retry_after(headers or {})
        if issubclass(kind, RequirementsMissing) and lacking:
            told["requirements"] = [lacking]
        return kind(self.name, operation, message, **told)

    def meaning(self, status: int | None, code: str | None, message: str) -> Meaning:
        """What a refusal means, by the tables; override it where they do not say. ``message`` shows no number."""
        said = f"{status} {code or '-'} {message}"
        words = (each for pattern, each in self.error_words if re.search(pattern, said, re.IGNORECASE | re.DOTALL))
        meant = next(words, None) or self.error_types.get(code or "")
        return meant if isinstance(meant, Meaning) else Meaning(meant)

    @contextmanager
    def tolerating(self, *those: int | str) -> Iterator[None]:
        """``with self.tolerating(404, "21220"): ...``: a refusal with one of these statuses or codes is success.

        For what is done already: a call that is over needs no hang-up.
        """
        try:
            yield
        except RequestRejected as refusal:
            if refusal.status not in those and refusal.code not in those:
                raise

    def unanswered(self, operation: str, failure: Exception) -> NoReturn:
        """Raise the typed error for a request that got no answer; ``failure`` is what ``httpx`` raised over it.

        ``ValueError``: the request could not be written.
        """
        import httpx

        # h11 looks at the headers before it writes the first byte; its other complaints come later.
        illegal = isinstance(failure, httpx.LocalProtocolError) and str(failure).startswith("Illegal header")
        if illegal or isinstance(failure, ValueError | httpx.InvalidURL | httpx.UnsupportedProtocol):
            raise ConfigurationError(
                f"{self.name} {operation} was not sent: the request cannot be written ({type(failure).__name__}). "
                "Check the credential: a key, an id or base_url holds characters that do not belong there"
            ) from None  # what it would quote is whole headers, keys and all
        words = f"{type(failure).__name__}: {redact(str(failure), self.credential.secrets())}".rstrip(": ")
        # https://www.python-httpx.org/exceptions/: these come before the request is handed to a connection.
        if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
            raise ProviderUnavailable(self.name, operation, words, sent=False) from failure
        raise self.error(operation, None, message=words) from failure

    def retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Seconds to wait that a 429 names, None when it names none."""
        for name in self.retry_after_headers:
            with suppress(ValueError):
                return max(0.0, float(headers.get(name, "")))
        return None

def _decoded(response: httpx.Response) -> tuple[Any, bool]:
    """(value, whether it could be read) of a body in JSON or XML; None for an empty one."""
    body = response.content
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind in ("application/xml", "text/xml") or body.startswith(b"<?xml"):
            return read_xml(body), True
        return (response.json() if body else None), True
    except (ValueError, RecursionError, MalformedMessage):
        return None, not body
