"""A token that a carrier's REST API wants, by OAuth2's client credentials grant: one request for all who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from anycarrier.errors import ProviderError, ProviderUnavailable
from anycarrier.parsing import READ_FAILURES, seconds

if TYPE_CHECKING:
    import httpx

    from anycarrier.rest import RestApi

EARLY = 60.0
"""Seconds before its end at which a token is fetched anew; half its life where that is less than two minutes."""

LIFE = 3600.0
"""Seconds a token lives that does not say."""


class ClientCredentials:
    """Fetches a token from ``path`` with ``login`` (RFC 6749, 4.4), and keeps it until shortly before its end.

    A provider's ``__init__`` sets ``self.tokens = ClientCredentials(self, "/oauth2/token", (client_id, secret))``.
    """

    def __init__(self, api: RestApi, path: str, login: tuple[str, str], *, root: str | None = None) -> None:
        self._api, self._path, self._login, self._root = api, path, login, root
        self._good_until = 0.0
        self._fetching: asyncio.Task[httpx.Response] | None = None
        self.token = ""

    @property
    def headers(self) -> Mapping[str, str]:
        """What logs a request in; empty before there is a token."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    def forget(self, token: str) -> None:
        """It was refused before its time: another is fetched, unless one has been."""
        if token == self.token:
            self._good_until = 0.0

    async def have(self, operation: str) -> None:
        """Return once there is a good token."""
        if time.monotonic() >= self._good_until:
            await self.fetch(operation)

    async def fetch(self, operation: str) -> None:
        """A new one. Who comes meanwhile waits for it too, and has an error of its own operation where it fails.

        Without a token nothing of the operation was sent: ``ProviderUnavailable`` says so.
        """
        if self._fetching is None:
            form, where = {"grant_type": "client_credentials"}, {"auth": self._login, "root": self._root}
            asking = self._api.send("POST", self._path, operation="log_in", data=form, **where)  # type: ignore[arg-type]
            self._fetching = asyncio.ensure_future(asking)
            self._fetching.add_done_callback(self._fetched)
        try:
            told = self._api.read(await asyncio.shield(self._fetching), operation)
            lasts = seconds(told.get("expires_in")) or LIFE
            self.token = str(told["access_token"])
            self._good_until = time.monotonic() + max(lasts - EARLY, lasts / 2)
        except (ProviderUnavailable, *READ_FAILURES) as failed:
            why = failed.message if isinstance(failed, ProviderError) else "the answer holds none"
            raise ProviderUnavailable(self._api.name, operation, f"no token: {why}", sent=False) from None

    def _fetched(self, task: asyncio.Task[httpx.Response]) -> None:
        self._fetching = None
        _ = task.cancelled() or task.exception()  # seen, should nobody wait any more
