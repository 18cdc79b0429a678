"""The demo's verdict can be no as well as yes, and its callers speak freely where the engines allow it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from anycarrier import Call, CallStatus, Direction, EndReason, demo, hookimpl, plugins
from anycarrier.agent.analysis import FinishedCall
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.agent.transcript import Segment
from anycarrier.audio import pcm16_to_pcmu
from anycarrier.demo import callers, calls, conversation
from anycarrier.demo.appointment import AGAIN, OFFER, SORRY, book_appointment, booked, chosen_time
from anycarrier.speech import SpeechEngine

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


def test_a_hard_case_is_not_said_to_be_correct(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(names: list[str], *, talked: list[str]) -> list[calls.DemoCall]:
        return [GOOD, replace(TALKED, judged=False)]

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "provider_names", lambda: ["c"])
    monkeypatch.setattr(demo, "get_provider", lambda name: SimpleNamespace(sandbox="here"))
    assert demo.main([]) == 0
    said = capsys.readouterr().out
    assert ": all judged calls correct" in said and "keys 1984#" not in said


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--json"], 0), (["--json"], 1)])
def test_with_json_standard_output_is_for_programs_alone(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(names: list[str], *, talked: list[str]) -> list[calls.DemoCall]:
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


@pytest.mark.parametrize(
    ("words", "names", "talked"),
    [
        ([], ["a", "b", "c", "e", "f"], ["b", "c", "e", "f"]),
        (["--talk"], ["a", "b", "c", "e", "f"], ["a", "b", "c", "e", "f"]),
        (["--carriers", "all"], ["a", "b", "c", "e", "f"], []),
        (["--carriers", "c", "a"], ["a", "c"], []),
        (["--carriers", "c,a", "--talk"], ["a", "c"], ["a", "c"]),
    ],
)
def test_carriers_are_chosen_by_name(
    words: list[str], names: list[str], talked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def run(names: list[str], *, talked: list[str]) -> list[calls.DemoCall]:
        asked.append((names, talked))
        return [GOOD]

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "provider_names", lambda: ["a", "b", "c", "d", "e", "f"])
    monkeypatch.setattr(demo, "get_provider", lambda name: SimpleNamespace(sandbox="here" if name != "d" else None))
    assert demo.main(words) == 0
    assert asked == [(names, talked)]


@pytest.mark.parametrize("name", ["e", "d"])
def test_a_carrier_without_a_sandbox_here_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "provider_names", lambda: ["a", "b", "d"])
    monkeypatch.setattr(demo, "get_provider", lambda name: SimpleNamespace(sandbox="here" if name != "d" else None))
    assert demo.main(["--carriers", name, "a"]) == 2
    assert capsys.readouterr().err == f"no sandbox of {name} is installed; there are a, b\n"


def test_every_carriers_numbers_are_its_own() -> None:
    numbers = [demo._number(use, carrier) for use in range(3) for carrier in range(30)]
    assert len({*numbers}) == 90 and all(number.startswith("+14155550") and len(number) == 12 for number in numbers)


def test_the_clip_is_a_voice_and_not_silence() -> None:
    assert len(calls.clip("hello")) == 29280 and len(set(calls.clip("hello"))) > 100


def parts(*sent: bytes) -> list[bytearray]:
    """The agent's audio up to each cut and after the last."""
    return [bytearray(part) for part in sent]


def test_a_cut_utterance_is_compared_to_where_it_was_cut() -> None:
    before, after = bytes(range(1, 100)), bytes(range(100, 120))
    silence = b"\xff" * 50
    sent = parts(before, after)
    assert conversation.intact(sent, before[:60] + silence + after, cleared=39)
    assert not conversation.intact(sent, before[:60] + after[:-1], cleared=39)
    assert not conversation.intact(sent, before[1:60] + after, cleared=39)
    assert not conversation.intact(sent, before + after, cleared=39), "nothing was cut"
    assert not conversation.intact(parts(before * 20, after), before[:60] + after, cleared=39), "more is missing"
    assert conversation.intact(parts(before + after), before + after, cleared=0)
    assert not conversation.intact(parts(before + after), before, cleared=0), "nobody interrupted"


