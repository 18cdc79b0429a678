"""The token: fetched once for all who wait, kept until shortly before its end, and its failures are no call's."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from anycarrier import DialRequest, StreamTarget
from anycarrier.errors import AuthenticationFailed, PermissionDenied, ProviderError, ProviderUnavailable, RateLimited
from anycarrier_bandwidth import BandwidthProvider


class Api:
    """A token endpoint that answers from a script, and calls that are always there."""

    def __init__(self, *tokens: httpx.Response | Exception) -> None:
        self.script = list(tokens)
        self.logins: list[httpx.Request] = []
        self.calls: list[httpx.Request] = []
        self.status = 200
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/oauth2/token"):
            self.calls.append(request)
            return httpx.Response(self.status, json={"callId": "c-1", "state": "answered", "direction": "outbound"})
        self.logins.append(request)
        await self.hold.wait()
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def token(value: str = "token-1", **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"access_token": value, "token_type": "Bearer", "expires_in": 3600, **more})


@pytest.fixture
def logged_in(kit: Any) -> Callable[..., tuple[BandwidthProvider, Api]]:
    def make(*tokens: httpx.Response | Exception) -> tuple[BandwidthProvider, Api]:
        api = Api(*tokens)
        http = httpx.AsyncClient(transport=httpx.MockTransport(api))
        return BandwidthProvider(kit.credential(), http), api

    return make


async def test_one_token_serves_all_requests_and_goes_to_the_right_hosts(logged_in: Any) -> None:
    provider, api = logged_in(token())
    for _ in range(3):
        await provider.fetch_call("c-1")
    [login] = api.logins
    assert str(login.url) == "https://api.bandwidth.com/api/v1/oauth2/token"
    assert login.content == b"grant_type=client_credentials"
    assert login.headers["authorization"] == "Basic " + base64.b64encode(b"client:client-secret-0123").decode()
    assert [request.headers["authorization"] for request in api.calls] == ["Bearer token-1"] * 3
    assert {request.url.host for request in api.calls} == {"voice.bandwidth.com"}


async def test_many_who_need_a_token_at_once_wait_for_one_request(logged_in: Any) -> None:
    provider, api = logged_in(token())
    api.hold.clear()
    asked = [asyncio.ensure_future(provider.fetch_call("c-1")) for _ in range(20)]
    while not api.logins:
        await asyncio.sleep(0)
    asked.pop(0).cancel()  # who began it may leave
    api.hold.set()
    assert [call.id for call in await asyncio.gather(*asked)] == ["c-1"] * 19
    assert len(api.logins) == 1


@pytest.mark.parametrize(
    ("told", "fresh_for"), [({"expires_in": 3600}, 3539), ({"expires_in": 90}, 44), ({"expires_in": None}, 3539)]
)
async def test_a_token_is_renewed_before_it_ends(
    logged_in: Any, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], fresh_for: float
) -> None:
    """A minute before, or half way where it lives less than two; an hour where it is not told."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    provider, api = logged_in(token("one", **told), token("two", **told))
    await provider.fetch_call("c-1")
    now += fresh_for
    await provider.fetch_call("c-1")
    assert len(api.logins) == 1
    now += 2
    await provider.fetch_call("c-1")
    assert [request.headers["authorization"] for request in api.calls] == ["Bearer one", "Bearer one", "Bearer two"]


async def test_a_dial_that_a_revoked_token_was_refused_for_is_made_with_a_new_one(
    sandbox: Any, provider: BandwidthProvider, kit: Any
) -> None:
    """Nothing was done with it."""
    request = DialRequest(from_=kit.OURS, to=kit.THEIRS, stream=StreamTarget(url="wss://x/media"), status_url=kit.HOOK)
    await provider.dial(request)
    sandbox.tokens.clear()
    await provider.dial(request)
    assert [r.status for r in sandbox.requests if r.path.endswith("/calls")] == [201, 401, 201]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401, json={"error": "invalid_client", "error_description": "no"}), AuthenticationFailed),
        (httpx.Response(403, json={"error": "access_denied"}), PermissionDenied),
        (httpx.Response(429, json={"error": "slow_down"}), RateLimited),
        (httpx.Response(502, text="<html>client-secret-0123</html>"), ProviderUnavailable),
        (httpx.Response(200, text="<html>"), ProviderUnavailable),
        (httpx.Response(200, json={"token_type": "Bearer"}), ProviderUnavailable),
        (httpx.Response(200, json=[]), ProviderUnavailable),
        (httpx.ReadTimeout("slow"), ProviderUnavailable),
        (httpx.ConnectError("refused"), ProviderUnavailable),
    ],
)
async def test_without_a_token_nothing_is_dialled_and_everybody_is_told_of_his_own_operation(
    logged_in: Any, kit: Any, answer: Any, kind: type[ProviderError]
) -> None:
    provider, api = logged_in(answer)
    request = DialRequest(from_=kit.OURS, to=kit.THEIRS, stream=StreamTarget(url="wss://x/media"), status_url=kit.HOOK)
    both = await asyncio.gather(provider.dial(request), provider.fetch_call("c-1"), return_exceptions=True)
    assert [type(failed) for failed in both] == [kind, kind]
    assert [failed.operation for failed in both] == ["dial", "fetch_call"]  # type: ignore[union-attr]
    assert not api.calls and len(api.logins) == 1
    assert "client-secret-0123" not in f"{both}"
    if isinstance(both[0], ProviderUnavailable):
        assert both[0].sent is False, "no phone can be ringing"


async def test_a_token_that_the_carrier_repeats_is_in_no_error(logged_in: Any) -> None:
    provider, api = logged_in(token("token-0123456789abcdef"))
    await provider.fetch_call("c-1")

    async def echoes(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"type": "x", "description": "not with token-0123456789abcdef"})

    provider._http = httpx.AsyncClient(transport=httpx.MockTransport(echoes))
    with pytest.raises(ProviderError) as refused:
        await provider.fetch_call("c-1")
    assert "not with" in str(refused.value) and "token-0123456789abcdef" not in f"{refused.value} {vars(refused.value)}"


async def test_checking_a_credential_logs_in_anew(sandbox: Any, provider: BandwidthProvider) -> None:
    assert await provider.check_credential() == "9900000"
    assert await provider.check_credential() == "9900000"
    assert [r.path for r in sandbox.requests].count("/api/v1/oauth2/token") == 2
