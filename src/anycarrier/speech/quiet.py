"""How long nobody has said anything."""

from __future__ import annotations


class Quiet:
    """Told once for each silence. ``limit`` in seconds, None: never."""

    def __init__(self, limit: float | None, at: float) -> None:
        self.limit = limit
        self._since = at
        self._told = False

    @property
    def due(self) -> float | None:
        """When the limit is reached if nothing is heard until then, None when it was told or never will be."""
        return None if self.limit is None or self._told else self._since + self.limit

    def stir(self, at: float) -> None:
        """Somebody said something."""
        self._since, self._told = at, False

    def tell(self, at: float) -> float:
        """Seconds of silence so far; the limit is then not reached again before a stir."""
        self._told = True
        return at - self._since
