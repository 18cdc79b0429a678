"""Bandwidth's REST API: one token for all who wait for it, XML beside JSON, what its refusals mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from xml.etree.ElementTree import Element

import httpx

from anycarrier import errors
from anycarrier.markup import Markup, document, element
from anycarrier.parsing import READ_FAILURES
from anycarrier.provider import Provider
from anycarrier.redaction import redact
from anycarrier.refusals import Meaning
from anycarrier_bandwidth.credential import BandwidthCredential

API = "https://api.bandwidth.com"
XML = {"accept": "application/xml", "content-type": "application/xml"}
EARLY = 60.0
"""Seconds before its end at which a token is fetched anew."""

GONE = ("5005", "5018", "5071")
"""Codes of a number that is not for sale any more."""


def tree(name: str, fields: Mapping[str, Any]) -> Markup:
    """An element of elements: text, or fields of their own, by name."""
    parts = (tree(key, each) if isinstance(each, Mapping) else element(key, {}, each) for key, each in fields.items())
    return element(name, {}, *parts)


def text(root: Element, *names: str) -> str:
    """The text of the first element of one of these names, anywhere; "" when there is none."""
    return next((found for name in names for each in root.iter(name) if (found := (each.text or "").strip())), "")


class BandwidthApi(Provider):
    """How Bandwidth is asked."""

    credential: BandwidthCredential
    base_url = "https://voice.bandwidth.com"
    reads_xml = True
    error_types: ClassVar[Mapping[str, type[errors.ProviderError] | Meaning]] = {
        **dict.fromkeys(GONE, errors.NumberUnavailable),
        **dict.fromkeys(("5012", "5051"), errors.PermissionDenied),
        "12512": errors.NumberRejected,
    }
    error_words = (
        (r"^400 .*\bInvalid (to|from)\b", errors.NumberRejected),
        (r"^409 .*\bHTTP voice feature", Meaning(errors.PermissionDenied, "Ask Bandwidth to enable HTTP voice.")),
    )

    def __init__(self, credential: BandwidthCredential, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(credential, http)
        self._token, self._good_until = "", 0.0
        self._fetching: asyncio.Task[httpx.Response] | None = None

    def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    async def log_in(self, operation: str) -> None:
        if time.monotonic() >= self._good_until:
            await self.fetch_token(operation)

    async def fetch_token(self, operation: str) -> None:
        """One request at a time: who comes meanwhile waits for it, and has an error of its own where it fails."""
        if self._fetching is None:
            login = self.credential.client_id, self.credential.client_secret.get_secret_value()
            form, path = {"grant_type": "client_credentials"}, "/api/v1/oauth2/token"
            asking = self.send("POST", path, operation="log_in", data=form, auth=login, root=API)
            self._fetching = asyncio.ensure_future(asking)
            self._fetching.add_done_callback(self._fetched)
        try:
            told = self.read(await asyncio.shield(self._fetching), operation)
            lasts = float(told.get("expires_in") or 3600)
            self._token, self._good_until = str(told["access_token"]), time.monotonic() + max(lasts - EARLY, lasts / 2)
        except (errors.ProviderUnavailable, *READ_FAILURES) as failed:
            why = failed.message if isinstance(failed, errors.ProviderError) else "the answer holds none"
            raise errors.ProviderUnavailable(self.name, operation, f"no token: {why}", sent=False) from None

    def _fetched(self, task: asyncio.Task[httpx.Response]) -> None:
        self._fetching = None
        _ = task.cancelled() or task.exception()  # seen, should nobody wait any more

    def read(self, response: httpx.Response, operation: str) -> Any:
        if response.status_code == 401:
            self._good_until = 0.0  # revoked before its time: the next request logs in anew
        return super().read(response, operation)

    def error_detail(self, body: Any) -> tuple[str | None, str]:
        code, words = super().error_detail(body)
        return code, redact(words, (self._token,)) if self._token else words

    def at(self, rest: str) -> str:
        """A path of the account."""
        return f"/api/v2/accounts/{self.credential.account_id}/{rest}"

    async def xml(self, operation: str, method: str, path: str, sent: Markup | None = None, **request: Any) -> Element:
        """A request in XML of the numbers API, and the root of its answer; an empty answer is an empty element."""
        body = document(sent) if sent is not None else None
        root = await self.request(method, path, operation=operation, content=body, headers=XML, root=API, **request)
        if not isinstance(root, Element | None):
            raise self.unreadable(operation, "the answer is no XML")
        return Element("Nothing") if root is None else root
