"""From text that arrives in bits to pieces worth speaking. Pure.

A voice needs a whole sentence to sound right and the caller should not wait for a paragraph: so pieces end at
sentence ends, and the first one of a turn may end at a comma. No piece is longer than :data:`LONGEST`, and no cut looks
further than that: the work is in proportion to the text, whatever the text is.
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

    @property
    def pending(self) -> int:
        """Characters that belong to no piece yet."""
        return len(self._text)

    def feed(self, delta: str) -> list[str]:
        """Pieces that are complete now."""
        text = self._text + delta
        pieces: list[str] = []
        start = 0
        while start < len(text) and (length := self._cut(text[start : start + LONGEST + 1])):
            if piece := text[start : start + length].strip():
                pieces.append(piece)
                self._first = False
            start += length
        self._text = text[start:]
        return pieces

    def flush(self) -> list[str]:
        """What is left; the next feed begins a new turn."""
        rest, self._text, self._first = self._text.strip(), "", True
        return [rest] if rest else []

    def _cut(self, window: str) -> int:
        """Characters of the piece that the text begins with, 0 when it is not complete yet."""
        if match := END.search(window):
            return match.end()
        if self._first and (match := CLAUSE.search(window, FIRST_CLAUSE)):
            return match.end()
        if len(window) > LONGEST:
            return window.rfind(" ", 0, LONGEST) + 1 or LONGEST
        return 0
