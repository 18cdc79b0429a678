"""Every command against a real service: what it does there, what it prints, how it says no."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest

from server.cli.town import ADMIN, CARRIERS, OURS, SOMEBODY, Run, Served, a_number, an_agent

# --- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
async def test_a_credential_is_kept_completed_verified_renamed_and_deleted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a-token-of-twenty-letters\n"))
    added = await run("credentials", "add", "mine", "--provider", "twilio", "--api-key", "-")
    assert "incomplete" in added.out and "account_sid=..." in added.out
    sid = "AC00000000000000000000000000000001"
    assert "is active" in (await run("credentials", "set", "mine", f"account_sid={sid}", "--name", "ours")).out
    assert (await run("credentials", "verify", "ours")).out == f"ours: twilio knows the account {sid}\n"
    shown = await run("credentials", "show", "ours")
    assert sid in shown.out and "a-token" not in shown.out
    await run("credentials", "rm", "OURS")
    assert "ours" not in [one["name"] for one in (await run("credentials", "ls", "--json")).json]


@pytest.mark.usefixtures("served")
async def test_a_credential_the_carrier_does_not_know_is_a_no_with_the_carriers_reason(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("KEY-that-is-wrong\n"))
    await run("credentials", "add", "mine", "--provider", "telnyx")
    said = await run("credentials", "verify", "mine", expect=1)
    assert said.out.startswith("mine: telnyx") and "KEY-that-is-wrong" not in said.out + said.err


@pytest.mark.usefixtures("served")
async def test_no_key_no_credential(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "no API key" in (await run("credentials", "add", "mine", "--provider", "twilio", expect=2)).err


@pytest.mark.usefixtures("served")
async def test_an_unknown_carrier_is_told_which_are_installed(run: Run) -> None:
    refused = await run("credentials", "add", "mine", "--provider", "acmee", "--api-key", "s3cret-s3cret", expect=2)
    assert "twilio" in refused.err and "s3cret" not in refused.err


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", CARRIERS)
@pytest.mark.usefixtures("served")
async def test_a_number_is_found_bought_given_away_and_given_back(run: Run, provider: str) -> None:
    await an_agent(run)
    await an_agent(run, "Ben")
    account = ("--credential", f"{provider} sandbox")
    offers = (await run("numbers", "search", "--area-code", "415", "--limit", "2", *account, "--json")).json
    number = offers[0]["phone_number"]
    assert len(offers) == 2 and number.startswith("+1415")
    bought = await run("numbers", "buy", number, "--agent", "aria", "--name", "front desk", *account)
    assert bought.out == f"{number} is bought and in service\n"
    row = (await run("numbers", "ls")).out.splitlines()[1].split()
    assert (row[0], row[1], row[2], row[3].split("-")[0]) == (number, "active", provider, "aria")
    assert (await run("numbers", "assign", "front desk", "ben")).out == f"{number} goes to Ben\n"
    assert (await run("numbers", "assign", number, "none")).out.endswith("its calls are declined\n")
    assert (await run("numbers", "show", number, "--json")).json["agent_id"] is None
    refused = await run("numbers", "release", number, expect=1)
    assert "--yes" in refused.err, "what is final is asked about"
    assert "no longer yours" in (await run("numbers", "release", number, "--yes")).out
    assert (await run("numbers", "ls")).out.startswith("No numbers.")
    assert number in [one["phone_number"] for one in (await run("numbers", "search", *account, "--json")).json]


@pytest.mark.parametrize("provider", CARRIERS)
@pytest.mark.usefixtures("served")
async def test_a_number_one_holds_is_registered_synced_and_released(run: Run, provider: str) -> None:
    await an_agent(run)
    number = await a_number(run, provider)
    synced = await run("numbers", "sync")
    assert synced.out.startswith(f"{number}  active: ") and synced.err == f"1/1 {number}\n"
    assert "stays yours" in (await run("numbers", "unregister", number)).out


@pytest.mark.usefixtures("served")
async def test_registering_without_saying_the_carrier_takes_the_default_account(run: Run) -> None:
    await an_agent(run)
    default = next(one for one in (await run("credentials", "ls", "--json")).json if one["is_default"])
    await run("numbers", "register", OURS["twilio"], "--agent", "aria")
    assert (await run("numbers", "show", OURS["twilio"], "--json")).json["credential_id"] == default["id"]


@pytest.mark.usefixtures("served")
async def test_buying_nothing_in_particular_is_refused_before_anything_is_asked(run: Run) -> None:
    assert "--area-code" in (await run("numbers", "buy", expect=2)).err


@pytest.mark.usefixtures("served")
async def test_a_search_that_finds_nothing_is_a_no(run: Run) -> None:
    said = await run("numbers", "search", "--contains", "99999999", "--credential", "twilio sandbox", expect=1)
    assert "widen the filters" in said.out


@pytest.mark.usefixtures("served")
async def test_an_unknown_number_or_agent_is_a_no_that_lists_what_there_is(run: Run) -> None:
    await an_agent(run)
    assert "known: none" in (await run("numbers", "show", "+14155550199", expect=1)).err
    refused = await run("numbers", "register", OURS["twilio"], "--agent", "Cleo", expect=1)
    assert "known: aria-" in refused.err


# --- agents -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
async def test_an_agents_settings_are_set_where_they_belong(run: Run) -> None:
    made = await an_agent(run, "Aria", "first_message=Hello there", "speed=1.2")
    assert (made["first_message"], made["speed"]) == ("Hello there", 1.2)
    await run(
        "agents", "set", "aria", "speed=null", "inbound_filter_mode=whitelist", "incoming_call_action=auto_reject"
    )
    shown = (await run("agents", "show", "aria", "--json")).json
    assert (shown["speed"], shown["inbound_filter_mode"], shown["incoming_call_action"]) == (
        1.0, "whitelist", "auto_reject",
    )  # fmt: skip
    assert "aria" in (await run("agents", "ls")).out
    assert "deleted" in (await run("agents", "rm", "@" + made["handle"])).out
    assert (await run("agents", "ls", "--json")).json == []


@pytest.mark.usefixtures("served")
async def test_a_setting_agents_do_not_have_is_named_with_the_near_one_and_all_there_are(run: Run) -> None:
    await an_agent(run)
    refused = (await run("agents", "set", "aria", "speeed=1.2", "first_message=Hi", expect=2)).err
    assert "agents have no speeed (did you mean 'speed'?); nothing is set" in refused
    assert "first_message, " in refused and "incoming_call_action" in refused and "created_at" not in refused
    assert (await run("agents", "show", "aria", "--json")).json["first_message"] == "", "nothing means nothing"
    made = (await run("agents", "add", "Ben", "--handler", "listen", "speeed=1.2")).out
    assert "not understood: speeed (did you mean 'speed'?)" in made
    assert "speed" in (await run("agents", "set", "aria", "speed=99", expect=2)).err
    assert "nothing to change" in (await run("agents", "set", "aria", expect=2)).err


@pytest.mark.usefixtures("served")
async def test_an_agent_with_a_number_is_not_deleted(run: Run) -> None:
    await an_agent(run)
    await a_number(run)
    assert (await run("agents", "rm", "aria", expect=1)).err.startswith("anycarrier agents: ")


# --- keys and rules ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
async def test_an_agents_key_is_shown_once_works_and_can_be_ended(run: Run) -> None:
    await an_agent(run)
    await an_agent(run, "Ben")
    secret, said = (await run("keys", "create", "bot", "--agent", "aria")).out.splitlines()
    assert "a key for aria-" in said
    assert [one["name"] for one in (await run("agents", "ls", "--json", "--key", secret)).json] == ["Aria"]
    listed = await run("keys", "ls")
    assert secret not in listed.out and "aria-" in listed.out
    await run("keys", "revoke", "bot")
    assert "ANYCARRIER_KEY" in (await run("agents", "ls", "--key", secret, expect=1)).err
    assert "bot" not in (await run("keys", "ls")).out and "revoked" in (await run("keys", "ls", "--all")).out


@pytest.mark.usefixtures("served")
async def test_a_server_makes_no_admin_keys_and_says_where_they_are_made(run: Run) -> None:
    assert "--direct" in (await run("keys", "create", "ops", expect=2)).err


@pytest.mark.usefixtures("served")
async def test_a_wrong_key_is_not_repeated(run: Run) -> None:
    refused = await run("agents", "ls", "--key", "a-wrong-key-0123456789", expect=1)
    assert "a-wrong-key" not in refused.err


@pytest.mark.usefixtures("served")
async def test_rules_are_added_listed_and_removed(run: Run) -> None:
    await an_agent(run)
    await run("rules", "add", "aria", "block", SOMEBODY, "--direction", "inbound")
    row = (await run("rules", "ls")).out.splitlines()[1].split()
    assert row[1:5] == ["block", SOMEBODY, "inbound", "active"] and row[5].startswith("aria-")
    assert (await run("rules", "add", "aria", "block", SOMEBODY, "--direction", "inbound", expect=1)).err
    assert "country code" in (await run("rules", "add", "aria", "block", "4155550100", expect=2)).err
    assert len((await run("rules", "ls", "--agent", "aria", "--json")).json) == 1
    await run("rules", "rm", SOMEBODY)
    assert (await run("rules", "ls", "--json")).json == []


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", CARRIERS)
async def test_a_call_is_dialled_listed_stopped_and_shown(served: Served, run: Run, provider: str) -> None:
    await an_agent(run)
    number = await a_number(run, provider)
    call = (await run("calls", "dial", number, SOMEBODY, "--variable", "name=Ann", "--json")).json
    await served.until(call["id"], "in_progress")
    heads, row = (await run("calls", "ls", "--status", "in_progress")).out.splitlines()
    assert heads.startswith("AT (UTC)") and row.split()[2:5] == ["outbound", number, SOMEBODY]
    assert row.split()[5].startswith("aria-") and row.split()[6] == "in_progress"
    assert (await run("calls", "stop", "--all")).out == f"{call['id']}  completed (api_stop)\n"
    assert (await run("calls", "stop", "--all")).out == "No live calls.\n"
    assert "completed (api_stop)" in (await run("calls", "stop", call["id"])).out, "over already is no error"
    shown = await run("calls", "show", call["id"])
    assert "variables.name: Ann" in shown.out and "call.answered" in shown.out and "api_stop" in shown.out
    assert "call.ended" in [
        event["event"] for event in (await run("calls", "show", call["id"], "--json")).json["events"]
    ]


async def test_a_failed_call_waited_for_is_a_no_with_its_reason(served: Served, run: Run) -> None:
    await an_agent(run)
    number = await a_number(run)
    busy = "+15005550101"
    waited = await run("calls", "dial", number, busy, "--wait", expect=1)
    assert "end_reason=busy" in waited.out.splitlines()[-1]


@pytest.mark.usefixtures("served")
async def test_a_call_for_later_is_queued_and_can_be_taken_back(run: Run) -> None:
    await an_agent(run)
    number = await a_number(run)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    call = (await run("calls", "dial", number, SOMEBODY, "--at", later, "--json")).json
    assert call["status"] == "queued"
    assert "failed (canceled)" in (await run("calls", "stop", call["id"])).out
    assert "past" in (await run("calls", "dial", number, SOMEBODY, "--at", "2020-01-01T00:00:00Z", expect=2)).err


async def test_calls_are_found_by_shortened_ids_agents_and_times(served: Served, run: Run) -> None:
    await an_agent(run)
    number = await a_number(run)
    call = (await run("calls", "dial", number, SOMEBODY, "--json")).json["id"]
    await served.until(call, "in_progress")
    assert call in (await run("calls", "ls", "--since", "10m", "--agent", "aria")).out
    assert (await run("calls", "ls", "--until", "10m")).out == "No calls.\n"
    assert "in_progress" in (await run("calls", "show", call[5:13])).out
    assert "anycarrier calls ls" in (await run("calls", "show", "call_00000000", expect=1)).err
    assert "no such call" in (await run("calls", "show", "call_00", expect=1)).err
    assert (await run("calls", "stop", call[:13])).out.startswith(call)


@pytest.mark.usefixtures("served")
async def test_every_id_a_table_prints_is_taken_shortened_or_whole(run: Run) -> None:
    agent = await an_agent(run)
    await a_number(run)
    added = (await run("rules", "add", "aria", "block", SOMEBODY)).out
    rule = (await run("rules", "ls")).out.splitlines()[1].split()[0]
    assert added.startswith(rule) and rule.startswith("rul_")
    secret, said = (await run("keys", "create", "bot", "--agent", agent["id"][:12])).out.splitlines()
    key = next(line.split()[0] for line in (await run("keys", "ls")).out.splitlines() if "bot" in line)
    assert said.startswith(key) and key.startswith("key_")
    number = (await run("numbers", "ls")).out.splitlines()[1].split()[-1]
    account = (await run("credentials", "ls")).out.splitlines()[1].split()[0]
    assert OURS["twilio"] in (await run("numbers", "show", number[:12])).out
    assert account in (await run("credentials", "show", account[:12])).out
    assert rule in (await run("rules", "rm", rule[:12])).out
    assert key in (await run("keys", "revoke", key[:12])).out


@pytest.mark.usefixtures("served")
async def test_where_calls_may_not_go_is_a_no(run: Run) -> None:
    await an_agent(run)
    number = await a_number(run)
    refused = await run("calls", "dial", number, "+4930901820", expect=1)
    assert "country" in refused.err and "+4930901820" not in refused.err
    assert "Whoever runs this service can let it through: add DE to ANYCARRIER_ALLOW" in refused.err


# --- whatever the command ---------------------------------------------------------------------------------------------


async def test_no_server_is_a_no_with_the_next_step(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANYCARRIER_KEY", ADMIN)
    refused = await run("numbers", "ls", expect=1)
    assert "anycarrier serve" in refused.err and ADMIN not in refused.err


@pytest.mark.parametrize(
    "words",
    [("numbers",), ("numbers", "sell"), ("calls", "dial"), ("calls", "stop"), ("agents", "add", "x", "speed"),
     ("calls", "ls", "--limit", "0")],
    ids=" ".join,
)
@pytest.mark.usefixtures("served")
async def test_what_is_asked_wrongly_is_two(run: Run, words: tuple[str, ...]) -> None:
    assert (await run(*words, expect=2)).err
