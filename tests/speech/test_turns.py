"""Turn-taking by example: one conversation each, told in the order in which it happens."""

from __future__ import annotations

from math import inf, nan

import pytest

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
    interruption_seconds,
)


def voice(turns: Turns, began: float, ended: float, step: float = 0.032) -> list[Output]:
    """A voice as a detector with ``step`` seconds a window tells it; what follows, without the recogniser's cue."""
    out: list[Output] = [o for o in turns.speech_started(began + step, began) if not isinstance(o, BeginUtterance)]
    at = began + step
    while at <= ended:
        out += turns.speech_continues(at, at)
        at += step
    return out + turns.speech_ended(at, ended)


def test_an_utterance_is_interims_and_one_final_under_one_turn_id() -> None:
    turns = Turns()
    assert turns.speech_started(1.0) == [BeginUtterance("t1")]
    assert turns.speech_continues(1.4, 1.4) == []
    assert turns.interim(1.5, "i would") == [EmitInterim("t1", "i would")]
    assert turns.interim(1.6, "i would") == []
    assert turns.interim(1.7, "i would like") == [EmitInterim("t1", "i would like")]
    assert turns.speech_ended(2.0, 1.95) == []
    assert turns.deadline == pytest.approx(2.15)
    assert turns.tick(2.15) == [PauseUtterance("t1")]
    assert turns.deadline == pytest.approx(2.45)
    assert turns.tick(2.44) == []
    assert turns.tick(2.45) == [FinishUtterance("t1")]
    assert turns.final(2.6, "I would like a table.") == [EmitFinal("t1", "I would like a table.", 1.0, 1.95)]


def test_a_pause_shorter_than_the_silence_rule_does_not_end_the_utterance() -> None:
    turns = Turns()
    assert voice(turns, 1.0, 2.0) == []
    assert voice(turns, 2.4, 3.0) == [PauseUtterance("t1"), ResumeUtterance("t1")]
    assert turns.listening_to == "t1"
    assert turns.tick(3.5) == [FinishUtterance("t1")]


def test_the_silence_rule_counts_from_the_end_of_the_voice_not_from_its_report() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    turns.speech_started(1.95, 1.9)
    turns.speech_continues(2.2, 2.2)
    assert turns.speech_ended(3.0, 2.3) == [FinishUtterance("t1")]


def test_a_recogniser_that_does_not_answer_is_not_waited_for() -> None:
    turns = Turns()
    turns.speech_started(1.0)
    turns.speech_continues(1.5, 1.5)
    turns.interim(1.5, "half a word")
    turns.speech_ended(1.5)
    assert turns.tick(2.0) == [FinishUtterance("t1")]
    assert turns.tick(5.9) == [], "a busy machine takes its time, and half a word is not what was said"
    assert turns.tick(6.0) == [EmitFinal("t1", "half a word", 1.0, 1.5)]


def test_words_that_came_after_the_voice_are_not_waited_for_so_long() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    assert turns.interim(1.8, "all of it") == [PauseUtterance("t1"), EmitInterim("t1", "all of it")]
    assert turns.tick(2.0) == [FinishUtterance("t1")]
    assert turns.tick(4.4) == []
    assert turns.tick(4.5) == [EmitFinal("t1", "all of it", 1.0, 1.5)]


def test_the_final_of_a_long_utterance_is_waited_for_longer() -> None:
    turns = Turns()
    turns.speech_started(0.0)
    turns.speech_continues(29.9, 29.9)
    assert turns.tick(30.0) == [FinishUtterance("t1")]
    turns.speech_ended(30.0, 29.9)
    assert turns.tick(37.9) == [], "a half minute without a pause takes long to decode"
    assert turns.final(37.95, "all of it") == [EmitFinal("t1", "all of it", 0.0, 29.9)]


