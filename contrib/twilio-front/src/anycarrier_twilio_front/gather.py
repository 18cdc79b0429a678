"""``<Gather>``: keys, and words where a speech engine listens; the first of either stops what is played meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from anycarrier import AudioReceived, CallEvent, DigitPressed, MediaEvent, MediaSession
from anycarrier.agent import AgentSettings, first_done
from anycarrier.agent.recognition import Recognition
from anycarrier.agent.turn_taking import TurnTaking
from anycarrier.errors import ConfigurationError, SpeechFailed
from anycarrier.speech import BeginUtterance, EmitFinal, EmitInterim, Output, SpeechEngine, TurnSettings
from anycarrier_twilio.carrier_side.twiml import Verb
from anycarrier_twilio_front.speech import noted

log = logging.getLogger("anycarrier.twilio_front")

LONGEST_SPEECH = 60.0
"""Seconds of one speech input, as at Twilio."""

DECODING = 10.0
"""Seconds a recognizer may take for the words of an utterance that is over."""

AUTO = 1.0
"""Seconds of silence that end an utterance with ``speechTimeout="auto"``."""


class Gather:
    """One ``<Gather>``. ``recognizers`` and ``detectors``, in the order to try, hear words; none if keys alone count.

    A detector says when an utterance is over; without one, the recognizer does.
    """

    def __init__(
        self, verb: Verb, session: MediaSession, recognizers: list[SpeechEngine], detectors: list[SpeechEngine]
    ) -> None:
        self._session = session
        self._keys_count = "dtmf" in verb.get("input", "dtmf").split()
        self._finish_on = verb.get("finishOnKey", "#")
        self._most = verb.number("numDigits")
        timeout, silence = verb.number("timeout"), verb.number("speechTimeout")
        self._timeout = 5.0 if timeout is None else float(timeout)
        auto = AUTO if verb.get("speechTimeout") == "auto" else self._timeout
        pause = auto if silence is None else float(silence)
        settings = TurnSettings(
            endpointing=pause, incomplete_endpointing=pause, interruption=None, silence_timeout=None,
            final_timeout=DECODING, unheard_final_timeout=DECODING, maximum_utterance=LONGEST_SPEECH,
            trust_words=not detectors,
        )  # fmt: skip
        self._turns = TurnTaking(settings, self._act)
        hints = tuple(hint.strip() for hint in verb.get("hints").split(",") if hint.strip())
        hearing = AgentSettings(language=verb.get("language", "en-US"), phrases=hints)
        self._recognition = Recognition(self._turns, hearing, recognizers, detectors, noted, format=session.format)
        self._digits = ""
        self._finished_on = ""
        self._words = ""
        self._over = False
        self._input = asyncio.Event()
        """Set with everything that counts as input."""

    def hear(self, event: MediaEvent | CallEvent) -> None:
        """One event of the call's."""
        match event:
            case DigitPressed(digit) if self._keys_count and not self._over:
                self._press(digit)
            case AudioReceived(payload) if self._recognition.exist:
                self._recognition.feed(payload)

    def _press(self, digit: str) -> None:
        if digit == self._finish_on and self._digits:
            self._finished_on, self._over = digit, True
        elif digit != self._finish_on:
            self._digits += digit
            self._over = self._most is not None and len(self._digits) >= self._most
        self._input.set()

    async def run(self, prompt: Callable[[], Awaitable[None]]) -> dict[str, str]:
        """The form fields of what was gathered; none when nothing came."""
        listening = asyncio.ensure_future(self._listen())
        try:
            prompted = asyncio.ensure_future(prompt())
            await first_done(prompted, self._input.wait())
            if prompted.cancelled():
                await self._session.clear()
            await self._rest(listening)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await self._recognition.aclose()
        if self._digits:
            finished = {"FinishedOnKey": self._finished_on} if self._finished_on else {}
            return {"Digits": self._digits, **finished}
        return {"SpeechResult": self._words, "Confidence": "1.0"} if self._words else {}

    async def _rest(self, listening: asyncio.Future[None]) -> None:
        """Wait for more input until it is complete, or nothing comes for the time that the verb names."""
        while not self._over:
            self._input.clear()
            talking = self._turns.turns.listening_to is not None and not listening.done()
            try:
                async with asyncio.timeout(max(self._timeout, 1.0) if talking else self._timeout):
                    await self._input.wait()
            except TimeoutError:
                if not talking:
                    return

    # --- speech -------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        try:
            await self._recognition.open()
            await first_done(self._turns.run(), self._recognition.run())
        except (SpeechFailed, ConfigurationError) as failure:
            log.warning("nothing listens to the words of a <Gather> any more: %s", failure)

    async def _act(self, output: Output) -> None:
        self._recognition.act(output)
        if isinstance(output, EmitFinal) and output.text and not self._digits:
            self._words, self._over = output.text, True
        if isinstance(output, BeginUtterance | EmitInterim | EmitFinal):
            self._input.set()
