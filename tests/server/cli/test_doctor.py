"""``anycarrier doctor``: what is well is said to be, what is not is found, and what can be mended is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from anycarrier.testing.live_server import serve
from anycarrier_server.cli import diagnostic_commands as doctor_module
from anycarrier_server.domain import check_setup
from server.cli.town import ADMIN, Run, Served

OURS = {"twilio": "+14155550100", "telnyx": "+14155550111"}


async def found(run: Run, *words: str, expect: int = 0) -> dict[tuple[str, str], Any]:
    """What doctor says, by what was looked at."""
    said = (await run("doctor", "--json", *words, expect=expect)).json
    assert said["ok"] is (expect == 0)
    return {(one["check"], one["name"]): one for one in said["items"]}


@pytest.fixture(params=["twilio", "telnyx"])
async def number(request: pytest.FixtureRequest, served: Served, run: Run) -> str:
    await run("agents", "add", "Aria", "--handler", "listen")
    ours = OURS[request.param]
    await run("numbers", "register", ours, "--agent", "aria", "--credential", f"{request.param} sandbox")
    return ours


async def move_webhooks(served: Served, number: str) -> None:
    """Somebody points the number elsewhere, at the carrier itself."""
    line = await served.service.store.lines.by_number(number)
    assert line is not None
    provider = await served.service.exchange.switchboard.provider(str(line.credential_id))
    done = await provider.configure_number(number, webhook_url="https://elsewhere.example.com/hook")
    assert done.ok and done.changed


async def test_all_is_well_with_a_number_in_service(number: str, run: Run, served: Served) -> None:
    items = await found(run)
    assert items["server", served.url]["ok"] and items["clock", "server"]["ok"]
    assert items["number", number]["found"] == "its calls come here"
    assert [one["ok"] for (check, _), one in items.items() if check == "webhook"] == [True]
    assert all(items["login", f"{name} sandbox"]["ok"] for name in OURS)
    assert all(items["clock", name]["ok"] for name in OURS)


async def test_nothing_is_said_of_webhooks_and_clocks_where_calls_come_to_sockets(served: Served, run: Run) -> None:
    details = ("preset=pbx", "username=201", "numbers=+14155550120")
    await run("credentials", "add", "trunk", "--provider", "sip", "--api-key", "a-password", *details)
    await run("agents", "add", "Aria", "--handler", "listen")
    await run("numbers", "register", "+14155550120", "--agent", "aria", "--credential", "trunk")
    items = (await run("doctor", "--json")).json["items"]
    said = [one for one in items if one["check"] == "number"]
    assert [one["found"] for one in said] == ["its calls come to sockets of this service"]
    assert not [one for one in items if one["check"] == "webhook" or (one["check"], one["name"]) == ("clock", "sip")]
    assert "carrier        sip: its calls come to sockets of this service" in (
        await run("route", "explain", "+14155550120", "--from", "+12125550123")
    ).out


async def test_drift_is_found_and_only_offered_to_be_mended(number: str, run: Run, served: Served) -> None:
    await move_webhooks(served, number)
    said = await run("doctor", expect=1)
    assert f"NO  number   {number}: the carrier's settings are not ours" in said.out and "--fix" in said.err
    asked = await run("doctor", "--fix", expect=1)
    assert "say --yes" in asked.err and "mended" not in asked.out, "nobody answers, so nothing is changed"
    assert (await found(run, expect=1))["number", number]["drift"]


async def test_drift_is_mended_when_told_to(number: str, run: Run, served: Served) -> None:
    await move_webhooks(served, number)
    assert "    mended" in (await run("doctor", "--fix", "--yes")).out
    assert (await found(run))["number", number]["ok"] is True


async def test_asking_changes_nothing_at_the_carrier(number: str, run: Run, served: Served) -> None:
    await move_webhooks(served, number)
    first = (await found(run, expect=1))["number", number]
    assert first == (await found(run, expect=1))["number", number]


async def test_a_revoked_login_is_found(run: Run, served: Served) -> None:
    await run("credentials", "add", "mine", "--provider", "telnyx", "--api-key", "KEY-that-is-wrong")
    said = await run("doctor", expect=1)
    assert "NO  login    mine: " in said.out and "KEY-that-is-wrong" not in said.out + said.err


async def test_an_incomplete_credential_says_what_it_lacks(run: Run, served: Served) -> None:
    await run("credentials", "add", "mine", "--provider", "twilio", "--api-key", "a-token-of-twenty-letters")
    assert "account_sid" in (await found(run, expect=1))["login", "mine"]["found"]


async def test_a_wrong_clock_is_found(run: Run, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    now = check_setup.utc_now
    monkeypatch.setattr(check_setup, "utc_now", lambda: now() + timedelta(minutes=5))
    item = (await found(run, expect=1))["clock", "twilio"]
    assert item["ok"] is False and "ahead of twilio" in item["found"] and "NTP" in item["found"]


async def test_an_agents_key_is_told_from_an_admins(number: str, run: Run) -> None:
    key = (await run("keys", "create", "bot", "--agent", "aria")).out.splitlines()[0]
    said = await run("doctor", "--key", key, expect=1)
    assert "NO  key      bot: an agent's key" in said.out


async def test_a_wrong_key_and_no_server_are_findings(run: Run, served: Served) -> None:
    assert "NO  key" in (await run("doctor", "--key", "wrong", expect=1)).out
    said = await run("doctor", "--url", "http://127.0.0.1:9", expect=1)
    assert "NO  server   http://127.0.0.1:9: no answer" in said.out and ADMIN not in said.out + said.err


async def answers(status: int, echo: bool, told: bytes = b"hello") -> Any:
    """An app that answers everything alike; ``echo`` like an anycarrier, with the caller's request id."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = [(b"x-request-id", value) for name, value in scope["headers"] if echo and name == b"x-request-id"]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": told})

    return app


