"""``anycarrier providers``, ``engines``, ``matrix``, ``new-provider`` and ``new-engine``: commands about plugins.

A new plugin is a folder in which one part works and the rest is left to write. Its templates are in
``testing/template``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, metadata, version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from anycarrier.agent import AgentSettings, EngineChoice, Engines
from anycarrier.cli import Parser, of_the_service
from anycarrier.errors import ConfigurationError
from anycarrier.plugins import broken_plugins, capability_matrix, get_provider, provider_names
from anycarrier.speech import get_speech_engine, speech_engine_names
from anycarrier.testing.cassettes import shipped
from anycarrier.testing.kit_report import KitReport, facts_of, shipped_report


def describe(name: str) -> dict[str, Any]:
    """The facts that ``anycarrier providers`` prints about one carrier."""
    provider = get_provider(name)
    facts = facts_of(name, shipped(name))
    report, problem = _shipped_report(name)
    tested = report is not None and (report.wheel, report.version) == (facts.wheel, facts.version)
    return {
        "name": name,
        "title": provider.title,
        "wheel": facts.wheel,
        "version": facts.version,
        "contract": facts.contract,
        "capabilities": sorted(provider.capabilities),
        "credential": sorted(provider.credential_type.model_fields),
        "sandbox": bool(provider.sandbox),
        "cassettes": dict(report.cassettes if report is not None and tested else facts.cassettes),
        "maintained_by": _maintainer(facts.wheel),
        "kit": report and asdict(report),
        "kit_verdict": problem or (report and _verdict(report, tested)) or "no report in the wheel",
        "module": provider.__module__.partition(".")[0],
    }


def _shipped_report(name: str) -> tuple[KitReport | None, str]:
    """What the conformance kit said, by the wheel's own report; and what is wrong with that report."""
    try:
        return shipped_report(name), ""
    except ConfigurationError as unreadable:
        return None, str(unreadable)


def _verdict(report: KitReport, tested: bool) -> str:
    """Dated, and of which version where it is not the one installed."""
    return f"{report.verdict}, {report.date}" + ("" if tested else f", of {report.wheel} {report.version}")


def _maintainer(wheel: str) -> str:
    """Who the wheel says maintains it, or wrote it; "" when it says neither, or there is no wheel."""
    try:
        told = metadata(wheel).json
    except (PackageNotFoundError, ValueError):
        return ""
    found = (told.get(key) for key in ("maintainer", "maintainer_email", "author", "author_email"))
    return next((str(value) for value in found if value), "")


