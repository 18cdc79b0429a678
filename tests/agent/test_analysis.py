"""Outcomes by heuristics: plain words get a label, everything else gets none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from anycarrier import Call, CallStatus, Direction, EndReason
from anycarrier.agent.analysis import Analysis, FinishedCall, Heuristic, analyze_call
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.transcript import Segment


def over(
    *said: tuple[str, str],
    reason: EndReason = EndReason.USER_HANGUP,
    seconds: float = 30,
    answered: bool = True,
    answered_by: str | None = None,
) -> FinishedCall:
    call = Call(
        id="c",
        provider="p",
        direction=Direction.OUTBOUND,
        from_="+14155550101",
        to="+12125550123",
        status=CallStatus.ENDED,
        answered_at=datetime.now(UTC) if answered else None,
        answered_by=answered_by,
    )
    segments = tuple(Segment(party, text, 1000 * n) for n, (party, text) in enumerate(said))
    return FinishedCall(call, "a", AgentSettings(), reason, seconds, segments, (), {}, {})


BOOKING = [("remote", "I would like to book an appointment"), ("local", "Is tomorrow all right?")]


@pytest.mark.parametrize(
    ("finished", "outcome"),
    [
        (over(*BOOKING, ("remote", "yes"), ("local", "You are booked for tomorrow.")), "Appointment Booked"),
        (over(*BOOKING, ("remote", "no thank you"), ("local", "Then nothing is booked.")), "Not Interested"),
        (over(*BOOKING, ("remote", "hm"), ("local", "Shall I say it is booked?")), None),
        (over(("local", "Hi"), ("remote", "I'm not interested")), "Not Interested"),
        (over(("local", "Hi"), ("remote", "sounds good, tell me more")), "Interested"),
        (over(("remote", "sounds good but not for me")), None),
        (over(("remote", "what is this about")), None),
        (over(reason=EndReason.NO_ANSWER, answered=False, seconds=0), "Not Connected"),
        (over(seconds=2), None),  # answered, and too short to tell
        (over(("local", "Hello? Hello?"), seconds=40), None),
        (over(reason=EndReason.VOICEMAIL), "Voicemail"),
        (over(("remote", "leave a message"), answered_by="machine"), "Voicemail"),
    ],
)
async def test_outcomes(finished: FinishedCall, outcome: str | None) -> None:
    found = await Heuristic().analyze(finished)
    assert (found.outcome, found.source) == (outcome, "heuristic")


async def test_the_summary_says_nothing_that_is_not_in_the_transcript() -> None:
    found = await Heuristic().analyze(over(("remote", "A table for two"), ("local", "Done.")))
    assert found.summary == (
        "30 s, ended by user hangup. The caller spoke 1 time, first: “A table for two”. "
        "The agent's last words: “Done.”."
    )


async def test_an_analyzer_that_fails_is_passed_over() -> None:
    class Broken:
        name = "broken"

        async def analyze(self, finished: FinishedCall) -> Analysis:
            raise RuntimeError("the words of a caller")

    class Fixed:
        name = "fixed"

        async def analyze(self, finished: FinishedCall) -> Analysis:
            return Analysis("Interested", "s", self.name)

    assert (await analyze_call(over(), [Broken(), Fixed()])).source == "fixed"
    assert (await analyze_call(over(), [Broken()])).source == "heuristic"
