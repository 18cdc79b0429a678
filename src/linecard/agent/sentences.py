"""From text that arrives in bits to pieces worth speaking. Pure.

A voice needs a whole sentence to sound right and the caller should not wait for a paragraph: so pieces end at
sentence ends, and the first one of a turn may end at a comma.
"""

from __future__ import annotations

import re

END = re.compile(
    r"(?<!\bMr\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bMrs\.)(?<!\bSt\.)(?<=[.!?…:;])[\"')\]]*\s+|\n+|(?<=[。！？])"
)
CLAUSE = re.compile(r"(?<=[,–—])\s+")
FIRST_CLAUSE = 24
"""Characters a first clause must have before it is spoken by itself."""
LONGEST = 400
"""Characters after which a sentence that will not end is cut at a space."""


class Sentences:
    """Feed deltas, take pieces; ``flush`` gives the rest."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, delta: str) -> list[str]:
        """Pieces that are complete now."""
        self._text += delta
        pieces: list[str] = []
        while (cut := self._cut()) is not None:
            piece, self._text = self._text[:cut].strip(), self._text[cut:]
            if piece:
                pieces.append(piece)
                self._first = False
        return pieces

    def flush(self) -> list[str]:
        """What is left; the next feed begins a new turn."""
        rest, self._text, self._first = self._text.strip(), "", True
        return [rest] if rest else []

    def _cut(self) -> int | None:
        if match := END.search(self._text):
            return match.end()
        if self._first and (match := CLAUSE.search(self._text, FIRST_CLAUSE)):
            return match.end()
        if len(self._text) > LONGEST:
            return self._text.rfind(" ", 0, LONGEST) + 1 or LONGEST
        return None