def _counted(cassettes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {said}" for said, count in cassettes.items() if count) or "none in the wheel"


def providers(argv: list[str]) -> int:
    """The carriers installed here, what each can do, what tested it, and the plugins that could not be loaded."""
    parser = Parser(prog="anycarrier providers", description=providers.__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(argv)
    found = [describe(name) for name in provider_names()]
    broken = {name: str(error) for name, error in broken_plugins().items()}
    if options.json:
        print(json.dumps({"providers": found, "broken": broken}))
        return 1 if broken else 0
    if not found:
        print("No carrier is installed. Plugins are distributions of their own: docs/quickstart.md says from where")
    for one in found:
        sandbox = "with a sandbox" if one["sandbox"] else "no sandbox"
        wheel = f"{one['wheel']} {one['version']}" if one["wheel"] else one["module"]
        print(f"{one['name']:<12} {one['title']}, {sandbox}")
        print(f"{'':<12} from: {wheel}, contract {one['contract']}")
        print(f"{'':<12} credential: {', '.join(one['credential'])}")
        print(f"{'':<12} can also: {', '.join(one['capabilities']) or 'nothing beyond the contract'}")
        print(f"{'':<12} cassettes: {_counted(one['cassettes'])}")
        print(f"{'':<12} kit: {one['kit_verdict']}")
        print(f"{'':<12} maintained by: {one['maintained_by'] or 'the wheel does not say'}")
    for name, reason in broken.items():
        print(f"{name:<12} NOT LOADED: {reason}")
    return 1 if broken else 0


def engines(argv: list[str]) -> int:
    """The speech engines installed here, whether each is ready, and which ones an agent uses that names none. Loads
    those of this machine to tell. With anycarrier-server, this command shows the service's engines instead.
    """
    parser = Parser(prog="anycarrier engines", description=engines.__doc__)
    parser.add_argument("--language", default="en", help="of the agent, default en")
    parser.add_argument("--grammar", action="store_true", help="the agent has a grammar")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    for word in (word.partition("=")[0] for word in argv):
        if word in ("--agent", "ls", "set", "verify", "rm"):
            raise ConfigurationError(of_the_service(f"engines {word}"))
    options = parser.parse_args(argv)
    settings = AgentSettings(language=options.language, grammar="." if options.grammar else None)
    logging.basicConfig(level=logging.CRITICAL)  # what does not start is in the table
    found, choices = asyncio.run(_look_at_engines(settings))
    broken = {name: str(error) for name, error in broken_plugins().items()}
    bad = bool(broken) or any(one["why_not"] is not None and not one["remote"] for one in found)
    if options.json:
        print(json.dumps({"engines": found, "used": [asdict(one) for one in choices], "broken": broken}))
        return 1 if bad else 0
    if not found:
        print("No speech engine is installed. docs/speech.md lists the engines and how to install them")
    for one in found:
        where = "remote" if one["remote"] else f"on this machine, rank {one['rank']}"
        print(f"{one['name']:<12} can {', '.join(one['abilities'])}; {where}; {one['why_not'] or 'ready'}")
    for name, reason in broken.items():
        print(f"{name:<12} NOT LOADED: {reason}")
    print(f"\nAn agent that names no engine, in {options.language!r}{', with a grammar' if options.grammar else ''}:")
    for choice in choices:
        then = f"; then {', '.join(choice.fallbacks)}" if choice.fallbacks else ""
        note = f". {choice.problem or choice.warning}" if choice.problem or choice.warning else ""
        print(f"  {choice.ability:<7} {choice.engine or 'none'} ({choice.reason}){then}{note}")
    return 1 if bad else 0


async def _look_at_engines(settings: AgentSettings) -> tuple[list[dict[str, Any]], list[EngineChoice]]:
    """Each engine, those of this machine loaded; and which ones an agent with these settings uses."""
    shared = Engines()
    kinds = [get_speech_engine(name) for name in speech_engine_names()]
    try:
        await shared.start(kind.name for kind in kinds if not kind.remote)
        found = [
            {
                "name": kind.name,
                "abilities": sorted(kind.abilities),
                "remote": kind.remote,
                "rank": kind.rank,
                "why_not": shared.problem(min(kind.abilities, default="speak"), kind.name),
            }
            for kind in kinds
        ]
        return found, shared.explain(settings)
    finally:
        await shared.aclose()


def matrix(argv: list[str]) -> int:
    """The capability table as Markdown; written to a page, or checked against one."""
    parser = Parser(prog="anycarrier matrix", description=matrix.__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", type=Path, metavar="PAGE", help="write the page")
    where.add_argument("--check", type=Path, metavar="PAGE", help="fail if the page is not what the plugins say")
    options = parser.parse_args(argv)
    page = capability_matrix(get_provider(name) for name in provider_names())
    if options.write:
        options.write.write_text(page)
    elif options.check:
        if not options.check.is_file() or options.check.read_text() != page:
            print(f"{options.check} is stale: anycarrier matrix --write {options.check}", file=sys.stderr)
            return 1
    else:
        print(page, end="")
    return 0


def new_provider(argv: list[str]) -> int:
    """Begin a carrier plugin of your own."""
    return _new(argv, new_provider.__doc__, "provider", "anycarrier-", "a carrier plugin", "write-a-provider.md")


def new_engine(argv: list[str]) -> int:
    """Begin a speech engine plugin of your own."""
    return _new(argv, new_engine.__doc__, "engine", "anycarrier-speech-", "a speech engine plugin", "speech.md")


def _new(argv: list[str], purpose: str | None, kind: str, prefix: str, result: str, page: str) -> int:
    parser = Parser(prog=f"anycarrier new-{kind}", description=purpose)
    parser.add_argument("name", help=f"what the {kind} is called: lower case, a-z 0-9 _ -")
    parser.add_argument("folder", nargs="?", type=Path, help=f"where to put it (default: ./{prefix}NAME)")
    options = parser.parse_args(argv)
    folder = options.folder or Path(f"{prefix}{options.name}")
    (write_engine if kind == "engine" else write_provider)(options.name, folder)
    print(f"{folder} is {result} with its parts to fill in.")
    install, tests = shlex.quote(f"{folder}[test]"), shlex.quote(str(folder))
    print(f"Next: pip install -e {install}; then pytest {tests} says what is missing. See docs/{page}.")
    return 0


NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST_NAME = 40

PROVIDER = {
    "pyproject.toml": "provider/pyproject.toml",
    "README.md": "provider/README.md",
    "src/$package/__init__.py": "provider/provider.py",
    "tests/test_$module.py": "provider/test_provider.py",
    "tests/cassettes/webhooks/incoming.json": "provider/incoming.json",
    "tests/cassettes/webhooks/unknown.json": "provider/unknown.json",
    "tests/cassettes/streams/conversation.jsonl": "provider/conversation.jsonl",
}
ENGINE = {
    "pyproject.toml": "engine/pyproject.toml",
    "README.md": "engine/README.md",
    "src/$package/__init__.py": "engine/engine.py",
    "tests/test_$module.py": "engine/test_engine.py",
}
"""Path in the new folder -> template, for each kind of plugin."""

CALL = '{"id":"call_1","from":"+14155550100","to":"+14155550123","status":"queued"}'
EXCHANGES = {
    "search_numbers": ("GET", "numbers?country=US&area_code=415", "", '{"numbers":[{"number":"+14155550177"}]}'),
    "dial": ("POST", "calls", '{"from":"+14155550100","to":"+14155550123"}', CALL),
    "hang_up": ("DELETE", "calls?id=call_1_0123456789", "", "{}"),
    "hang_up_ended": ("DELETE", "calls?id=call_1_0123456789", "", "{}"),
}
"""The invented cassettes of a provider: operation -> method, path, body, answer."""


def write_provider(name: str, folder: Path) -> list[Path]:
    """Write a carrier plugin into ``folder``; return its files. ``ConfigurationError`` on a bad name or full folder."""
    words = _words(name, folder, "provider", "anycarrier_{}")
    written = {Template(path).substitute(words): _filled(source, words) for path, source in PROVIDER.items()}
    for operation, (method, path, asked, answer) in EXCHANGES.items():
        facts = {**words, "method": method, "path": path, "asked": asked, "answer": answer}
        written[f"tests/cassettes/rest/{operation}.yaml"] = _filled("provider/exchange.yaml", facts)
    return _write(folder, words, written)


def write_engine(name: str, folder: Path) -> list[Path]:
    """Write a speech engine plugin into ``folder``; return its files. ``ConfigurationError`` as above."""
    words = _words(name, folder, "speech engine", "anycarrier_speech_{}")
    written = {Template(path).substitute(words): _filled(source, words) for path, source in ENGINE.items()}
    return _write(folder, words, written)


def _words(name: str, folder: Path, kind: str, package: str) -> dict[str, str]:
    """The template variables for this name; raises ``ConfigurationError`` for a bad name or folder."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name for a {kind}: lower case letters, digits, - and _, like acme")
    module, here = name.replace("-", "_"), version("anycarrier")
    if kind == "provider" and module.partition("_")[0] in ("server", "speech"):
        raise ConfigurationError(
            f"{name!r} is no name for a provider: anycarrier-server is the service, anycarrier-speech-... are engines"
        )
    if len(name) > LONGEST_NAME:
        raise ConfigurationError(f"{name[:20]}... is no name for a {kind}: at most {LONGEST_NAME} characters")
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file: choose another folder")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty: choose another folder, or empty it")
    return {
        "name": name,
        "module": module,
        "package": package.format(module),
        "camel": "".join(word.capitalize() for word in module.split("_")),
        "title": " ".join(word.capitalize() for word in module.split("_")),
        # Of a pre-release all of it: 0.2.0rc1 comes before 0.2.
        "version": ".".join(here.split(".")[:2]) if re.fullmatch(r"[0-9.]+", here) else here,
        "next_major": str(int(here.split(".")[0]) + 1),
    }


def _write(folder: Path, words: dict[str, str], written: dict[str, str]) -> list[Path]:
    written[f"src/{words['package']}/py.typed"] = ""
    for path, text in written.items():
        try:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
        except OSError as failure:
            raise ConfigurationError(f"{folder} cannot be written: {failure.strerror}") from None
    return [folder / path for path in sorted(written)]


def _filled(source: str, words: dict[str, str]) -> str:
    template = files("anycarrier.testing").joinpath("template", f"{source}.txt").read_text("utf-8")
    return Template(template).substitute(words)
