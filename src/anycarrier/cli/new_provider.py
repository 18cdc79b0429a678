"""``anycarrier new-provider NAME``: begin a carrier plugin of your own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from anycarrier.cli.words import Parser, about


def main(argv: list[str]) -> int:
    """Write the folder and say what comes next."""
    parser = Parser(prog="anycarrier new-provider", description=about(__doc__))
    parser.add_argument("name", help="what the carrier is called: lower case, a-z 0-9 _ -")
    parser.add_argument("folder", nargs="?", type=Path, help="where to put it (default: ./anycarrier-NAME)")
    options = parser.parse_args(argv)
    folder = options.folder or Path(f"anycarrier-{options.name}")
    # The kit needs pytest, which people who only make calls do not have: it is imported by its name, when asked for.
    import_module("anycarrier.testing.scaffold").new_provider(options.name, folder)
    print(f"{folder} is a carrier plugin with its parts to fill in.")
    print(f"Next: pip install -e {folder}; then pytest {folder} says what is missing. See docs/write-a-provider.md.")
    return 0
