"""SIP lines in the service: both APIs, the operator's settings, the check-up, figures, drain, and a telephone."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from running import Running, agent_server, running

from anycarrier.errors import ConfigurationError, UnknownProvider
from anycarrier_server.cli import serve as serve_command
from anycarrier_server.domain import carrier_listeners
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings
from anycarrier_server.work import first_start
from anycarrier_sip import SipCredential
from anycarrier_sip.settings import SipSettings

OURS, CALLEE = "+14155550120", "+12125550142"


async def sip_line(at: Running, websocket_url: str | None = None, number: str = OURS, **details: Any) -> dict[str, Any]:
    """A trunk that registers at the sandbox, an agent, and a number."""
    account = {"provider": "sip", "api_key": "a-password", "metadata": {"preset": "pbx", "username": "201", **details}}
    credential = await at.ask("POST", "/v1/credentials", 201, json={"name": "trunk", **account})
    fields = {"name": "Aria", "silence_timeout_seconds": None}
    agent = await at.ask("POST", "/v1/agents", 201, json={**fields, "websocket_url": websocket_url})
    body = {"phone_number": number, "provider": "sip", "credential_id": credential["id"], "agent_id": agent["id"]}
    line = await at.ask("POST", "/v1/phone-numbers", 201, json=body)
    assert line["status"] == "active", line
    return {"credential": credential["id"], "agent": agent["id"], "line": line["id"]}


async def found(at: Running, subject: str) -> dict[str, Any]:
    """What the check-up says of one thing, once it can say whether it is well."""
    name = f"trunk: {subject}"

    def known(page: Any) -> list[dict[str, Any]]:
        return [one for one in page["items"] if one["name"] == name and one["ok"] is not None]

    return known(await at.until("/ops/checkup", lambda page: bool(known(page))))[0]


async def figure(at: Running, line: str) -> float:
    page = (await at.http.get("/metrics")).text
    [value] = [one.rpartition(" ")[2] for one in page.splitlines() if one.startswith(f"{line} ")] or ["-1"]
    return float(value)


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_a_call_comes_in_and_a_call_goes_out_by_both_apis(tmp_path: Path) -> None:
    async with agent_server() as agent, running(tmp_path) as at:
        await sip_line(at, agent.url)
        rung = await at.ring(OURS)
        call = await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
        assert (call["provider"], call["to_number"]) == ("sip", OURS)
        assert call["provider_call_id"].startswith("sip_")
        asked = await at.service.exchange.fetch_call(call["provider_call_id"])
        assert asked.status.value == "answered"
        await at.ask("POST", f"/v1/calls/{call['id']}/stop")
        over = await at.until(f"/v1/calls/{call['id']}", lambda seen: seen["ended_at"])
        assert over["end_reason"] == "api_stop"

        body = {"from_number": OURS, "to_number": CALLEE, "client_websocket_url": agent.url}
        placed = await at.ask("POST", "/api/v1/phone/place-call", json=body)
        path = f"/api/v1/phone/calls/{placed['id']}"
        await at.until(path, lambda seen: seen["status"] == "answered")
        await at.ask("POST", f"{path}/hangup")
        ended = await at.until(path, lambda seen: seen["status"] == "completed")
        assert ended["remote_phone_number"] == CALLEE
        assert await figure(at, "anycarrier_sip_rtp_loss_count") == 2
        assert await figure(at, 'anycarrier_sip_trunks{kind="register",state="up"}') == 1


async def test_a_wrong_detail_is_named_and_no_password_is_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        wrong = {"name": "t", "provider": "sip", "api_key": "top-secret-1", "metadata": {"preset": "trunk"}}
        refused = await at.http.post("/v1/credentials", json=wrong)
        assert refused.status_code == 422 and "metadata" in refused.text and "top-secret-1" not in refused.text
        mine = await sip_line(at)
        shown = await at.ask("GET", f"/v1/credentials/{mine['credential']}")
        assert "a-password" not in str(shown)


# --- listeners -------------------------------------------------------------------------------------------------------


async def test_the_check_up_tells_a_registration_and_a_refused_one(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await sip_line(at)
        told = await found(at, "registration")
        assert told["ok"] and told["found"].startswith("registered at udp:127.0.0.1:")
        number = next(one for one in (await at.ask("GET", "/ops/checkup"))["items"] if one["name"] == OURS)
        assert number["ok"] and number["found"] == "its calls come to sockets of this service"
        await at.ask("PATCH", f"/v1/credentials/{mine['credential']}", json={"api_key": "wrong-password"})
        await at.ask("POST", f"/v1/credentials/{mine['credential']}/verify")
        async with asyncio.timeout(30):
            while (told := await found(at, "registration"))["ok"]:
                await asyncio.sleep(0.1)
        assert "password" in told["found"] and "wrong-password" not in told["found"]


async def test_a_number_that_the_credential_does_not_name_is_not_put_in_service(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await sip_line(at, numbers=[OURS])
        body = {"phone_number": CALLEE, "credential_id": mine["credential"], "agent_id": mine["agent"]}
        line = await at.ask("POST", "/v1/phone-numbers", 201, json={"provider": "sip", **body})
        assert line["status"] == "inactive" and f"numbers={CALLEE},{OURS}" in line["provider_sync"]["message"]
        findings = {one["name"]: one for one in (await at.ask("GET", "/ops/checkup"))["items"]}
        assert findings[OURS]["ok"] and not findings[CALLEE]["ok"]
        metadata = {"metadata": {"numbers": f"{CALLEE},{OURS}"}}
        await at.ask("PATCH", f"/v1/credentials/{mine['credential']}", json=metadata)
        assert (await at.ask("POST", f"/v1/phone-numbers/{line['id']}/sync"))["status"] == "active"


async def test_a_listener_is_open_while_a_number_needs_it(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await sip_line(at)
        listeners = at.service.exchange.listeners
        assert listeners.is_open(mine["credential"])
        await at.ask("DELETE", f"/v1/phone-numbers/{mine['line']}", 204)
        assert not listeners.is_open(mine["credential"])
        await at.ask("DELETE", f"/v1/credentials/{mine['credential']}", 204)


async def test_what_another_process_changed_is_seen_by_the_look(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await sip_line(at)
        listeners = at.service.exchange.listeners
        await at.service.exchange.close_listener(mine["credential"])
        await carrier_listeners.look(at.service.resources)
        assert listeners.is_open(mine["credential"])
        row = await at.service.store.lines.by_number(OURS)
        assert row is not None
        await at.service.store.lines.release(row.id)
        await carrier_listeners.look(at.service.resources)
        assert not listeners.is_open(mine["credential"])


async def test_a_socket_that_is_taken_leaves_the_number_in_service_and_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with running(tmp_path, carriers={"sip": {"listen": [f"udp:127.0.0.1:{port}"]}}) as at:
            mine = await sip_line(at)
            line = await at.ask("GET", f"/v1/phone-numbers/{mine['line']}")
            assert "cannot come in yet" in str(line["provider_sync"]) and str(port) in str(line["provider_sync"])
            told = await found(at, "listener")
            assert told["ok"] is False and str(port) in told["found"]


async def test_a_drain_turns_new_calls_away_with_503_and_lets_live_ones_end(tmp_path: Path) -> None:
    async with agent_server() as agent, running(tmp_path) as at:
        await sip_line(at, agent.url)
        rung = await at.ring(OURS)
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
        draining = asyncio.create_task(at.service.drain(20))
        await asyncio.sleep(0.1)
        assert at.service.sandboxes is not None
        late = await at.service.sandboxes.played["sip"].ring(OURS, CALLEE)
        await late.wait_for("ended")
        assert await figure(at, 'anycarrier_sip_refused_total{what="refused_invites"}') == 1
        assert not draining.done()
        [first] = [one for one in at.service.sandboxes.played["sip"].far_ends.values() if one is not late]
        assert first.state != "ended"
        await first.hang_up()
        await asyncio.wait_for(draining, 30)


# --- settings --------------------------------------------------------------------------------------------------------


def carriers(**given: Any) -> list[Any]:
    return first_start.carrier_settings(Settings(**given))


def test_the_operators_settings_are_read_from_variables_the_file_and_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "anycarrier.toml"
    file.write_text('[carriers.sip]\nlisten = ["udp:127.0.0.1:5062"]\nrtp_ports = [20000, 20100]\n')
    monkeypatch.setenv("ANYCARRIER_CONFIG", str(file))
    assert carriers() == [SipSettings(listen=("udp:127.0.0.1:5062",), rtp_ports=(20000, 20100))]
    monkeypatch.setenv("ANYCARRIER_CARRIERS__SIP__LISTEN", "udp:127.0.0.1:5064,tcp:127.0.0.1:5064")
    monkeypatch.setenv("ANYCARRIER_CARRIERS__SIP__SOFTPHONES", "true")
    [by_variable] = carriers()
    assert by_variable.listen == ("udp:127.0.0.1:5064", "tcp:127.0.0.1:5064")
    assert (by_variable.softphones, by_variable.rtp_ports) == (True, (20000, 20100))
    typed = serve_command.settings_typed(["--sip", "udp:127.0.0.1:5066", "--sip", "tcp:127.0.0.1:5066"])
    [by_command] = carriers(**typed)
    assert by_command.listen == ("udp:127.0.0.1:5066", "tcp:127.0.0.1:5066") and by_command.softphones


def test_tenants_of_a_service_that_others_reach_name_no_private_host_but_those_that_its_operator_lists() -> None:
    reached = {"public_url": "https://voice.example.com", "admin_key": "0123456789abcdef"}
    [settings] = carriers(**reached)
    assert not settings.permits("127.0.0.1") and not settings.permits("192.168.1.2") and settings.permits("8.8.8.8")
    [listed] = carriers(**reached, outward_allow=["192.168.1.0/24"])
    assert listed.permits("192.168.1.2") and not listed.permits("127.0.0.1")
    [told] = carriers(**reached, carriers={"sip": {"private_targets": ["127.0.0.1"]}})
    assert told.permits("127.0.0.1") and not told.permits("192.168.1.2")
    assert carriers() == []  # nobody else reaches it: what the plugin takes by itself


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"twilio": {"listen": "udp:127.0.0.1:1"}}, "carriers.twilio: this carrier has no settings of its own"),
        ({"sip": {"lisen": "udp:127.0.0.1:1"}}, "carriers.sip.lisen"),
        ({"sip": {"listen": ["5060"]}}, "write it like udp:192.0.2.10:5060"),
        ({"sip": {"rtp_ports": [5, 7]}}, "rtp_ports are the first and the last"),
    ],
)
def test_a_wrong_setting_of_a_carrier_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says.replace(".", r"\.")):
        carriers(carriers=given)


def test_settings_of_a_carrier_that_is_not_installed_are_refused() -> None:
    with pytest.raises(UnknownProvider):
        carriers(carriers={"nobody": {}})


def test_only_on_loopback_is_the_sandbox_a_registrar(monkeypatch: pytest.MonkeyPatch) -> None:
    [here] = carriers(sandbox=True, port=8099)
    assert (here.listen, here.softphones) == (("udp:127.0.0.1:8099",), True)
    [kept] = carriers(sandbox=True, carriers={"sip": {"listen": ["udp:192.0.2.10:5060"]}})
    assert not kept.softphones


# --- a telephone on this machine -----------------------------------------------------------------------------------


def details(service: Service, row: Any) -> SipCredential:
    key, metadata = service.store.credentials.held(row)
    made = service.resources.carriers.build("sip", key, metadata)
    assert isinstance(made, SipCredential)
    return made


async def test_the_sandbox_has_an_account_for_a_telephone_that_stays_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        assert at.service.sandboxes is not None
        [phone] = await at.service.sandboxes.connect_phones()
        account, password, call, _ = phone.steps
        assert account.split()[1] == f"sip:phone@127.0.0.1:{at.service.settings.port}"
        assert call.split()[1] == f"sip:{phone.number}@127.0.0.1:{at.service.settings.port}"
        [row] = [one for one in await at.service.store.credentials.list(
            (await first_start.workspace_of(at.service.store)).id, provider="sip") if one.name == "sip phone"]
        assert at.service.exchange.listeners.is_open(row.public_id)
        [user] = details(at.service, row).users
        assert password.split() == ["password", typed := user.password.get_secret_value()]
        assert typed.isalnum() and len(typed) >= 12, "a double click takes all of it"
        lines = (await at.ask("GET", "/v1/phone-numbers"))["items"]
        agent = await at.ask("GET", f"/v1/agents/{lines[0]['agent_id']}")
        assert (lines[0]["phone_number"], agent["handler"]) == (phone.number, "repeat")
        assert await at.service.sandboxes.connect_phones() == [phone]
    port = at.service.settings.port
    async with running(tmp_path) as again:
        assert again.service.sandboxes is not None
        [same] = await again.service.sandboxes.connect_phones()
        assert same.steps == tuple(step.replace(str(port), str(again.service.settings.port)) for step in phone.steps)
        assert len((await again.ask("GET", "/v1/phone-numbers"))["items"]) == 1



async def test_a_telephone_that_would_be_declined_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path) as at:
        serve_command.announce(at.service, [], "1 agent(s) lack a speech engine")
        assert "  but 1 agent(s) lack a speech engine; docs/speech.md says how" in capsys.readouterr().out


def test_the_page_names_every_setting_of_the_operator() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sip.md").read_text()
    missing = [name for name in SipSettings.model_fields if f"\n| `{name}` |" not in page]
    assert not missing
