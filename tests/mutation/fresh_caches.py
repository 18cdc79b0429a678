"""A pytest plugin of ``./dev mutate``: no cache of ours survives from one test to the next.

mutmut tries each bug in a fork of a process that has run the unchanged code, and only with the tests that were seen to
call the changed function. What a cache remembers would hide the bug in the one case and the test in the other.
"""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _fresh_caches() -> None:
    clear_caches()


def clear_caches() -> None:
    """Empty every ``functools.cache`` on a function of a module of ours."""
    for name, module in list(sys.modules.items()):
        if name.startswith("anycarrier"):
            for clear in [getattr(value, "cache_clear", None) for value in list(vars(module).values())]:
                if clear is not None:
                    clear()
