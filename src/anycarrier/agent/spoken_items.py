"""How much of each item of a speech-to-speech model was heard, so that an interruption cuts each where the ear was.

Such a model says its turn in items, sends them faster than they are heard, and is told afterwards where the caller cut
it off: item by item, and never beyond what it has sent of an item, which it refuses. Positions and lengths are seconds
of :attr:`MediaSession.heard`. Pure: nothing here reads a clock.
"""

from typing import NamedTuple


class Truncation(NamedTuple):
    """Where an item ends: what comes after ``audio_end_ms`` was not heard. Rounded down, never beyond its audio."""

    item_id: str
    content_index: int
    audio_end_ms: int


class SpokenItems:
    """The items of one call, in the order in which they are spoken.

        items.sent("item_1", 0, session.queued, 0.1)   # before each session.send_audio
        items.finished("item_1", 0)                    # the model says no more of it
        session.clear_now()                            # the caller interrupts
        for item in items.cut(session.heard):          # item.item_id, item.content_index, item.audio_end_ms
            ...
    """

    def __init__(self) -> None:
        self._spans: list[tuple[tuple[str, int], float, float]] = []
        """Of which item, and from where to where it is heard; deltas that follow each other are one."""
        self._finished: set[tuple[str, int]] = set()

    def sent(self, item_id: str, content_index: int, begins: float, seconds: float) -> None:
        """``seconds`` of an item are about to be sent, to be heard from ``begins`` (``session.queued``) on."""
        key = (item_id, content_index)
        if self._spans and self._spans[-1][2] > begins + 1e-6:  # somebody has cleared: the rest is never heard
            self._spans = [(each, min(start, begins), min(end, begins)) for each, start, end in self._spans]
        if self._spans and self._spans[-1][0] == key and self._spans[-1][2] > begins - 1e-6:
            begins, seconds = self._spans[-1][1], begins + seconds - self._spans.pop()[1]
        self._spans.append((key, begins, begins + seconds))

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
        lengths: dict[tuple[str, int], float] = {}
        for key, begins, end in self._spans:
            lengths[key] = lengths.get(key, 0.0) + min(end, max(begins, heard)) - begins
        playing = {key for key, _, end in self._spans if end > heard + 1e-6}
        going_on = (key for key in lengths if key not in playing and key not in self._finished)
        return [Truncation(*key, int(lengths[key] * 1000 + 1e-6))
                for key in (*filter(playing.__contains__, lengths), *going_on)]  # fmt: skip
