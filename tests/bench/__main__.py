"""``./dev bench NAME``: run ``bench_NAME.py`` beside this file; without a name, list them.

A bench prints its table, or with ``--json`` one JSON object, and exits 1 when a bound it states was not kept.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHES = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        for name, path in BENCHES.items():
            print(f"{name:<14}{(ast.get_docstring(ast.parse(path.read_text())) or '').splitlines()[0]}")
        return 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"bench {name}"
    runpy.run_path(str(BENCHES[name]), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