def test_audio_that_was_cut_twice_is_compared_part_by_part() -> None:
    first, second, last = bytes(range(1, 60)), bytes(range(60, 110)), bytes(range(110, 120))
    sent = parts(first, second, last)
    assert conversation.intact(sent, first[:20] + second[:30] + last, cleared=59)
    assert not conversation.intact(sent, first[:20] + second[5:30] + last, cleared=64)
    assert not conversation.intact(sent, second[:30] + first[:20] + last, cleared=59)


# --- what was understood ---------------------------------------------------------------------------------------------


CALLER = callers.CALLERS[0]
REQUEST, CHOICE, REASON = CALLER.utterances


def finished(*heard: str, cut: bool = True, keys: str = "1984#", last: str = "") -> FinishedCall:
    """A call on which the caller was heard as ``heard``."""
    now = datetime.now(UTC)
    call = Call(
        id="i", reference="r", provider="c", direction=Direction.INBOUND, from_="+12125550123",
        to="+14155550100", status=CallStatus.ENDED, created_at=now,
    )  # fmt: skip
    said = [("remote", text) for text in heard]
    said.insert(1, ("local", OFFER[:70].rsplit(" ", 1)[0]))
    said.append(("local", last or booked(chosen_time(CHOICE) or "")))
    notes: list[tuple[str, dict[str, Any]]] = [("digit", {"digit": key}) for key in keys]
    return FinishedCall(
        call=call, agent_id="a", settings=AgentSettings(), reason=EndReason.USER_HANGUP, seconds=30.0,
        segments=tuple(Segment(party, text, 0) for party, text in said),
        notes=(*notes, *([("barge_in", {})] if cut else [])), latency_ms={}, variables={},
    )  # fmt: skip


def test_words_may_be_misheard_up_to_the_bound_and_every_other_fault_is_told() -> None:
    def wrong(call: FinishedCall) -> str:
        return "; ".join(conversation.misunderstood(CALLER, call))

    assert wrong(finished(REQUEST, CHOICE, REASON)) == ""
    assert wrong(finished(REQUEST.upper().replace("CARTER", "Cotter"), CHOICE, REASON)) == ""
    assert "7 of 39" in wrong(finished(REQUEST, CHOICE, "I have had a pain since my bicycle on Saturday"))
    stopped, rest = CALLER.reason
    assert "3 utterances are 4" in wrong(finished(REQUEST, CHOICE, stopped, rest)), "the hesitation ended the turn"
    assert "0 interruptions" in wrong(finished(REQUEST, CHOICE, REASON, cut=False))
    assert "not booked" in wrong(finished(REQUEST, CHOICE, REASON, last=booked("another day")))
    assert "keys" in wrong(finished(REQUEST, CHOICE, REASON, keys="198"))


def test_rates_are_told_per_kind_of_caller_and_in_all() -> None:
    good = replace(TALKED, words=40, word_errors=1)
    hard = replace(TALKED, words=40, word_errors=20, judged=False)
    free = callers.Speech("hears", "speaks", "robot", free=True)
    assert good.word_error_rate == pytest.approx(0.025) and GOOD.word_error_rate is None
    assert hard.ok, "the hard case's words are not judged"
    told = "\n".join(demo.summary([GOOD, good, good, hard], free))
    assert "2 of 80 wrong (2.5%)" in told and "20 of 40 wrong (50.0%); not judged" in told
    kept = "\n".join(demo.summary([GOOD, good], callers.Speech("hears", "speaks")))
    assert "1 of 40 wrong" in kept and "install for free speech" in kept


# --- who speaks and listens ------------------------------------------------------------------------------------------


def an_engine(engine: str, can: str, **facts: Any) -> type[SpeechEngine]:
    async def nothing(self: Any, *_: Any) -> None: ...

    methods = {"speak": "synthesizer", "listen": "recognizer", "detect": "voice_activity_detector"}
    return type(engine, (SpeechEngine,), {"name": engine, methods[can]: nothing, **facts})


