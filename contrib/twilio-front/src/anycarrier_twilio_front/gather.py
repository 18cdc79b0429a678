"""``<Gather>``: keys, and words where a speech engine listens; the first of either stops what is played meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anycarrier import AudioReceived, CallEvent, DigitPressed, MediaEvent, MediaSession
from anycarrier.speech import Hearing, Recognizer, SpeechEngine, Voice, VoiceActivityDetector
from anycarrier_twilio.twiml import Verb

LONGEST_SPEECH = 60.0
"""Seconds of one speech input, as at Twilio."""

DECODING = 10.0
"""Seconds a recognizer may take for the words of an utterance that is over."""

AUTO = 1.0
"""Seconds of silence that end an utterance with ``speechTimeout="auto"``."""


@dataclass(frozen=True, slots=True)
class Ears:
    """What listens: ``detector`` is None where the recognizer finds the end of an utterance itself."""

    recognizer: SpeechEngine
    detector: SpeechEngine | None
    hearing: Hearing


class Gather:
    """One ``<Gather>``. ``ears`` is None where it takes keys only."""

    def __init__(self, verb: Verb, ears: Ears | None) -> None:
        self._ears = ears
        inputs = verb.get("input", "dtmf").split()
        self._keys_count = "dtmf" in inputs
        self._finish_on = verb.get("finishOnKey", "#")
        self._most = verb.number("numDigits")
        timeout, silence = verb.number("timeout"), verb.number("speechTimeout")
        self._timeout = 5.0 if timeout is None else float(timeout)
        auto = AUTO if verb.get("speechTimeout") == "auto" else self._timeout
        self._silence = auto if silence is None else float(silence)
        self._recognizer: Recognizer | None = None
        self._detector: VoiceActivityDetector | None = None
        self._digits = ""
        self._finished_on = ""
        self._words = ""
        self._talking = False
        self._asked = False
        self._over = False
        self._input = asyncio.Event()
        """Set with everything that counts as input."""

    def hear(self, event: MediaEvent | CallEvent) -> None:
        """One event of the call's."""
        match event:
            case DigitPressed(digit) if self._keys_count and not self._over:
                self._press(digit)
            case AudioReceived(payload):
                if self._detector is not None:
                    self._detector.feed(payload)
                if self._recognizer is not None:
                    self._recognizer.feed(payload)

    def _press(self, digit: str) -> None:
        if digit == self._finish_on and self._digits:
            self._finished_on, self._over = digit, True
        elif digit != self._finish_on:
            self._digits += digit
            self._over = self._most is not None and len(self._digits) >= self._most
        self._input.set()

    async def run(self, prompt: Callable[[], Awaitable[None]], session: MediaSession) -> dict[str, str]:
        """The form fields of what was gathered; none when nothing came."""
        await self._open(session)
        listening = [asyncio.ensure_future(task) for task in self._listening()]
        prompting = asyncio.ensure_future(prompt())
        try:
            began = asyncio.ensure_future(self._input.wait())
            try:
                await asyncio.wait({prompting, began}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                began.cancel()
            if prompting.done():
                prompting.result()
            else:
                await _ended(prompting)
                await session.clear()
            await self._rest()
        finally:
            for task in (prompting, *listening):
                await _ended(task)
            await self._close()
        if self._digits:
            finished = {"FinishedOnKey": self._finished_on} if self._finished_on else {}
            return {"Digits": self._digits, **finished}
        return {"SpeechResult": self._words, "Confidence": "1.0"} if self._words else {}

    async def _rest(self) -> None:
        """Wait for more input until it is complete, or nothing comes for the time that the verb names."""
        while not self._over:
            self._input.clear()
            patience = LONGEST_SPEECH if self._talking else DECODING if self._asked else self._timeout
            try:
                await asyncio.wait_for(self._input.wait(), patience)
            except TimeoutError:
                return

    # --- speech -------------------------------------------------------------------------------------------------------

    async def _open(self, session: MediaSession) -> None:
        if (ears := self._ears) is not None:
            self._recognizer = await ears.recognizer.recognizer(ears.hearing)
            if ears.detector is not None:
                self._detector = await ears.detector.voice_activity_detector(session.format)

    def _listening(self) -> list[Awaitable[None]]:
        tasks: list[Awaitable[None]] = []
        if self._recognizer is not None:
            tasks.append(self._recognize(self._recognizer))
            if self._detector is not None:
                tasks.append(self._detect(self._detector, self._recognizer))
        return tasks

    async def _recognize(self, recognizer: Recognizer) -> None:
        async for heard in recognizer:
            if heard.text:
                self._words = heard.text
                self._input.set()
            if heard.complete and not self._digits and (self._words or self._asked):
                self._over = bool(self._words)
                self._asked = False
                self._input.set()

    async def _detect(self, detector: VoiceActivityDetector, recognizer: Recognizer) -> None:
        silence: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()

        def asked() -> None:
            nonlocal silence
            silence, self._asked, self._talking = None, True, False
            recognizer.finish()
            self._input.set()

        async for activity in detector:
            if activity.voice is Voice.STARTED:
                if silence is not None:
                    silence.cancel()
                    recognizer.resume()
                else:
                    recognizer.begin()
                silence, self._talking = None, True
                self._input.set()
            elif activity.voice is Voice.ENDED and not self._asked:
                recognizer.pause()
                silence = loop.call_later(self._silence, asked)

    async def _close(self) -> None:
        for part in (self._recognizer, self._detector):
            if part is not None:
                await part.aclose()


async def _ended(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait({task})
