"""Speech engines from the command line: what is ready, keys that go in, and warnings where an agent lacks one."""

from __future__ import annotations

import io

import pytest

from server.cli.town import Run

KEY = "deepgram-key-0123456789"

pytestmark = pytest.mark.usefixtures("served")


async def test_an_engine_without_its_key_is_listed_with_what_it_lacks_and_set_up_from_standard_input(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {one["name"]: one for one in (await run("engines", "ls", "--json")).json}
    assert "api_key: Field required (anycarrier engines set deepgram api_key)" in before["deepgram"]["why_not"]
    assert before["espeak"]["ready"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    said = await run("engines", "set", "deepgram", "api_key", "listen_model=nova-2")
    assert "…6789" in said.out and KEY not in said.out + said.err
    shown = await run("engines", "ls", "--wide")
    assert "listen_model=nova-2" in shown.out and KEY not in shown.out
    await run("engines", "set", "deepgram", "listen_model=null")
    after = {one["name"]: one for one in (await run("engines", "ls", "--json")).json}
    assert after["deepgram"]["ready"] and after["deepgram"]["settings"] == {"api_key": "…6789"}
    await run("engines", "rm", "deepgram")
    assert "settings of that engine" in (await run("engines", "rm", "deepgram", expect=1)).err


async def test_a_setting_that_is_not_there_and_one_for_the_operator_are_refused(run: Run) -> None:
    refused = await run("engines", "set", "deepgram", "api_kee=x", expect=2)
    assert "deepgram has no such setting (settable: api_key" in refused.err
    refused = await run("engines", "set", "openai", "base_url=http://127.0.0.1:1/v1", expect=2)
    assert "ANYCARRIER_ENGINES__OPENAI__BASE_URL" in refused.err


async def test_names_are_checked_before_a_value_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    refused = await run("engines", "set", "deepgram", "listen_model", "nova-2", expect=2)
    assert "ANYCARRIER_ENGINES__OPENAI__" in (await run("engines", "set", "openai", "base_url", expect=2)).err
    assert "no setting 'nova-2'" in refused.err and "write listen_model=nova-2" in refused.err
    assert "no speech engine 'nowhere' is installed" in (await run("engines", "set", "nowhere", "key", expect=2)).err
    refused = await run("engines", "set", "deepgram", "api_key", expect=2)
    assert "no api_key was given" in refused.err and "--api-key" not in refused.err


async def test_an_agent_that_lacks_an_engine_is_warned_of_when_made_and_found_by_the_doctor(run: Run) -> None:
    made = await run("agents", "add", "Aria", "--handler", "listen", "recognizer=deepgram")
    assert "is made" in made.out and "warning: its calls are declined" in made.err and "api_key" in made.err
    found = await run("doctor", expect=1)
    assert "NO  agent    Aria: its calls are declined" in found.out and "degraded" in found.out
    assert "warning" not in (await run("agents", "set", "aria", "recognizer=pocketsphinx")).err
    ready = await run("doctor", "--json", expect=0)
    assert not [one for one in ready.json["items"] if one["check"] == "agent"]


async def test_which_engines_an_agent_uses_and_why(run: Run) -> None:
    bare, listed = (await run("engines", "--json")).json, (await run("engines", "ls", "--json")).json
    assert bare == listed and all("rank" in one for one in bare), "ls is meant where no verb is given"
    grammar = "#JSGF V1.0; grammar a; public <a> = yes | no;"
    await run("agents", "add", "Form", "--handler", "listen", f"grammar={grammar}", "synthesizer=espeak")
    shown = {one["ability"]: one for one in (await run("engines", "--agent", "form", "--json")).json}
    assert (shown["speak"]["engine"], shown["speak"]["reason"]) == ("espeak", "named by synthesizer")
    assert shown["listen"]["engine"] == "pocketsphinx" and shown["listen"]["problem"] is None
    assert "named by synthesizer" in (await run("engines", "ls", "--agent", "form", "--wide")).out


async def test_a_language_that_no_engine_knows_is_said_when_the_agent_is_made_and_by_the_doctor(run: Run) -> None:
    made = await run("agents", "add", "Qo", "--handler", "listen", "language=xx", "recognizer=pocketsphinx")
    assert "'pocketsphinx' does not listen in 'xx'. Change the agent's setting language" in made.err
    found = await run("doctor", expect=1)
    assert "Qo: its calls are declined" in found.out and "in 'xx'" in found.out
    changed = await run("agents", "set", "qo", "first_message=Hello", "recognizer=null")
    assert "no speech engine here speaks in 'xx'" in changed.err and "espeak" in changed.err
    told = (await run("engines", "--agent", "qo", "--json")).json
    assert [one["engine"] for one in told[:1]] == [None] and "in 'xx'" in told[0]["problem"]