def test_words_of_before_the_voice_returned_are_not_the_whole() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    turns.interim(1.8, "the first half")
    voice(turns, 1.9, 2.5)
    assert turns.tick(3.0) == [FinishUtterance("t1")]
    assert turns.tick(6.99) == [], "the final is only late"
    assert turns.final(6.995, "the first half and the second") == [
        EmitFinal("t1", "the first half and the second", 1.0, 2.5)
    ]


def test_a_late_answer_is_not_taken_for_the_next_utterance() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    turns.tick(2.0)
    assert turns.tick(6.0) == []  # no words at all: nothing to tell
    voice(turns, 6.2, 6.6)
    assert turns.final(6.65, "the first one, late") == []
    assert turns.interim(6.7, "the second") == [EmitInterim("t2", "the second")]
    assert turns.tick(7.2) == [FinishUtterance("t2")]
    assert turns.final(7.3, "the second one") == [EmitFinal("t2", "the second one", 6.2, 6.6)]


def test_a_detector_that_is_behind_splits_no_utterance() -> None:
    """It tells 1.5 s late that the voice ended, and as late that it was back 0.3 s later."""
    turns = Turns()
    turns.speech_started(2.5, 1.0)
    turns.speech_continues(3.5, 2.0)
    assert turns.speech_ended(3.5, 2.0, delay=1.5) == []
    assert turns.tick(3.69) == []
    assert turns.tick(3.7) == [PauseUtterance("t1")]
    assert turns.speech_started(3.8, 2.3) == [ResumeUtterance("t1")]
    turns.speech_continues(4.5, 3.0)
    turns.speech_ended(4.5, 3.0, delay=1.4)
    assert turns.tick(4.61) == [PauseUtterance("t1")]
    assert turns.tick(4.89) == []
    (finish,) = turns.tick(4.9)
    assert (finish, finish.ended) == (FinishUtterance("t1"), 3.0)  # type: ignore[union-attr]


def test_a_lost_answer_does_not_swallow_words_for_ever() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    turns.tick(2.0)
    turns.tick(11.9)
    voice(turns, 12.2, 13.0)
    assert turns.interim(13.0, "hello") == [EmitInterim("t2", "hello")]


def test_a_very_late_answer_is_not_taken_for_the_next_utterance() -> None:
    """A busy recognizer may answer two utterances late; each answer closes the one that was asked for it."""
    turns = Turns()
    voice(turns, 1.0, 1.5)
    turns.tick(2.0)
    turns.tick(6.0)
    voice(turns, 9.0, 9.5)
    assert turns.tick(10.0) == [FinishUtterance("t2")]
    assert turns.final(10.1, "the first one, eight seconds late") == []
    assert turns.final(10.2, "the second one") == [EmitFinal("t2", "the second one", 9.0, 9.5)]


def test_an_utterance_may_begin_before_the_last_one_is_answered() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    assert turns.tick(2.0) == [FinishUtterance("t1")]
    turns.speech_started(2.1)
    turns.speech_continues(2.3, 2.3)
    assert turns.final(2.4, "one") == [EmitFinal("t1", "one", 1.0, 1.5)]
    assert turns.interim(2.5, "two") == [EmitInterim("t2", "two")]


def test_segments_of_a_recogniser_add_up_to_one_final() -> None:
    turns = Turns()
    turns.speech_started(1.0)
    turns.speech_continues(3.0, 3.0)
    assert turns.final(3.0, "My name is Ada.", complete=False) == [EmitInterim("t1", "My name is Ada.")]
    assert turns.interim(3.5, "i am") == [EmitInterim("t1", "My name is Ada. i am")]
    turns.speech_ended(3.5)
    assert turns.tick(4.0) == [FinishUtterance("t1")]
    assert turns.final(4.1, "I am calling about the car.") == [
        EmitFinal("t1", "My name is Ada. I am calling about the car.", 1.0, 3.5)
    ]


