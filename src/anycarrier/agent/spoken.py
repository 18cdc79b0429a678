"""Which words were heard of those that were sent. Pure.

Audio is put beside its text as it is sent; when playback is cut, the position tells how far the words came.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Piece:
    """A sentence and where its sound lies on the timeline of heard audio, in seconds."""

    text: str
    start: float
    end: float


@dataclass(slots=True)
class SpokenText:
    """The pieces of one turn in order."""

    pieces: list[Piece] = field(default_factory=list)

    def begin(self, text: str, at: float) -> None:
        """The next piece begins to be sent; its sound will be heard from ``at`` on."""
        self.pieces.append(Piece(text, at, at))

    def extend(self, to: float) -> None:
        """More sound of the present piece was sent."""
        self.pieces[-1].end = to

    @property
    def text(self) -> str:
        """All words sent."""
        return " ".join(piece.text for piece in self.pieces)

    def heard(self, position: float) -> str:
        """The words heard when playback has come to ``position``.

        A sentence cut in the middle counts by its share of time, whole words only: speech is even enough for that.
        """
        words: list[str] = []
        for piece in self.pieces:
            if position >= piece.end - 0.02:
                words.append(piece.text)
                continue
            if position > piece.start:
                parts = piece.text.split()
                share = (position - piece.start) / (piece.end - piece.start)
                words.extend(parts[: int(len(parts) * share)])
            break
        return " ".join(words)
