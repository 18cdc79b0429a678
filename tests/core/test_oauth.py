"""A token for a carrier's API: one request for all who wait, renewed before its end; its failures are no call's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from anycarrier.credentials import Credential
from anycarrier.errors import AuthenticationFailed, ProviderError, ProviderUnavailable
from anycarrier.oauth import ClientCredentials
from anycarrier.rest import RestApi


class Api(RestApi):
    """An API whose requests want a token."""

    name = "acme"
    base_url = "https://api.acme.example"


class Carrier:
    """Its other end: ``tokens`` are given out in turn, the last one again and again."""

    def __init__(self, *tokens: dict[str, Any] | int) -> None:
        self.tokens, self.logins, self.asked, self.status = list(tokens), 0, [], 200
        self.revoked = ""
        self.open = asyncio.Event()
        self.open.set()
        self.api = Api(Credential(provider="acme"), httpx.AsyncClient(transport=httpx.MockTransport(self.answer)))
        self.api.tokens = ClientCredentials(self.api, "/token", ("id", "secret"), root="https://login.acme.example")

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/token":
            self.asked.append(request.headers["authorization"])
            if request.headers["authorization"] == self.revoked:
                return httpx.Response(401, json={})
            return httpx.Response(self.status, json={"message": f"for {request.headers['authorization']}"})
        assert request.url.host == "login.acme.example" and request.headers["authorization"].startswith("Basic ")
        self.logins += 1
        await self.open.wait()
        told = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        return httpx.Response(told, text="no") if isinstance(told, int) else httpx.Response(200, json=told)

    async def ask(self, operation: str = "fetch_call") -> Any:
        return await self.api.request("GET", "/calls", operation=operation)


async def test_all_who_need_a_token_wait_for_one_and_it_is_kept() -> None:
    carrier = Carrier({"access_token": "one", "expires_in": 3600})
    carrier.open.clear()
    asking = [asyncio.ensure_future(carrier.ask()) for _ in range(9)]
    while not carrier.logins:
        await asyncio.sleep(0)
    asking.pop(0).cancel()
    carrier.open.set()
    await asyncio.gather(*asking)
    await carrier.ask()
    assert (carrier.logins, carrier.asked) == (1, ["Bearer one"] * 9)


async def test_a_token_is_renewed_before_its_end_or_once_it_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    carrier = Carrier(*({"access_token": name, "expires_in": 3600} for name in ("one", "two", "three")))
    await carrier.ask()
    now += 3541
    await carrier.ask()
    carrier.revoked = "Bearer two"
    await asyncio.gather(carrier.ask(), carrier.ask())
    assert carrier.asked[:3] == ["Bearer one", "Bearer two", "Bearer two"]
    assert (carrier.asked.count("Bearer three"), carrier.logins) == (2, 3)


async def test_a_new_token_that_is_refused_is_refused_once_more_and_no_further() -> None:
    carrier = Carrier({"access_token": "one"}, {"access_token": "two"})
    await carrier.ask()
    carrier.status = 401
    with pytest.raises(AuthenticationFailed) as refused:
        await carrier.ask("dial")
    assert carrier.asked == ["Bearer one", "Bearer one", "Bearer two"]
    assert "two" not in f"{refused.value} {vars(refused.value)}", "a token that is repeated is not shown"


@pytest.mark.parametrize("told", [503, {}, {"expires_in": 3600}])
async def test_without_a_token_nothing_was_sent_and_each_has_an_error_of_his_own(told: dict[str, Any] | int) -> None:
    carrier = Carrier(told)
    both = await asyncio.gather(carrier.ask("dial"), carrier.ask("hang_up"), return_exceptions=True)
    assert [(type(failed), failed.operation, failed.sent) for failed in both] == [  # type: ignore[union-attr]
        (ProviderUnavailable, "dial", False),
        (ProviderUnavailable, "hang_up", False),
    ]
    assert (carrier.logins, carrier.asked) == (1, [])


@pytest.mark.parametrize("lasts", ["nan", "inf", "soon", None, 0, -5, [], 1e300])
async def test_an_end_that_is_none_counts_as_an_hour(lasts: Any) -> None:
    carrier = Carrier({"access_token": "one", "expires_in": lasts})
    await carrier.ask()
    await carrier.ask()
    assert carrier.logins == 1


async def test_a_wrong_secret_is_told_as_such() -> None:
    with pytest.raises(ProviderError) as refused:
        await Carrier(401).ask()
    assert type(refused.value) is AuthenticationFailed