def test_an_empty_answer_does_not_take_back_words_that_were_shown() -> None:
    turns = Turns()
    turns.speech_started(1.0)
    turns.speech_continues(1.5, 1.5)
    turns.interim(1.5, "hello")
    turns.speech_ended(1.5)
    turns.tick(2.0)
    assert turns.final(2.1, "") == [EmitFinal("t1", "hello", 1.0, 1.5)]


def test_a_recognisers_own_endpointer_may_be_quicker_than_the_silence_rule() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    assert turns.final(1.8, "quick") == [PauseUtterance("t1"), EmitFinal("t1", "quick", 1.0, 1.5)]
    assert turns.tick(3.0) == []


def test_an_utterance_without_end_is_cut_at_its_maximum_length() -> None:
    turns = Turns(TurnSettings(maximum_utterance=5.0))
    turns.speech_started(1.0)
    turns.speech_continues(4.0, 4.0)
    assert turns.speech_continues(6.0, 6.0) == [FinishUtterance("t1"), BeginUtterance("t2")]
    assert turns.final(6.1, "and on and on") == [EmitFinal("t1", "and on and on", 1.0, 4.0)]
    assert turns.listening_to == "t2"


# --- barge-in --------------------------------------------------------------------------------------------------------


def speaking(settings: TurnSettings | None = None) -> Turns:
    turns = Turns(settings)
    turns.speech_queued(0.1, "g1")
    turns.playback_started(0.2, "g1")
    return turns


def test_barge_in_cuts_playback_first_and_is_told_before_the_words() -> None:
    turns = speaking()
    turns.playback_position(1.0, "g1", 0.75)
    assert turns.speech_started(1.1, 1.0) == [BeginUtterance("t1")]
    assert turns.interim(1.12, "wait") == []
    out = turns.speech_continues(1.2, 1.2)
    assert out == [
        StopSpeaking("g1"),
        DropTurn("g1"),
        BargeIn("t1", "g1", "caller_speech", pytest.approx(0.95), "wait"),  # type: ignore[arg-type]
        EmitInterim("t1", "wait"),
    ]
    assert turns.speaking is None


@pytest.mark.parametrize("length", [0.05, 0.1, 0.14])
def test_a_cough_over_our_speech_interrupts_nothing_and_leaves_no_trace(length: float) -> None:
    turns = speaking()
    out = voice(turns, 1.0, 1.0 + length) + turns.interim(1.3, "[cough]") + turns.tick(1.0 + length + 0.5)
    out += turns.final(2.0, "yes") + turns.tick(5.0)
    assert out == [FinishUtterance("t1", discard=True)]
    assert turns.speaking == "g1"


def test_time_that_passes_without_confirmed_voice_is_no_evidence() -> None:
    turns = speaking()
    turns.speech_started(1.0)
    assert turns.tick(1.3) == []
    assert turns.speech_ended(1.4, 1.1) == []
    assert turns.speaking == "g1"


def test_coughs_apart_do_not_add_up_but_syllables_do() -> None:
    turns = speaking()
    assert voice(turns, 1.0, 1.1) + voice(turns, 1.4, 1.5) + voice(turns, 1.8, 1.9) == []
    turns = speaking()
    out = voice(turns, 1.0, 1.1) + voice(turns, 1.2, 1.3)
    assert [type(o) for o in out] == [StopSpeaking, DropTurn, BargeIn]


def test_a_key_press_is_no_speech() -> None:
    turns = speaking()
    turns.speech_started(1.0)
    turns.speech_continues(1.12, 1.12)
    turns.digit(1.16)
    assert turns.speech_continues(1.25, 1.25) == []
    assert turns.speaking == "g1"


