"""How long a caller waits, and for whom: measured on each exchange of words, in seconds. Pure bookkeeping."""

from __future__ import annotations

from collections import defaultdict


class Timings:
    """``eou_delay`` from the end of the caller's voice to the final transcript, ``llm_ttft`` from there to the agent's
    first words, ``tts_ttfb`` from a sentence to its first sound, ``perceived`` from the end of the caller's voice to
    the first sound of the answer.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._ended: float | None = None
        self._final: float | None = None
        self._asked: float | None = None

    def final(self, ended: float, now: float) -> None:
        """The caller's words are known; the voice ended at ``ended``."""
        self.seconds["eou_delay"].append(now - ended)
        self._ended, self._final = ended, now

    def words(self, now: float) -> None:
        """The agent has words to say."""
        if self._final is not None:
            self.seconds["llm_ttft"].append(now - self._final)
            self._final = None

    def sentence(self, now: float) -> None:
        """One is given to the voice."""
        self._asked = now

    def sound(self, now: float) -> None:
        """Its sound was sent; only the first counts."""
        if self._asked is not None:
            self.seconds["tts_ttfb"].append(now - self._asked)
            self._asked = None
        if self._ended is not None:
            self.seconds["perceived"].append(now - self._ended)
            self._ended = self._final = None

    def milliseconds(self) -> dict[str, list[float]]:
        """All of them, by kind."""
        return {kind: [round(1000 * s, 1) for s in spans] for kind, spans in self.seconds.items()}