@pytest.mark.parametrize(
    ("status", "echo", "ok", "told"),
    [
        (403, True, True, "refused"),
        (403, False, False, "somebody else answers there (403)"),
        (200, False, False, "somebody else answers there (200)"),
        (404, True, False, "does not know the credential"),
        (200, True, False, "must be refused"),
    ],
)
async def test_a_webhook_address_must_lead_to_this_service(status: int, echo: bool, ok: bool, told: str) -> None:
    async with serve(await answers(status, echo)) as url:
        finding = await doctor_module._knock(f"{url}/acme/crd_1")
    assert finding.ok is ok and told in finding.found


async def test_an_address_nobody_answers_is_found() -> None:
    finding = await doctor_module._knock("http://127.0.0.1:9/acme/crd_1")
    assert finding.ok is False and "public URL" in finding.found


async def test_what_is_no_anycarrier_is_not_taken_for_one(run: Run) -> None:
    async with serve(await answers(200, False)) as url:
        said = await run("doctor", "--url", url, "--key", "x", expect=1)
    assert "is no anycarrier" in said.out


async def test_every_number_is_looked_at_once_page_by_page(
    number: str, run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = (await run("numbers", "show", number, "--json")).json["credential_id"]
    for last in range(3):
        await run("numbers", "register", f"+1415555015{last}", "--agent", "aria", "--credential", account)
    monkeypatch.setattr(doctor_module, "AT_A_TIME", 3)
    items = (await run("doctor", "--json")).json["items"]
    assert sorted(one["name"] for one in items if one["check"] == "number") == sorted(
        [number, *(f"+1415555015{last}" for last in range(3))]
    )
    assert len([one for one in items if one["check"] == "login"]) == len(
        {o["name"] for o in items if o["check"] == "login"}
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ops/route", 422),
        ("/ops/route?to=0415", 422),
        ("/ops/route?to=%2B14155550100&from=", 422),
        ("/ops/route?to=%2B14155550100%00", 422),
        ("/ops/checkup?limit=0", 422),
        ("/ops/checkup?offset=-1", 422),
        ("/ops/nothing", 404),
    ],
)
async def test_what_is_asked_of_the_service_wrongly_is_told(served: Served, path: str, status: int) -> None:
    async with served.client() as client:
        answer = await client.http.get(path)
        assert (answer.status_code, "detail" in answer.json()) == (status, True)


async def test_operations_are_not_for_strangers_and_check_ups_for_admins(number: str, run: Run, served: Served) -> None:
    key = (await run("keys", "create", "bot", "--agent", "aria")).out.splitlines()[0]
    async with served.client() as client:
        for headers, statuses in (
            ({"Authorization": "Bearer no"}, (401, 401)),
            ({"Authorization": f"Bearer {key}"}, (200, 403)),
        ):
            for path, status in zip(("/ops/route?to=%2B" + number[1:], "/ops/checkup"), statuses, strict=True):
                assert (await client.http.get(path, headers=headers)).status_code == status
