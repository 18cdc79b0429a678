"""S10: nobody outside says which host we talk to. The service as it stands on the internet, every field with a URL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from running import NUMBERS, SECRETS, Running, agent_server, running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from websockets.asyncio.server import serve as serve_websocket
from websockets.http11 import Response as Upgraded

from anycarrier.testing.live_server import serve

PUBLIC: dict[str, Any] = {"sandbox": False, "local": False, "public_url": "https://voice.example.com"}
INSIDE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "localhost", "[::1]",
    "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "10.0.0.1", "192.168.1.1", "[fd00::1]",
    "user@127.0.0.1", "127.0.0.1\\@example.com",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE)
async def test_s10_no_field_takes_an_inside_address_in_any_spelling(host: str, tmp_path: Path) -> None:
    async with running(tmp_path, **PUBLIC) as at:
        agent = (await at.ask("POST", "/v1/agents", 201, json={"name": "A"}))["id"]
        refused = {
            "agent": await at.http.post("/v1/agents", json={"name": "B", "websocket_url": f"wss://{host}/x"}),
            "agent changed": await at.http.patch(f"/v1/agents/{agent}", json={"websocket_url": f"wss://{host}/x"}),
            "webhook": await at.http.post(
                "/v1/webhooks", json={"name": "w", "url": f"https://{host}/x", "events": ["call.ended"]}
            ),
        }
        for where, answer in refused.items():
            assert answer.status_code in (400, 422), f"{where}: {answer.status_code} {answer.text}"


async def test_s10_a_credential_does_not_say_where_the_carrier_is(tmp_path: Path) -> None:
    """Or verifying it would carry our request, and the carrier's secret, to any host named."""
    async with running(tmp_path, **PUBLIC) as at:
        for provider, secret in SECRETS.items():
            sent = {"name": "x", "provider": provider, "api_key": secret}
            for inside in ("http://169.254.169.254", "https://evil.example.com"):
                answer = await at.http.post("/v1/credentials", json={**sent, "metadata": {"base_url": inside}})
                assert answer.status_code == 422, answer.text
            made = await at.ask("POST", "/v1/credentials", 201, json=sent)
            change = {"metadata": {"base_url": "https://evil.example.com"}}
            assert (await at.http.patch(f"/v1/credentials/{made['id']}", json=change)).status_code == 422


class Names:
    """A resolver with a new mind each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Receiver:
    """Somebody inside, who should hear nothing."""

    def __init__(self, to: str = "") -> None:
        self.to = to
        self.heard: list[str] = []
        self.app = Starlette(routes=[Route("/{rest:path}", self.take, methods=["GET", "POST"])])

    async def take(self, request: Request) -> Response:
        self.heard.append(request.url.path)
        return RedirectResponse(self.to, 307) if self.to else Response()


async def subscribed(at: Running, url: str) -> str:
    sent = {"name": "w", "url": url, "events": ["call.ended"]}
    return str((await at.ask("POST", "/v1/webhooks", 201, json=sent))["id"])


async def test_s10_a_name_that_changes_its_mind_after_the_check_is_refused_at_connecting(tmp_path: Path) -> None:
    inside = Receiver()
    async with running(tmp_path, **PUBLIC) as at, serve(inside.app) as url:
        port = url.rpartition(":")[2]
        names = Names(["93.184.216.34"], ["127.0.0.1"])
        at.service.resources.url_guard._resolve = names
        made = await subscribed(at, f"https://rebinding.example.com:{port}/hook")
        told = await at.http.post(f"/v1/webhooks/{made}/test")
        assert told.status_code == 200 and not told.json()["ok"], told.text
        assert len(names.answers) == 1, "it was looked up again"
        assert inside.heard == []


async def test_s10_the_connection_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    """In local mode, so that there is somebody to reach: the name is looked up once per request and not by others."""
    inside = Receiver()
    async with running(tmp_path) as at, serve(inside.app) as url:
        asked: list[str] = []

        async def names(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"]

        at.service.resources.url_guard._resolve = names
        made = await subscribed(at, f"http://no-such-name.invalid:{url.rpartition(':')[2]}/hook")
        assert (await at.http.post(f"/v1/webhooks/{made}/test")).json()["ok"]
        assert inside.heard == ["/hook"] and asked == ["no-such-name.invalid"] * 2


async def test_s10_a_webhook_follows_no_redirect(tmp_path: Path) -> None:
    inside = Receiver()
    async with serve(inside.app) as there:
        outside = Receiver(there + "/latest/meta-data")
        async with running(tmp_path) as at, serve(outside.app) as url:
            told = await at.ask("POST", f"/v1/webhooks/{await subscribed(at, url + '/hook')}/test")
            assert (told["ok"], outside.heard, inside.heard) == (False, ["/hook"], [])


async def test_s10_an_agents_socket_follows_no_redirect(tmp_path: Path) -> None:
    turned_away = asyncio.Event()

    async with agent_server() as inside:

        def elsewhere(connection: Any, request: Any) -> Upgraded:
            answer: Upgraded = connection.respond(307, "elsewhere")
            answer.headers["Location"] = inside.url
            turned_away.set()
            return answer

        async def nobody(connection: Any) -> None:
            return None

        async with serve_websocket(nobody, "127.0.0.1", 0, process_request=elsewhere) as outside:
            port = outside.sockets[0].getsockname()[1]
            async with running(tmp_path) as at:
                await at.equip("twilio", f"ws://127.0.0.1:{port}/agent")
                rung = await at.ring(NUMBERS["twilio"])
                async with asyncio.timeout(30):
                    await turned_away.wait()
                over = await at.until(
                    f"/v1/calls/{rung['call_id']}", lambda call: call["status"] in ("failed", "completed")
                )
                assert over["duration_seconds"] == 0 and not inside.calls