def test_everything_queued_is_dropped_and_refused_when_it_still_arrives() -> None:
    turns = speaking()
    turns.speech_queued(0.5, "g2")
    out = voice(turns, 1.0, 1.5)
    assert out[:3] == [StopSpeaking("g1"), DropTurn("g1"), DropTurn("g2")]
    assert turns.speech_queued(1.55, "g2") == [DropTurn("g2")]
    assert turns.playback_started(1.6, "g1") == [StopSpeaking("g1"), DropTurn("g1")]
    assert turns.speaking is None


def test_a_barge_in_without_words_still_ends_in_one_final() -> None:
    turns = speaking()
    voice(turns, 1.0, 1.5)
    assert turns.tick(2.0) == [FinishUtterance("t1")]
    assert turns.final(2.1, "") == [EmitFinal("t1", "", 1.0, 1.5)]


def test_a_turn_that_begins_while_the_caller_talks_is_interrupted_at_once() -> None:
    turns = Turns()
    turns.speech_started(1.0)
    turns.speech_continues(1.5, 1.5)
    out = turns.playback_started(1.5, "g1")
    assert [type(o) for o in out] == [StopSpeaking, DropTurn, BargeIn]


def test_what_was_said_before_a_late_turn_began_is_kept() -> None:
    turns = Turns()
    voice(turns, 1.0, 2.0)
    turns.playback_started(2.2, "g1")
    assert turns.tick(2.5) == [FinishUtterance("t1")]
    assert turns.final(2.6, "my answer") == [EmitFinal("t1", "my answer", 1.0, 2.0)]


def test_a_short_word_into_the_end_of_our_speech_is_an_utterance() -> None:
    turns = speaking()
    turns.speech_started(1.03, 1.0)
    turns.speech_continues(1.13, 1.13)
    turns.speech_ended(1.16, 1.14)
    turns.playback_ended(1.3, "g1")
    assert turns.tick(1.65) == [FinishUtterance("t1")]
    assert turns.final(1.7, "no") == [EmitFinal("t1", "no", 1.0, 1.14)]


def test_with_interruptions_off_the_caller_is_heard_and_we_go_on() -> None:
    turns = speaking(TurnSettings(interruption=interruption_seconds(0.0)))
    assert voice(turns, 1.0, 2.0) == []
    assert turns.interim(2.0, "hello") == [EmitInterim("t1", "hello")]
    assert turns.speaking == "g1"


def test_words_interrupt_only_where_the_recogniser_is_trusted() -> None:
    assert speaking().interim(1.0, "stop") == []
    out = speaking(TurnSettings(trust_words=True)).interim(1.0, "stop")
    assert [type(o) for o in out] == [StopSpeaking, DropTurn, BargeIn, EmitInterim]
    assert isinstance(out[2], BargeIn)
    assert (out[2].trigger, out[2].text) == ("caller_words", "stop")


def test_a_trusted_recogniser_needs_no_voice_detector() -> None:
    turns = Turns(TurnSettings(trust_words=True))
    assert turns.interim(1.0, "good") == [EmitInterim("t1", "good")]
    assert turns.interim(1.3, "good morning") == [EmitInterim("t1", "good morning")]
    assert turns.tick(1.7) == []
    assert turns.tick(1.8) == [FinishUtterance("t1")]
    assert turns.final(1.9, "Good morning.") == [EmitFinal("t1", "Good morning.", 1.0, 1.3)]


def test_words_of_before_that_come_late_do_not_interrupt() -> None:
    turns = Turns(TurnSettings(trust_words=True))
    voice(turns, 1.0, 2.0)
    turns.playback_started(2.1, "g1")
    assert turns.interim(2.15, "late words") == [EmitInterim("t1", "late words")]
    assert turns.speaking == "g1"


@pytest.mark.parametrize(("sensitivity", "seconds"), [(0.0, None), (0.5, 0.15), (1.0, 0.06), (0.6, 0.132)])
def test_sensitivity_is_seconds_of_voice(sensitivity: float, seconds: float | None) -> None:
    assert interruption_seconds(sensitivity) == (None if seconds is None else pytest.approx(seconds))


