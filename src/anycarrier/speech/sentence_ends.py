"""Where a sentence ends: what a voice reads in one go, and where text that arrives in parts may be cut.

A stop after an abbreviation ends nothing. Text may still be arriving, so whatever cannot be decided without the next
word is not an end until that word is there.
"""

from __future__ import annotations

import re

NEVER_LAST = (
    "Mr Mrs Ms Dr Prof Rev Hon Gen Sen Rep Gov Capt Lt Col Sgt Mt Ft St"
    " apt Apt ext Ext ste Ste fig Fig vol Vol vs approx Approx e.g E.g i.e I.e cf incl z.B d.h bzw ca"
).split()
"""Abbreviations that another word follows."""

BEFORE_NUMBER = "no No nos Nos Nr nr pp art Art tel Tel".split()
"""Abbreviations only before a number: "Order no. 7", but "I said no. Thank you"."""

SOMETIMES_LAST = (
    "etc Inc Ltd Co Corp Jr Sr Ave Blvd Rd Hwy dept Dept min max est hrs a.m p.m A.M P.M"
    " Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
).split()
"""Abbreviations that may end a sentence too: they do if the next word begins with a capital letter."""


def _unless(words: list[str]) -> str:
    """Not after one of these and a stop. A look-behind has one length, so there is one for each length."""
    lengths = {length: "|".join(re.escape(w) for w in words if len(w) == length) for length in {*map(len, words)}}
    return "".join(rf"(?<!\b(?:{same})\.)" for _, same in sorted(lengths.items()))


_MONTHS = "Januar Jänner Februar Feber März April Mai Juni Juli August September Oktober November Dezember".split()
"""Capitalized months of a language that writes "3. März"; other languages write them small."""

_ORDINAL = (
    r"(?!(?:(?<=\b\d\.)|(?<=\b\d\d\.))\s+"
    rf"(?:$|[a-zà-öø-þÿāčěřšžœđł]|[A-ZÄÖÜ][^\W\d_]{{0,9}}$|(?:{'|'.join(_MONTHS)})\b))"
)
_CLOSED = r"[\"')\]”’“]*"

SENTENCE_END = re.compile(
    rf"(?<=[.!?…:;]){_ORDINAL}(?!(?<=\b[zduoi]\.)\s(?:$|[a-zA-ZÄÖÜäöü](?:$|\.)))(?:(?<!\.)|{_unless(NEVER_LAST)}(?<!\b[A-Z]\.)(?<!^\d\.)(?<!\n\d\.)"
    rf"(?:{_unless(BEFORE_NUMBER)}|(?=\s+[^\s\d]))"
    rf"(?:{_unless(SOMETIMES_LAST)}|(?=\s+[A-Z])))"
    rf"{_CLOSED}\s+"
    r"|\n+"
    r"|(?<=[。！？])"
)
"""Matches from the last character of a sentence to the first of the next."""
