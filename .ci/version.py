"""``./dev version`` prints the version; ``./dev version 0.2.0`` sets it, everywhere it is written.

All distributions of the repository carry one version and are released together. A new version is written into every
pyproject, each distribution then needs that library or a newer one of the same major version, and the changelog's
Unreleased section becomes the version's. Examples are not published; they keep their own version.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)
PIN = re.compile(r'"(anycarrier(?:-[\w-]+)?(?:\[[\w,-]+\])?)>=[^"]*"')
UNRELEASED = "## [Unreleased]\n"


class Refused(Exception):
    """Nothing was changed, and why."""


def distributions(root: Path) -> list[Path]:
    """The pyprojects of what is published, the library first."""
    return [root / "pyproject.toml", *sorted(root.glob("providers/*/pyproject.toml")),
            *sorted(root.glob("contrib/*/pyproject.toml"))]  # fmt: skip


def current(root: Path) -> Version:
    """The one version that every distribution carries."""
    found = {path: VERSION.findall(path.read_text()) for path in distributions(root)}
    if len({tuple(each) for each in found.values()}) != 1 or len(found[root / "pyproject.toml"]) != 1:
        told = ", ".join(f"{path.parent.name} {' '.join(each) or 'none'}" for path, each in found.items())
        raise Refused(f"the distributions disagree on their version: {told}")
    return Version(found[root / "pyproject.toml"][0])


def with_version(pyproject: str, new: Version) -> str:
    """A pyproject's text with the new version, and pins to our other distributions that begin at it."""
    text = VERSION.sub(f'version = "{new}"', pyproject)
    return PIN.sub(rf'"\1>={new},<{new.major + 1}"', text)


def with_release(changelog: str, new: Version, today: date) -> str:
    """The changelog's text with what is unreleased under the new version."""
    before, heading, after = changelog.partition(UNRELEASED)
    notes = after.partition("\n## [")[0]
    if not heading or not re.search(r"^- ", notes, re.MULTILINE):
        raise Refused("CHANGELOG.md has nothing under [Unreleased]; write what changed before you release it")
    return f"{before}{UNRELEASED}\n## [{new}] - {today.isoformat()}\n{after}"


def left_behind(root: Path, new: Version) -> list[str]:
    """Examples whose requirement the new version does not meet."""
    found = []
    for path in sorted(root.glob("docs/examples/*/pyproject.toml")):
        for pin in re.findall(r'"(anycarrier[^"]*[<>=][^"]*)"', path.read_text()):
            if not Requirement(pin).specifier.contains(new, prereleases=True):
                found.append(f"{path.relative_to(root)} requires {pin}; change it, and its copies in docs/, by hand")
    return found


def bump(root: Path, wanted: str, today: date) -> list[Path]:
    """Write the new version wherever it belongs; the files that changed."""
    try:
        new = Version(wanted)
    except InvalidVersion:
        raise Refused(f"{wanted} is no version; write it like 0.2.0 or 0.2.0rc1") from None
    if new.local or new.epoch:
        raise Refused(f"{wanted} cannot be published: write it without an epoch and a local part")
    if new <= (old := current(root)):
        raise Refused(f"{new} does not come after {old}, the version now")
    if behind := left_behind(root, new):
        raise Refused("\n".join(behind))
    texts = {path: with_version(path.read_text(), new) for path in distributions(root)}
    texts[root / "CHANGELOG.md"] = with_release((root / "CHANGELOG.md").read_text(), new, today)
    for path, text in texts.items():
        path.write_text(text)
    return list(texts)


def main(words: Sequence[str]) -> int:
    """0 when it printed or set the version; 1 when it refused."""
    try:
        if not words:
            print(current(ROOT))
            return 0
        for path in bump(ROOT, words[0], datetime.now(UTC).date()):
            print(path.relative_to(ROOT))
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print("Next: ./dev directory, ./dev test tests/docs --write-docs, then docs/releasing.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