def test_sensitivity_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        interruption_seconds(1.5)


# --- the end of the turn ---------------------------------------------------------------------------------------------

PUNCTUATED = TurnSettings(punctuated=True)
UNFINISHED, WHOLE = "I'd like to book a table for", "I'd like to book a table for two."


def paused(settings: TurnSettings = PUNCTUATED) -> Turns:
    """Turns after a voice from 1.0 to 2.0, with the recognizer told of the pause."""
    turns = Turns(settings)
    voice(turns, 1.0, 2.0)
    assert turns.deadline == pytest.approx(2.2)
    assert turns.tick(2.2) == [PauseUtterance("t1")]
    return turns


def test_words_that_cannot_be_an_end_lengthen_the_pause() -> None:
    turns = paused()
    assert turns.deadline == pytest.approx(2.5)
    assert turns.interim(2.35, UNFINISHED) == [EmitInterim("t1", UNFINISHED)]
    assert turns.deadline == pytest.approx(3.0)
    assert turns.tick(2.99) == []
    assert turns.tick(3.0) == [FinishUtterance("t1")]


def test_words_that_may_be_an_end_do_not_lengthen_the_pause() -> None:
    turns = paused()
    turns.interim(2.35, WHOLE)
    assert turns.tick(2.5) == [FinishUtterance("t1")]


def test_a_recognizer_without_punctuation_has_one_length_of_pause() -> None:
    turns = paused(TurnSettings())
    turns.interim(2.35, UNFINISHED)
    assert turns.tick(2.5) == [FinishUtterance("t1")]


def test_whole_words_shorten_the_pause_again() -> None:
    turns = paused()
    turns.interim(2.3, UNFINISHED)
    turns.interim(2.35, WHOLE)
    assert turns.tick(2.5) == [FinishUtterance("t1")]


def test_whole_words_that_come_after_the_shorter_pause_end_the_utterance_at_once() -> None:
    turns = paused()
    turns.interim(2.3, UNFINISHED)
    assert turns.interim(2.7, WHOLE) == [EmitInterim("t1", WHOLE), FinishUtterance("t1")]


def test_final_words_in_a_pause_count_like_guesses() -> None:
    turns = paused()
    turns.final(2.3, "I'd like", complete=False)
    assert turns.deadline == pytest.approx(3.0)
    turns.final(2.4, "a table.", complete=False)
    assert turns.deadline == pytest.approx(2.5)


def test_unfinished_words_that_come_late_change_nothing() -> None:
    turns = paused()
    assert turns.interim(2.5, UNFINISHED) == [FinishUtterance("t1"), EmitInterim("t1", UNFINISHED)]
    assert turns.final(2.6, UNFINISHED) == [EmitFinal("t1", UNFINISHED, 1.0, 2.0)]


def test_words_of_before_the_voice_returned_say_nothing_of_the_next_pause() -> None:
    turns = paused()
    turns.interim(2.3, UNFINISHED)
    assert turns.speech_started(2.9, 2.85) == [ResumeUtterance("t1")]
    turns.speech_continues(3.5, 3.5)
    turns.interim(3.5, UNFINISHED)  # a guess at what was said until the first pause
    turns.speech_ended(4.0)
    assert turns.tick(4.2) == [PauseUtterance("t1")]
    assert turns.tick(4.5) == [FinishUtterance("t1")]


def test_each_pause_is_told_once_and_has_its_own_words() -> None:
    turns = paused()
    assert turns.tick(2.3) == []
    turns.interim(2.35, UNFINISHED)
    assert voice(turns, 2.8, 3.5) == [ResumeUtterance("t1")]
    assert turns.tick(3.7) == [PauseUtterance("t1")]
    turns.interim(3.8, UNFINISHED)
    assert voice(turns, 4.4, 5.0) == [ResumeUtterance("t1")]
    assert turns.tick(5.2) == [PauseUtterance("t1")]
    assert turns.interim(5.3, WHOLE) == [EmitInterim("t1", WHOLE)]
    assert turns.tick(5.5) == [FinishUtterance("t1")]
    assert turns.final(5.5, WHOLE) == [EmitFinal("t1", WHOLE, 1.0, 5.0)]


