"""The table of ``./dev mutate``: its rooms are there, and what it leaves out is text only."""

from __future__ import annotations

from pathlib import Path

import pytest

from anycarrier import numbering_plan
from mutation.__main__ import ROOMS, ROOT, SQLITE_ENOUGH, _called_on_import, _line_of, _only_wording
from mutation.fresh_caches import clear_caches


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_and_its_tests_are_there(room: str) -> None:
    missing = [name for part in ROOMS[room] for name in part.split() if not (ROOT / name).exists()]
    assert not missing
    assert set(SQLITE_ENOUGH) <= set(ROOMS)


@pytest.mark.parametrize(
    ("before", "after", "left_out"),
    [
        ('raise Refused("it is over")', 'raise Refused("XXit is overXX")', True),
        ('raise Refused(f"{name} is over")', 'raise Refused(f"XX{name} is overXX")', True),
        ('status = "ended"', 'status = "XXendedXX"', False),
        ('raise Refused("it is over")', "raise Refused(None)", False),
        ("if a <= b:", "if a < b:", False),
    ],
)
def test_only_text_for_people_is_left_out(before: str, after: str, left_out: bool) -> None:
    assert _only_wording(f"--- a\n+++ b\n@@ -1 +1 @@\n def f():\n-    {before}\n+    {after}\n") is left_out


def test_a_survivor_is_told_with_its_line() -> None:
    source = "async def answer():\n    pass\n\nclass Desk:\n    x = 1\n\n    def answer(self):\n        pass\n"
    assert _line_of(source, "x_answer") == 1
    assert _line_of(source, "xǁDeskǁanswer") == 7


def test_a_function_that_runs_on_import_is_told_from_one_that_runs_later() -> None:
    source = "def _query():\n    return _later()\n\ndef _later():\n    return 1\n\nQUERY = Statement(_query())\n"
    assert _called_on_import(source, "_query")
    assert not _called_on_import(source, "_later")


def test_the_mutation_tool_is_pinned() -> None:
    assert "mutmut==" in Path(ROOT / "constraints.txt").read_text()


def test_no_cache_of_ours_outlives_a_test() -> None:
    numbering_plan.reach("+14155550100")
    clear_caches()
    assert numbering_plan.reach.cache_info().currsize == numbering_plan._ranges.cache_info().currsize == 0
