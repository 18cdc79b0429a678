"""Where the house documents are: carriers' OpenAPI documents and real payloads, beside the checkout, never in it.

A test that needs one asks here, and is skipped with the reason where it is absent. Under ``ANYCARRIER_CI=1`` the
conftest turns such a skip into a failure.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ANYCARRIER_SHARED") or ROOT.parent / "shared")


def shared_path(*parts: str) -> Path:
    """``shared_path("specs", "x.json")``; skips the test, or the whole module when called at its top, if absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(('../shared', *parts))}, which is absent here", allow_module_level=True)
    return path