def test_a_guess_that_is_taken_back_is_no_guess() -> None:
    turns = paused()
    turns.interim(2.3, UNFINISHED)
    turns.interim(2.4, "")
    assert turns.tick(2.5) == [FinishUtterance("t1")]


def test_no_pause_exceeds_the_longest_utterance() -> None:
    turns = paused(TurnSettings(punctuated=True, maximum_utterance=1.7))
    turns.interim(2.3, UNFINISHED)
    assert turns.deadline == pytest.approx(2.7)
    assert turns.tick(2.7) == [FinishUtterance("t1")]


def test_a_hang_up_in_a_pause_closes_with_the_words_known() -> None:
    turns = paused()
    turns.interim(2.3, UNFINISHED)
    assert turns.hang_up(2.8) == [EmitFinal("t1", UNFINISHED, 1.0, 2.0)]
    assert turns.deadline is None


def test_a_noise_is_not_told_as_a_pause_and_is_discarded() -> None:
    turns = Turns()
    assert voice(turns, 1.0, 1.05) + turns.tick(1.3) == []
    assert turns.tick(1.55) == [FinishUtterance("t1", discard=True)]
    assert turns.final(1.6, "") == []


def test_a_noise_in_a_pause_begins_another_pause() -> None:
    turns = paused()
    assert voice(turns, 2.4, 2.43) == [ResumeUtterance("t1")]
    assert turns.tick(2.64) == [PauseUtterance("t1")]
    assert turns.tick(2.94) == [FinishUtterance("t1")]


def test_a_voice_under_our_speech_is_a_pause_only_once_it_counts_as_speech() -> None:
    turns = speaking()
    voice(turns, 1.0, 1.1)
    assert turns.tick(1.35) == []
    assert turns.playback_ended(1.4, "g1") == [PauseUtterance("t1")]


def test_we_may_begin_to_speak_in_a_pause_and_the_caller_may_go_on() -> None:
    turns = paused()
    turns.interim(2.3, UNFINISHED)
    assert turns.playback_started(2.4, "g1") == []
    assert turns.speech_started(2.63, 2.6) == [ResumeUtterance("t1")]
    out = turns.speech_continues(2.8, 2.8)
    assert [type(o) for o in out] == [StopSpeaking, DropTurn, BargeIn]
    turns.speech_ended(2.9)
    assert turns.tick(3.1) == [PauseUtterance("t1")]
    assert turns.tick(3.4) == [FinishUtterance("t1")]


def test_an_interruption_of_ours_pauses_like_any_utterance() -> None:
    turns = speaking()
    assert BargeIn in [type(o) for o in voice(turns, 1.0, 1.5)]
    assert turns.tick(1.7) == [PauseUtterance("t1")]
    turns.interim(1.8, "No, I mean the")
    assert turns.deadline == pytest.approx(2.0)  # not punctuated
    turns.settings = PUNCTUATED
    turns.interim(1.8, "No, I mean the")
    assert turns.deadline == pytest.approx(2.5)


def test_a_key_in_a_pause_leaves_it_as_it_is() -> None:
    turns = paused()
    turns.interim(2.3, UNFINISHED)
    assert turns.digit(2.6) == []
    assert turns.tick(3.0) == [FinishUtterance("t1")]


def test_words_without_a_voice_end_by_the_same_rule_and_need_no_pause() -> None:
    turns = Turns(TurnSettings(trust_words=True, punctuated=True))
    turns.interim(1.0, UNFINISHED)
    assert turns.tick(1.9) == []
    turns.interim(1.9, WHOLE)
    assert turns.tick(2.4) == [FinishUtterance("t1")]


