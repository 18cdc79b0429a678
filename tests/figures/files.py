"""``python tests/figures/files.py``: how the tree is cut into files.

By distribution: files, code lines, files for each 1,000 code lines, the median and the longest file.
``python tests/figures/files.py PATH`` measures another checkout. Code lines are lines without blank lines, comments and
docstrings; "lines" are all of them. Migrations are records, written once and never merged, so they are left out. Below
the table: file names that one distribution uses more than once. In a stack trace or an open-file dialog such a name
does not say which file is meant.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
MOST_FILES = 7.0
"""Files for each 1,000 code lines, over all distributions together."""
LEAST_MEDIAN = 90
"""Code lines of the middle file."""
LONGEST = 600
"""Lines of the longest file, whatever they are."""


def code_lines(text: str) -> int:
    """Lines with code on them."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - prose)


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file shipped, with the name of its distribution's package."""
    for pattern in ("src", "providers/*/src", "contrib/*/src"):
        for folder in sorted(root.glob(pattern)):
            for path in sorted(folder.rglob("*.py")):
                if "migrations" not in path.parts and "template" not in path.parts:
                    yield path.relative_to(folder).parts[0], path


def figures(root: Path) -> dict[str, list[tuple[Path, int, int]]]:
    """By package, and under ``all``: each file with its code lines and its lines."""
    found: dict[str, list[tuple[Path, int, int]]] = {"all": []}
    for package, path in sources(root):
        text = path.read_text()
        if not text.strip():
            continue  # an empty __init__ is a marker
        row = (path.relative_to(root), code_lines(text), text.count("\n"))
        found.setdefault(package, []).append(row)
        found["all"].append(row)
    return found


def names_used_twice(rows: list[tuple[Path, int, int]]) -> list[tuple[str, int]]:
    """File names that occur more than once, most frequent first; a package's own ``__init__`` has no other name."""
    counted = Counter(path.stem for path, _, _ in rows if path.stem not in ("__init__", "__main__"))
    return [(name, times) for name, times in counted.most_common() if times > 1]


def main() -> int:
    """Print the table; 1 when the whole tree misses a target."""
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    print(f"{'':<30} files   code  per 1,000  median  longest")
    missed = False
    measured = figures(root)
    for package, rows in measured.items():
        code = sum(row[1] for row in rows)
        middle = median(row[1] for row in rows)
        longest = max(rows, key=lambda row: row[2])
        ratio = 1000 * len(rows) / code
        print(f"{package:<30} {len(rows):>5} {code:>6} {ratio:>10.1f} {middle:>7.0f}  {longest[2]} {longest[0]}")
        if package == "all":
            missed = ratio > MOST_FILES or middle < LEAST_MEDIAN or longest[2] > LONGEST
    print(f"{'target, over all':<30} {'':>12} {MOST_FILES:>10.1f} {LEAST_MEDIAN:>7}  {LONGEST}")
    print("\nfile names used more than once")
    for package, rows in measured.items():
        if package != "all":
            names = names_used_twice(rows)
            listed = ", ".join(f"{name} {times}" for name, times in names) or "none"
            print(f"{package:<30} {len(names):>5}  {listed}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
