"""How much of each of the model's items the far end has heard, so that an interruption truncates each where it was cut.

The Realtime API refuses an ``audio_end_ms`` beyond an item's audio ("already shorter than"), and some agents then stay
silent for the rest of the call. So each item is clamped to its own length. Positions and lengths are seconds of the
session's ``heard``. Pure: nothing here reads a clock.
"""

from __future__ import annotations

from typing import NamedTuple


class Truncation(NamedTuple):
    """The fields of ``conversation.item.truncate``: what comes after ``audio_end_ms`` of this item was not heard."""

    item_id: str
    content_index: int
    audio_end_ms: int


class SpokenItems:
    """The items of one call that are not yet known to be heard whole, in the order in which they are spoken."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, int], list[list[float]]] = {}
        """By item, from where to where it is heard; deltas that follow each other are one span."""
        self._finished: set[tuple[str, int]] = set()

    def sent(self, item_id: str, content_index: int, begins: float, seconds: float) -> None:
        """``seconds`` of an item are about to be sent, to be heard from ``begins`` (``session.queued``) on."""
        for each in self._spans.values():  # somebody has cleared if the timeline went back: the rest is never heard
            each[:] = [[start, min(end, begins)] for start, end in each if start < begins]
        spans = self._spans.setdefault((item_id, content_index), [])
        if spans and abs(spans[-1][1] - begins) < 1e-6:
            spans[-1][1] = begins + seconds
        else:
            spans.append([begins, begins + seconds])

    def finished(self, item_id: str, content_index: int) -> None:
        """The model has no more audio for this item."""
        self._finished.add((item_id, content_index))

    def audible(self, heard: float) -> Truncation | None:
        """The item being heard, else one that is to go on; None when everything was heard to its end."""
        return next(iter(self._unheard(heard)), None)

    def cut(self, heard: float) -> list[Truncation]:
        """What is not heard by now never will be. Returns where each item ends, in order, and forgets them."""
        cut = self._unheard(heard)
        self._spans.clear()
        self._finished.clear()
        return cut

    def _unheard(self, heard: float) -> list[Truncation]:
        unheard, unfinished = [], []
        for key, spans in list(self._spans.items()):
            length = sum(min(end, max(begins, heard)) - begins for begins, end in spans)
            truncation = Truncation(*key, int(length * 1000 + 1e-6))  # rounded down: no fraction beyond the audio
            if spans and spans[-1][1] > heard + 1e-6:
                unheard.append(truncation)
            elif key not in self._finished:
                unfinished.append(truncation)
        return unheard + unfinished