def test_the_rule_can_be_replaced_and_cannot_break_the_pause() -> None:
    asked: list[str] = []

    def rule(text: str, settings: TurnSettings) -> float:
        asked.append(text)
        return {"early": 0.0, "never": inf, "nonsense": nan, "negative": -1.0}[text]

    def at(text: str) -> float | None:
        turns = Turns(TurnSettings(silence_timeout=None), end_of_turn=rule)
        voice(turns, 1.0, 2.0)
        turns.tick(2.2)
        out = turns.interim(2.3, text)
        return 2.3 if FinishUtterance("t1") in out else turns.deadline

    assert [at("early"), at("never"), at("nonsense"), at("negative")] == [2.3, 31.0, 2.3, 2.3]
    turns = Turns(end_of_turn=rule)
    voice(turns, 1.0, 2.0)
    turns.interim(2.3, " ")
    turns.interim(2.6, "late")
    assert asked == ["early", "never", "nonsense", "negative"], "asked without words, or too late"


# --- silence ---------------------------------------------------------------------------------------------------------


def test_silence_is_told_once_and_again_after_somebody_spoke() -> None:
    turns = Turns(TurnSettings(silence_timeout=10.0))
    assert turns.deadline == pytest.approx(10.0)
    assert turns.tick(10.0) == [SilenceTimeout(10.0)]
    assert turns.deadline is None
    assert turns.tick(30.0) == []
    turns.playback_started(31.0, "g1")
    assert turns.tick(50.0) == []
    turns.playback_ended(50.0, "g1")
    assert turns.tick(60.0) == [SilenceTimeout(10.0)]


def test_keys_prolong_the_patience_and_noises_do_not() -> None:
    turns = Turns(TurnSettings(silence_timeout=10.0))
    turns.digit(5.0)
    voice(turns, 9.0, 9.05)
    assert turns.tick(10.0) == [FinishUtterance("t1", discard=True)]
    assert turns.final(10.1, "") == []
    assert turns.tick(15.0) == [SilenceTimeout(10.0)]


def test_silence_is_not_counted_while_the_far_end_holds_the_call() -> None:
    turns = Turns(TurnSettings(silence_timeout=10.0))
    assert turns.hold(5.0, True) == []
    assert turns.deadline is None and turns.tick(300.0) == []
    assert turns.hold(400.0, False) == []
    assert turns.deadline == pytest.approx(410.0)
    assert turns.tick(410.0) == [SilenceTimeout(10.0)]


def test_a_hold_that_begins_after_the_silence_was_told_lets_it_be_told_again() -> None:
    turns = Turns(TurnSettings(silence_timeout=10.0))
    assert turns.hold(12.0, True) == [SilenceTimeout(12.0)]
    turns.hold(20.0, False)
    assert turns.tick(30.0) == [SilenceTimeout(10.0)]


def test_what_was_said_before_a_hold_is_closed_during_it() -> None:
    turns = Turns()
    voice(turns, 1.0, 2.0)
    assert turns.hold(2.1, True) == []
    assert turns.tick(2.5) == [FinishUtterance("t1")]
    assert turns.final(2.6, "one moment") == [EmitFinal("t1", "one moment", 1.0, 2.0)]


def test_a_silence_timeout_of_none_never_fires() -> None:
    turns = Turns(TurnSettings(silence_timeout=None))
    assert turns.tick(1e6) == []
    assert turns.deadline is None


def test_hanging_up_closes_what_was_heard() -> None:
    turns = Turns()
    voice(turns, 1.0, 1.5)
    turns.tick(2.0)
    turns.interim(2.1, "one")
    turns.speech_started(2.2)
    turns.speech_continues(2.6, 2.6)
    assert turns.hang_up(2.7) == [EmitFinal("t1", "one", 1.0, 1.5)]
    assert turns.deadline is None
