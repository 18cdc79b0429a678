"""How long to wait in silence before the caller's utterance is over, by the words so far. Pure.

The silence alone does not tell a caller who has finished from one who is thinking. The words often do, if the
recognizer punctuates: "I would like to book a table for" is not the end of anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from anycarrier.speech.turn_state import TurnSettings

EndOfTurn = Callable[[str, TurnSettings], float]
"""From the words so far, never empty, to the seconds of silence that end the utterance."""

INCOMPLETE_LAST_WORDS = frozenset(
    "a an the my your our their and or but because if although unless whether um uh er"
    " i'm i'd i'll i've you're you'd you'll you've we're we'd we'll we've they're they'd they'll they've"
    " he's he'd he'll she's she'd she'll it's it'd it'll that's there's mr mrs ms dr".split()
)
"""English words that no sentence ends with, also if the recognizer has put a full stop behind them."""

QUESTION_LAST_WORDS = frozenset("I we he she they about at by for from in into of on than to with which".split())
"""English words that end a question ("who is it for?"), but hardly any other sentence."""

QUESTION_MARKS = ("?", "？", "؟")
END_MARKS = (".", "!", "。", "！", "।", *QUESTION_MARKS)
ELLIPSES = ("..", "…")
CLOSING = " \"'”’»)]"
"""What may follow a mark that ends a sentence."""

_WORD = re.compile(r"\w+(?:['’]\w+)?")


def end_of_turn(text: str, settings: TurnSettings) -> float:
    """Seconds of silence after which an utterance with these words is over: ``endpointing``, or
    ``incomplete_endpointing`` if the recognizer punctuates and the words cannot be an end.

    They cannot if no ``.``, ``?`` or ``!`` comes last ("..." is none), or if the last word is one that ends no
    sentence. A missing mark says nothing after a figure or a single word: recognizers write digit strings and short
    answers without one ("4 7 1 9", "Today"). A comma or a dash says that more was to come, there too.
    """
    if settings.punctuated and text and not _may_end(text):
        return settings.incomplete_endpointing
    return settings.endpointing


def _may_end(text: str) -> bool:
    sentence = text.rstrip(CLOSING)
    words = _WORD.findall(sentence)
    if sentence.endswith(ELLIPSES):
        return False
    if not sentence.endswith(END_MARKS) and not (
        sentence[-1:].isdigit() or (len(words) == 1 and sentence[-1:].isalpha())
    ):
        return False
    if not words:
        return True
    last = words[-1].replace("’", "'")
    word = last if len(last) == 1 else last.lower()  # "A" is a letter that was spelled
    return word not in INCOMPLETE_LAST_WORDS and (sentence.endswith(QUESTION_MARKS) or word not in QUESTION_LAST_WORDS)