ROBOT, WORSE, VOICE = an_engine("a", "speak"), an_engine("b", "speak", rank=-1), an_engine("z", "speak", rank=10)
MENU, FREE = an_engine("c", "listen", free_speech=False, obeys_grammar=True), an_engine("y", "listen", rank=10)
DETECTOR, CLOUD = an_engine("d", "detect"), an_engine("e", "speak", remote=True, rank=-9)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., callers.Speech | None]]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")

    def only(*engines: type[SpeechEngine]) -> callers.Speech | None:
        class Plugin:
            @hookimpl
            def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
                return list(engines)

        plugins.reset()
        plugins.register(Plugin(), "engines")
        return callers.installed_speech(Engines())

    yield only
    plugins.reset()


def test_callers_speak_freely_only_with_a_recognizer_and_a_voice_for_it(
    installed: Callable[..., callers.Speech | None],
) -> None:
    assert installed(ROBOT, WORSE, VOICE, MENU, FREE, DETECTOR, CLOUD) == callers.Speech("y", "z", "b", free=True)
    assert installed(VOICE, FREE, DETECTOR) == callers.Speech("y", "z", None, free=True)
    by_grammar = installed(ROBOT, MENU, DETECTOR)
    assert by_grammar == callers.Speech("c", "a") and "grammar" in by_grammar.settings
    assert installed(ROBOT, MENU, FREE, DETECTOR) == callers.Speech("c", "a"), "the robot is not understood freely"
    assert installed(VOICE, MENU, DETECTOR) == callers.Speech("c", "z")
    assert installed(VOICE, FREE) is None and callers.missing(Engines()) == ["detect"]


def test_a_callers_sound_is_trimmed_to_where_it_is_loud() -> None:
    loud = pcm16_to_pcmu(array("h", [8000, -8000] * 400).tobytes())
    assert callers.trimmed(b"\xff" * 4000 + loud + b"\xff" * 2000) == b"\xff" * 160 + loud + b"\xff" * 159
    assert callers.trimmed(b"\xff" * 4000) == b""


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("Could we have the one tomorrow morning, please?", "tomorrow morning at nine"),
        ("wednesday afternoon", "Wednesday afternoon at three"),
        ("I'd like the one at 3.", "Wednesday afternoon at three"),
        ("Half past eleven would suit me.", "Friday at half past eleven"),
        ("11:30, please.", "Friday at half past eleven"),
        ("Rather next week.", "Monday of next week at nine"),
        ("My three children are ill.", None),
    ],
)
def test_a_time_may_be_worded_freely(said: str, time: str | None) -> None:
    assert chosen_time(said) == time


class Heard:
    """A call as the script sees it: turns in, sayings out."""

    def __init__(self, *turns: str, grammar: str | None = None, keys: str = "1984") -> None:
        self._turns, self._keys = list(turns), keys
        self.settings = AgentSettings(grammar=grammar)
        self.variables: dict[str, str] = {}
        self.said: list[str] = []

    async def turns(self) -> Any:
        while self._turns:
            yield SimpleNamespace(text=self._turns.pop(0))

    async def listen(self, timeout: float) -> Any:
        return SimpleNamespace(text=self._turns.pop(0))

    async def gather(self, digits: int, timeout: float) -> str:
        return self._keys

    async def say(self, text: str) -> None:
        self.said.append(text)


async def booked_by(call: Heard) -> Heard:
    scripted: Any = call
    await book_appointment(scripted)
    return call


async def test_the_agent_understands_free_wording_and_asks_for_a_reason_unless_a_grammar_limits_it() -> None:
    call = await booked_by(Heard("Blah.", REQUEST, "Again, please?", CHOICE, REASON))
    assert call.said[:3] == [SORRY + OFFER, SORRY + AGAIN, OFFER] and call.said[-1] == booked(
        "Wednesday afternoon at three"
    )
    assert call.variables == {"reason": REASON, "time": "Wednesday afternoon at three", "keys": "1984"}
    limited = await booked_by(Heard("i would like to book an appointment", "friday", grammar="#JSGF"))
    assert limited.said[1].startswith("Friday at half past eleven. Please key in")
    assert limited.variables == {"time": "Friday at half past eleven", "keys": "1984"}
    assert (await booked_by(Heard("No, thank you. Goodbye."))).said == ["Goodbye."]
    assert "not a year" in (await booked_by(Heard("friday", "pain", keys="19"))).said[-1]
