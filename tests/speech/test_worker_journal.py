"""The journal: what another worker needs when the first one has died."""

from __future__ import annotations

from anycarrier.speech.workers import Begin, Feed, Finish, Journal, Pause, Resume


def test_what_was_answered_is_forgotten_and_the_rest_is_kept() -> None:
    journal = Journal(1000)
    for entry in (Feed(1, b"a" * 10), Finish(1), Feed(1, b"b" * 10), Finish(1), Feed(1, b"c")):
        journal.add(entry)
    assert journal.owed == 2
    journal.answered()
    assert journal.entries() == [Feed(1, b"b" * 10), Finish(1), Feed(1, b"c")]
    journal.answered()
    assert (journal.entries(), journal.size, journal.owed) == ([Feed(1, b"c")], 1, 0)
    journal.answered()
    assert journal.entries() == [Feed(1, b"c")]


def test_audio_before_a_cue_is_forgotten_unless_an_answer_is_owed_for_it() -> None:
    journal = Journal(1000)
    journal.add(Feed(1, b"noise"))
    journal.add(Begin(1))
    assert (journal.entries(), journal.size) == ([Begin(1)], 0)
    journal.add(Feed(1, b"word"))
    journal.add(Finish(1))
    journal.add(Begin(1))
    assert journal.entries() == [Begin(1), Feed(1, b"word"), Finish(1), Begin(1)]


def test_it_is_bounded_and_the_oldest_audio_goes_first() -> None:
    journal = Journal(30)
    journal.add(Begin(1))
    for letter in b"abcde":
        journal.add(Feed(1, bytes([letter]) * 10))
    journal.add(Finish(1))
    assert journal.size == 30
    assert journal.entries() == [Begin(1), *(Feed(1, c * 10) for c in (b"c", b"d", b"e")), Finish(1)]


def test_a_pause_is_kept_until_the_caller_resumes() -> None:
    journal = Journal(1000)
    for entry in (Begin(1), Feed(1, b"a"), Pause(1), Feed(1, b"b"), Resume(1), Feed(1, b"c"), Pause(1), Pause(1)):
        journal.add(entry)
    assert journal.entries() == [Begin(1), Feed(1, b"a"), Feed(1, b"b"), Feed(1, b"c"), Pause(1)]
    journal.add(Finish(1))
    journal.add(Resume(1))
    assert journal.entries()[-2:] == [Pause(1), Finish(1)], "a Resume is about its own utterance only"
