"""Text made fit to be spoken: markup out, digits one by one where they are no quantity, cut into sentences."""

from __future__ import annotations

import re

LONGEST = 400
"""Characters in one piece; longer sentences are cut at a comma or a space, so that the first sound is not late."""

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_URL = re.compile(r"https?://(?:www\.)?([^\s/]+)(?:/\S*)?")
_MARKUP = re.compile(r"<[^<>]*>|[*_`#>|~]+")
_LONG_DIGITS = re.compile(r"\+?\d[\d ().-]{4,}\d")
_SENTENCE = re.compile(r"(?<=[.!?;:])[\"')\]]*\s+|\n+")


def plain(text: str) -> str:
    """``text`` as it should be read out: no markdown, no control characters, telephone numbers digit by digit."""
    text = _URL.sub(r"\1", _LINK.sub(r"\1", text))
    text = _MARKUP.sub(" ", text)
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    text = _LONG_DIGITS.sub(_digits, text)
    return "\n".join(line for line in (re.sub(r"[^\S\n]+", " ", part).strip() for part in text.split("\n")) if line)


def _digits(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match.group())
    if len(digits) < 6:
        return match.group()
    plus = "plus " if match.group().startswith("+") else ""
    return plus + " ".join(digits)


def sentences(text: str) -> list[str]:
    """``text``, made plain, in pieces that are spoken one after the other."""
    pieces: list[str] = []
    for sentence in _SENTENCE.split(plain(text)):
        sentence = sentence.strip()
        while len(sentence) > LONGEST:
            cut = max(sentence.rfind(", ", 0, LONGEST), sentence.rfind("; ", 0, LONGEST))
            cut = cut if cut > LONGEST // 4 else sentence.rfind(" ", 0, LONGEST)
            cut = cut if cut > 0 else LONGEST
            pieces.append(sentence[: cut + 1].strip())
            sentence = sentence[cut + 1 :].strip()
        if any(c.isalnum() for c in sentence):
            pieces.append(sentence)
    return pieces
