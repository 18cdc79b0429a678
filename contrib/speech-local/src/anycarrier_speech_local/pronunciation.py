"""The dictionary a decoder needs, and no more: a full one costs a second and forty megabytes a decoder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

# What in a JSGF text is no word to be said: comments, weights, tags, rule names, header, keywords.
_NO_WORDS = re.compile(
    r"//[^\n]*|/\*.*?\*/|/[\d.]+/|\{[^}]*\}|<[^>]*>|#JSGF[^;]*;|\b(?:public|grammar\s+[\w.]+|import)\b", re.DOTALL
)


class UnknownWords(ValueError):
    """Words nobody knows how to pronounce."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(sorted(words))
        example = self.words[0]
        super().__init__(
            f"no pronunciation for {', '.join(map(repr, self.words))}. Spell them as English words, or give "
            f'pronunciations={{"{example}": "..."}} in ARPABET'
        )


def grammar_words(grammar: str) -> list[str]:
    """The words a JSGF grammar may produce."""
    text = _NO_WORDS.sub(" ", grammar)
    return sorted({word.strip("'") for word in re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text.lower())} - {""})


@cache
def _dictionary(path: Path) -> bytes:
    return b"\n" + path.read_bytes()


def trimmed(words: Iterable[str], path: Path, extra: Mapping[str, str]) -> str:
    """The lines of the pronouncing dictionary at ``path`` for ``words``, all variants; ``extra`` comes first.

    :class:`UnknownWords` for words that are in neither.
    """
    text = _dictionary(path)
    own = {word.lower(): phones for word, phones in extra.items()}
    lines, missing = [], []
    for word in sorted(set(words)):
        if word in own:
            lines.append(f"{word} {own[word]}")
            continue
        found = _line(text, word)
        if found is None:
            missing.append(word)
            continue
        lines.append(found)
        variant = 2
        while (found := _line(text, f"{word}({variant})")) is not None:
            lines.append(found)
            variant += 1
    if missing:
        raise UnknownWords(missing)
    return "\n".join(lines) + "\n"


def _line(text: bytes, word: str) -> str | None:
    at = text.find(f"\n{word} ".encode())
    if at < 0:
        return None
    end = text.find(b"\n", at + 1)
    return text[at + 1 : end if end >= 0 else len(text)].decode().strip()
