"""Turn-taking whatever happens: random lives of a call, and what must hold in every one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from anycarrier.speech import (
    BargeIn,
    BeginUtterance,
    DropTurn,
    EmitFinal,
    EmitInterim,
    FinishUtterance,
    Output,
    PauseUtterance,
    ResumeUtterance,
    SilenceTimeout,
    StopSpeaking,
    Turns,
    TurnSettings,
    end_of_turn,
)

STEPS = st.tuples(
    st.sampled_from(
        ["started", "continues", "ended", "interim", "segment", "final", "queue", "play", "position", "played", "digit"]
    ),
    st.floats(0.0, 1.2),  # seconds until it happens
    st.floats(0.0, 0.3),  # seconds the report lags behind the sound
    st.sampled_from(["", "yes", "no", "book a table", "Yes.", "A table for."]),
    st.integers(1, 4),
)
SETTINGS = st.builds(
    TurnSettings,
    interruption=st.sampled_from([None, 0.06, 0.17, 0.5]),
    silence_timeout=st.sampled_from([None, 3.0]),
    maximum_utterance=st.sampled_from([2.0, 30.0]),
    final_timeout=st.sampled_from([0.0, 1.0]),
    decode_ahead=st.sampled_from([0.0, 0.2, 0.7]),
    punctuated=st.booleans(),
    trust_words=st.booleans(),
)


@dataclass
class Life:
    """One call, with what the outside world knows written down beside what came out."""

    turns: Turns
    at: float = 0.0
    out: list[Output] = field(default_factory=list)
    told: list[tuple[float, str | None, Output]] = field(default_factory=list)  # when, what played before, what
    playing: str | None = None
    dropped: set[str] = field(default_factory=set)

    def note(self, outputs: list[Output], playing: str | None) -> None:
        for output in outputs:
            if isinstance(output, StopSpeaking):
                self.playing = None if self.playing == output.agent_turn_id else self.playing
            if isinstance(output, DropTurn):
                self.dropped.add(output.agent_turn_id)
            self.told.append((self.at, playing, output))
            self.out.append(output)

    def step(self, kind: str, wait: float, lag: float, text: str, turn: int) -> None:
        turns, agent_turn = self.turns, f"g{turn}"
        # Time passes as a driver makes it pass: with a tick at each deadline.
        until = self.at + wait
        while (due := turns.deadline) is not None and due <= until:
            assert due >= self.at - 1e-9 or turns.deadline == due
            self.at = max(self.at, due)
            before = turns.deadline
            self.note(turns.tick(self.at), self.playing)
            assert turns.deadline != before, "a deadline that was served must move"
        self.at = until
        sound = max(0.0, self.at - lag)
        before_playing = self.playing
        if kind == "play" and agent_turn not in self.dropped:
            self.playing = before_playing = agent_turn
        if kind == "played" and self.playing == agent_turn:
            self.playing = None
        match kind:
            case "started":
                out = turns.speech_started(self.at, sound)
            case "continues":
                out = turns.speech_continues(self.at, sound)
            case "ended":
                out = turns.speech_ended(self.at, sound)
            case "interim":
                out = turns.interim(self.at, text)
            case "segment":
                out = turns.final(self.at, text, complete=False)
            case "final":
                out = turns.final(self.at, text)
            case "queue":
                out = turns.speech_queued(self.at, agent_turn)
            case "play":
                out = turns.playback_started(self.at, agent_turn)
            case "position":
                out = turns.playback_position(self.at, agent_turn, lag)
            case "played":
                out = turns.playback_ended(self.at, agent_turn)
            case _:
                out = turns.digit(self.at)
        self.note(out, before_playing)


def lived(steps: list[tuple[str, float, float, str, int]], how: TurnSettings) -> Life:
    life = Life(Turns(how))
    for step in steps:
        life.step(*step)
    life.note(life.turns.hang_up(life.at), None)
    return life


LIVES = settings(max_examples=300, deadline=None)


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_every_announced_utterance_gets_exactly_one_final(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    out = lived(steps, how).out
    finals = Counter(o.turn_id for o in out if isinstance(o, EmitFinal))
    announced = {o.turn_id for o in out if isinstance(o, EmitInterim | BargeIn)}
    assert all(count == 1 for count in finals.values())
    assert announced <= set(finals)
    assert all(o.text or o.turn_id in announced for o in out if isinstance(o, EmitFinal))


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_nothing_of_an_utterance_follows_its_final(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    closed: set[str] = set()
    for o in lived(steps, how).out:
        if isinstance(o, BeginUtterance | EmitInterim | BargeIn | EmitFinal | FinishUtterance):
            assert o.turn_id not in closed
        if isinstance(o, EmitFinal):
            closed.add(o.turn_id)


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_barge_in_happens_only_while_we_speak_and_after_the_cut(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    life = lived(steps, how)
    for place, (_, playing, o) in enumerate(life.told):
        if not isinstance(o, BargeIn):
            continue
        assert how.interruption is not None
        assert playing == o.agent_turn_id
        assert o.heard >= 0.0
        before = [told for _, _, told in life.told[:place]]
        assert StopSpeaking(o.agent_turn_id) in before
        assert DropTurn(o.agent_turn_id) in before


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_a_voice_shorter_than_the_evidence_never_interrupts(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    if how.interruption is None or how.trust_words:
        return
    spoken = 0.0  # the voice that anybody could have confirmed, gaps and lags given away
    life = Life(Turns(how))
    last = 0.0
    for step in steps:
        life.step(*step)
        if step[0] in ("continues", "ended", "started"):
            spoken += max(0.0, life.at - last)
            last = life.at
        if spoken < how.interruption:
            assert not any(isinstance(o, BargeIn) for o in life.out)


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_silence_is_never_told_while_somebody_speaks(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    life = lived(steps, how)
    for _, playing, o in life.told:
        if isinstance(o, SilenceTimeout):
            assert playing is None
            assert how.silence_timeout is not None
            assert o.seconds >= how.silence_timeout - 1e-9


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_utterances_are_asked_about_once_and_in_order(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    asked = [int(o.turn_id[1:]) for o in lived(steps, how).out if isinstance(o, FinishUtterance)]
    assert asked == sorted(set(asked))


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_the_recogniser_is_cued_before_it_is_asked_wherever_a_voice_was_heard(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    cued: list[str] = []
    for o in lived(steps, how).out:
        if isinstance(o, BeginUtterance):
            assert o.turn_id not in cued
            cued.append(o.turn_id)
        if isinstance(o, FinishUtterance) and not how.trust_words:
            assert o.turn_id in cued


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_a_pause_comes_before_its_resumption_and_both_within_the_utterance(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    paused: set[str] = set()
    over: set[str] = set()
    for o in lived(steps, how).out:
        match o:
            case PauseUtterance(turn_id):
                assert turn_id not in paused | over
                paused.add(turn_id)
            case ResumeUtterance(turn_id):
                assert turn_id in paused - over
                paused.remove(turn_id)
            case FinishUtterance(turn_id) | EmitFinal(turn_id):
                over.add(turn_id)


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_what_is_discarded_was_neither_paused_nor_told(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    out = lived(steps, how).out
    discarded = {o.turn_id for o in out if isinstance(o, FinishUtterance) and o.discard}
    told = {o.turn_id for o in out if isinstance(o, PauseUtterance | EmitInterim | EmitFinal | BargeIn)}
    assert not discarded & told


@LIVES
@given(st.lists(STEPS, max_size=60), SETTINGS)
def test_an_utterance_ends_when_the_rule_says_and_no_later_than_its_maximum(
    steps: list[tuple[str, float, float, str, int]], how: TurnSettings
) -> None:
    if how.trust_words:  # then words open utterances too
        return
    waits: list[float] = []  # what the rule said since the voice was last heard

    def rule(text: str, settings: TurnSettings) -> float:
        waits.append(end_of_turn(text, settings))
        return waits[-1]

    life = Life(Turns(how, end_of_turn=rule))
    began = voiced = 0.0
    longest, quiet = how.incomplete_endpointing, inf
    for step in steps:
        known = len(life.told)
        before = [how.endpointing, *waits][-1]
        life.step(*step)
        kind, sound = step[0], max(0.0, life.at - step[2])
        needed = [how.endpointing, *waits][-1]
        for at, _, o in life.told[known:]:
            if isinstance(o, FinishUtterance):
                wait = before if at < life.at else needed
                assert at >= min(voiced + wait, began + how.maximum_utterance) - 1e-9
                assert at <= min(quiet + max(longest, how.endpointing), began + how.maximum_utterance) + 1e-9
            if isinstance(o, BeginUtterance):
                began = voiced = sound
        if kind in ("started", "continues"):
            waits.clear()
            quiet = inf
        if kind == "ended":
            quiet = min(quiet, life.at)
        if kind == "continues":
            voiced = max(voiced, sound)
