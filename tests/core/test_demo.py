"""The demo's verdict can be no as well as yes."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from anycarrier import demo
from anycarrier.demo import calls

GOOD = calls.DemoCall("c", "inbound", "a", "ended", "user_hangup", 3.7, 3.66, 3.66, True, 3.66, True)


def test_a_call_is_ok_only_when_both_ends_heard_what_was_sent() -> None:
    assert GOOD.ok
    for wrong in (
        {"agent_intact": False},
        {"far_end_intact": False},
        {"reason": "media_error"},
        {"status": "ringing"},
        {"wrong": ["misunderstood"]},
    ):
        assert not replace(GOOD, **wrong).ok
    assert "NOT WHAT WAS SAID" in demo.table([replace(GOOD, agent_intact=False)])


TALKED = replace(GOOD, transcript=[{"party": "remote", "text": "hello", "at_ms": 900}], digits="1984#", barge_ins=1)


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--json"], 0), (["--json"], 1)])
def test_with_json_standard_output_is_for_programs_alone(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> list[calls.DemoCall]:
        return [TALKED if code == 0 else replace(TALKED, wrong=["misunderstood"])]

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "provider_names", lambda: ["c"])
    monkeypatch.setattr(demo, "get_provider", lambda name: SimpleNamespace(sandbox="here"))
    assert demo.main(words) == code
    said = capsys.readouterr()
    people = said.err if words else said.out
    assert "keys 1984#" in people and "caller  hello" in people
    if words:
        told = json.loads(said.out)
        assert told["ok"] is (code == 0)
        assert {"transcript", "digits", "recording", "barge_ins", "latency_ms"} <= set(told["calls"][0])


def test_the_clip_is_a_voice_and_not_silence() -> None:
    assert len(calls.clip("hello")) == 29280 and len(set(calls.clip("hello"))) > 100


def captured(*generations: bytes) -> calls.AudioCapture:
    capture = calls.AudioCapture(None)
    for number, sent in enumerate(generations):
        if number:
            capture.cut()
        capture.agent(sent, 0.0)
    return capture


def test_a_cut_utterance_is_compared_to_where_it_was_cut() -> None:
    before, after = bytes(range(1, 100)), bytes(range(100, 120))
    silence = b"\xff" * 50
    capture = captured(before, after)
    assert calls._intact(capture, before[:60] + silence + after, cleared=39)
    assert not calls._intact(capture, before[:60] + after[:-1], cleared=39)
    assert not calls._intact(capture, before[1:60] + after, cleared=39)
    assert not calls._intact(capture, before + after, cleared=39), "nothing was cut"
    assert not calls._intact(captured(before * 20, after), before[:60] + after, cleared=39), "more is missing"
    assert not calls._intact(captured(before + after), before + after, cleared=0), "nobody interrupted"
