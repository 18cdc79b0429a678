"""The code blocks of a Markdown page: what language, where, and whether they are only shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[\w-]*)")
SHOWN = "<!-- shown -->"


@dataclass(frozen=True)
class Block:
    """``line`` is the fence's, from 1. ``shown``: the line before says that nothing is to be run."""

    page: Path
    line: int
    language: str
    text: str
    shown: bool = False


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of ``page``, in order; those inside HTML comments too, which readers do not see."""
    found: list[Block] = []
    opened: tuple[int, re.Match[str], bool] | None = None
    body: list[str] = []
    before = ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        match = FENCE.match(line)
        if opened is None:
            if match:
                opened, body = (number, match, before == SHOWN), []
            elif line.strip():
                before = line.strip()
            continue
        start, fence, shown = opened
        if match and not match["language"] and match["fence"].startswith(fence["fence"]):
            found.append(Block(page, start, fence["language"], "\n".join(body) + "\n", shown))
            opened, before = None, ""
        else:
            body.append(line.removeprefix(fence["indent"]))
    if opened:
        raise ValueError(f"{page}:{opened[0]}: a code block that never ends")
    return found
