"""``./dev frameworks [NAME] [...]``: type-check and test the adapters for frameworks, each in its own environment.

Other arguments go to pytest. ``ANYCARRIER_NEWEST=1`` does the same with the newest versions on the index, unless those
are the pinned ones. The environments are in ``.venv-frameworks``, or in the folder ``ANYCARRIER_FRAMEWORKS`` names.

    ./dev frameworks --pin [NAME]     renews contrib/NAME/constraints.txt with the newest of everything
    ./dev frameworks --python NAME    makes the environment, and prints its Python
    ./dev demo frameworks [NAME]      runs the examples that need neither an account nor a model
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path[:1] = [str(Path(__file__).resolve().parents[1])]  # as pytest has it

from frameworks import demo, environments  # noqa: E402
from frameworks.environments import MADE_ON, ROOT, Environment, Framework, Refused, canonical, name_of, say  # noqa: E402

EVERY_ADAPTER = "tests/frameworks/test_every_adapter.py"
SIDE_BY_SIDE = ("-n", "4", "--dist", "worksteal")
"""Most of these tests wait for speech at its own pace, as those of ``./dev test`` do."""


def test(framework: Framework, words: Sequence[str], *, newest: bool) -> int:
    """Type-check it and run its tests; the first exit code that is not 0."""
    environment = Environment(framework, newest=newest)
    pinned = framework.pinned()
    if newest:
        beyond = environments.newest_versions(framework, any_version=True)
        within = environments.newest_versions(framework)
        if outside := {name: version for name, version in beyond.items() if version != within[name]}:
            say(f"{framework.name}: outside the window that its wheel allows: {told_versions(framework, outside)}")
        if all(pinned[name] == version for name, version in within.items()):
            told = told_versions(framework, pinned)
            say(f"{framework.name}: {told}, as pinned, is the newest on the index: the run with the pins stands for it")
            return 0
    environment.set_up()
    installed = {canonical(name): version for name, version in environment.versions().items()}
    say(f"\n{framework.name}: {told_versions(framework, installed)}{', the newest' if newest else ''}")
    source = f"contrib/{framework.name}/src"
    cache = environment.folder / ".mypy_cache"  # its library is another than the ordinary environment's
    checked = run(environment, "mypy", "--strict", "--cache-dir", str(cache), source)
    named = any(Path(ROOT / word.partition("::")[0]).exists() for word in words)
    own = f"tests/frameworks/{framework.name}"
    if not named and not [*(ROOT / own).glob("**/test_*.py")]:
        say(f"{framework.name}: there are no tests in {own}")
        return 1
    tested = run(environment, "pytest", *([] if named else [*SIDE_BY_SIDE, own, EVERY_ADAPTER]), *words)
    return checked or tested


def run(environment: Environment, module: str, *words: str) -> int:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [str(environment.python), "-m", module, *words]
    return subprocess.run(command, cwd=ROOT, env=clean).returncode


def told_versions(framework: Framework, versions: dict[str, str]) -> str:
    asked = [canonical(name_of(each)) for each in framework.requires]
    return ", ".join(f"{name} {versions[name]}" for name in asked if name in versions)


def pin(framework: Framework) -> None:
    """Write down the newest of everything, as a new environment gets it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(framework, newest=True, folder=Path(folder))
        environment.set_up()
        lines = [f"{name}=={version}" for name, version in environment.versions().items()]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    heading = f"{MADE_ON}{python}: ./dev frameworks --pin {framework.name}"
    framework.pins.write_text("\n".join((heading, *lines)) + "\n")
    say(f"contrib/{framework.name}/constraints.txt: {len(lines)} pins")


def main(words: list[str]) -> int:
    """The exit code: 0 when all that was asked went well."""
    option = words.pop(0) if words and words[0] in ("--pin", "--python", "--demo") else ""
    names = [words.pop(0)] if words and not words[0].startswith("-") else []
    try:
        if option == "--demo":
            return demo.run(demo.examples(names))
        frameworks = environments.chosen(names)
        if option == "--python":
            if not names:
                raise Refused("--python needs a framework's name")
            environment = Environment(frameworks[0])
            environment.set_up()
            print(environment.python)
            return 0
        if option == "--pin":
            for framework in frameworks:
                pin(framework)
            return 0
        newest = os.environ.get("ANYCARRIER_NEWEST") == "1"
        codes = {each.name: test(each, words, newest=newest) for each in frameworks}
    except Refused as refusal:
        say(refusal)
        return 2
    if failed := [name for name, code in codes.items() if code]:
        say(f"failed: {', '.join(failed)}")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
