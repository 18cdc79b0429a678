"""``anycarrier matrix``: the capability table as Markdown; written to a page, or checked against one."""

from __future__ import annotations

import sys
from pathlib import Path

from anycarrier.cli.words import Parser, about
from anycarrier.matrix import matrix
from anycarrier.plugins import get_provider, provider_names


def main(argv: list[str]) -> int:
    """Print, write or check; a stale page is 1."""
    parser = Parser(prog="anycarrier matrix", description=about(__doc__))
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", type=Path, metavar="PAGE", help="write the page")
    where.add_argument("--check", type=Path, metavar="PAGE", help="fail if the page is not what the plugins say")
    options = parser.parse_args(argv)
    page = matrix(get_provider(name) for name in provider_names())
    if options.write:
        options.write.write_text(page)
    elif options.check:
        if not options.check.is_file() or options.check.read_text() != page:
            print(f"{options.check} is stale: anycarrier matrix --write {options.check}", file=sys.stderr)
            return 1
    else:
        print(page, end="")
    return 0
