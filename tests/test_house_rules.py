"""The house rules that a reader can rely on, checked over the source. Each rule is also shown a file that breaks it.

A rule is a function from a module (its dotted name, its text) to complaints; nothing is imported or run.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from figures.files import code_lines
from frameworks.environments import discover

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "anycarrier"
SERVER = ROOT / "contrib/server/src/anycarrier_server"

# The rooms of docs/architecture.md, core first: a room imports only rooms before it.
ROOMS = (
    "redaction errors parsing oauth markup web_tokens refusals networks numbers numbering_plan sip"
    " credentials resampling audio wav webhooks calls call_phases events serializer listener rest provider own_trunks"
    " routing hookspecs plugins callbook tickets policy position tap machine_detection audio_output media_stream"
    " session caller_audio paced_voice subscriptions switchboard call_commands call_watch dialling incoming media"
    " held_calls listeners exchange fast speech agent __init__ asgi testing demo cli __main__"
).split()

# A later room's name that an earlier one needs for the type checker only, and why.
TYPE_ONLY = {
    ("oauth", "rest"): "a token is fetched by the API that needs it",
    ("hookspecs", "agent"): "a hook names what looks at a call once it is over, and whose turns a rule is for",
    ("hookspecs", "speech"): "a hook names what a plugin may bring; the speech room is what it brings it to",
}

FRAMEWORKS = re.compile(
    r"pipecat|livekit|openai[-_. ](agents|realtime)|RealtimeRunner|vision[-_. ]agents|hermes", re.IGNORECASE
)

CARRIERS = re.compile(
    r"twilio|telnyx|plivo|vonage|signalwire|anycarrier[-_](?:asterisk|bandwidth)|(?-i:\b(?:Asterisk|Bandwidth)\b)",
    re.IGNORECASE,
)
"""The last two are words as well: an asterisk, bandwidth."""
CARRIER_FIELD = ("anycarrier_server/oneinbox/call_bodies.py", "twilio_call_sid")  # a field its API names so

NEEDS_ACME = "test_conformance_kit.py"  # the kit is tried on a carrier; .ci/wheel runs it when acme is installed

# Rooms that translate and hold state; their callers own the sockets, the clock and the log.
PURE = {
    "networks", "markup", "refusals", "sip", "calls", "call_phases", "events", "serializer", "position",
    "machine_detection", "agent.protocol", "agent.spoken_items", "speech.turns", "speech.turn_state",
    "speech.endpointing", "speech.workers.messages", "speech.workers.journal", "speech.sentence_ends",
    "speech.spoken_text", "speech.spoken_numbers", "speech.spoken_english",
}  # fmt: skip
IMPURE_MODULES = (
    "httpx asyncio anyio socket ssl starlette websockets uvicorn requests aiohttp "
    "time sched os subprocess threading random secrets logging warnings"
).split()
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}

# What plugins may build on: documented in docs/reference.md, and changed only with notice. A package in EXPORTED is
# public by what it exports, not by its modules.
PUBLIC = (
    "__init__ redaction errors parsing oauth markup web_tokens refusals networks numbering_plan numbers credentials"
    " audio wav webhooks calls events serializer listener rest provider own_trunks routing hookspecs sip speech"
    " agent testing"
).split()
EXPORTED = ("speech", "speech.workers", "agent")

# What a platform that holds an exchange may build on besides, as our own service does.
PLATFORM = (
    *PUBLIC,
    *"call_phases plugins callbook tickets policy session caller_audio paced_voice subscriptions".split(),
    *"switchboard call_watch exchange asgi fast cli".split(),
)

# What an adapter for a framework builds on.
ADAPTER = (*PUBLIC, "session", "caller_audio", "paced_voice")

# The layers of the service, lowest first (docs/architecture.md): one imports only those before it.
SERVER_LAYERS = (
    "refusals outage settings_checks settings encryption url_guard signing fair_scheduling carriers store metrics"
    " domain work http oneinbox inkbox operations sandbox_api service app runtime commands cli"
).split()

# What every call does, and nothing else: these use compiled statements only (docs/architecture.md).
COMPILED_ONLY = {f"anycarrier_server.store.{name}" for name in "callbook limits new_calls writer".split()}
STATEMENTS = "anycarrier_server.store.statements"
DRIVERS = ("anycarrier_server.store.sqlite", "anycarrier_server.store.postgresql")

NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "misc", "tools"}

LONG, LONGEST = 400, 600
"""Lines a file may have before the rules warn, and before they fail. Most have far fewer."""

MOST_OF_AN_ADAPTER = 250
"""Code lines of a whole adapter, all files: what would make it longer belongs in the library, for all of them."""

# Spelt in two halves so that this file may be searched as well.
REGISTRY_HOST = re.compile(
    "|".join(("pypi" r"\.org", "python" "hosted", "registry" r"\.npmjs", "index" "-url", "https?://[^ ]*/simple" "/"))
)

FORMER_NAME = re.compile("line" "card", re.IGNORECASE)

Rule = Callable[[str, str], list[str]]


def imports(text: str) -> Iterator[tuple[str, int, bool]]:
    """Every dotted name imported, its line, and whether it is for the type checker only."""
    tree = ast.parse(text)
    typing_only: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            typing_only.update(inner for statement in node.body for inner in ast.walk(statement))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, node in typing_only
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield "." * node.level + f"{node.module or ''}.{alias.name}", node.lineno, node in typing_only


def room_of(name: str) -> str:
    """``anycarrier.audio.PCMU_8K`` -> audio; what the package itself exports is the room ``__init__``."""
    part = f"{name}.".split(".")[1]
    return part if part in ROOMS else "__init__"


def import_direction(module: str, text: str) -> list[str]:
    here = room_of(module)
    found = []
    for name, line, typing_only in imports(text):
        if name.startswith("."):
            found.append(f"{module}:{line}: relative import; write anycarrier's name out")
            continue
        if name.split(".")[0] != "anycarrier":
            continue
        there = room_of(name)
        if typing_only and (here, there) in TYPE_ONLY:
            continue
        if ROOMS.index(there) > ROOMS.index(here):
            found.append(f"{module}:{line}: {here} imports {there}, which comes after it")
    return found


def core_stands_alone(module: str, text: str) -> list[str]:
    return [
        f"{module}:{line}: the core imports another distribution, {name}"
        for name, line, _ in imports(text)
        if name.split(".")[0].startswith("anycarrier_")
    ]


def no_carrier_named(path: str, text: str) -> list[str]:
    if path.endswith(CARRIER_FIELD[0]):
        text = text.replace(CARRIER_FIELD[1], "")
    return [
        f"{path}:{number}: names the carrier {match.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        if (match := CARRIERS.search(line))
    ]


def no_framework_named(path: str, text: str) -> list[str]:
    return [
        f"{path}:{number}: names the framework {match.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        if (match := FRAMEWORKS.search(line))
    ]


def pure(module: str, text: str) -> list[str]:
    found = [
        f"{module}:{line}: a pure room imports {name}"
        for name, line, _ in imports(text)
        if name.split(".")[0] in IMPURE_MODULES
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and tuple(ast.unparse(node.func).split(".")[-2:]) in CLOCKS:
            found.append(f"{module}:{node.lineno}: a pure room reads the clock")
        if isinstance(node, ast.AsyncFunctionDef):
            found.append(f"{module}:{node.lineno}: a pure room waits")
    return found


def public_names_only(module: str, text: str, public: Sequence[str] = PUBLIC) -> list[str]:
    return [
        f"{module}:{line}: imports {name}, which is not public"
        for name, line, _ in imports(text)
        if name.split(".")[0] == "anycarrier"
        and (
            room_of(name) not in public
            or any(part.startswith("_") for part in name.split(".")[1:])
            or (room_of(name) in EXPORTED and not exported(name))
        )
    ]


def platform_names_only(module: str, text: str) -> list[str]:
    """The service uses what any platform may use."""
    return public_names_only(module, text, PLATFORM)


def adapter_names_only(module: str, text: str) -> list[str]:
    """An adapter for a framework uses what anybody's may use, and no other distribution of ours."""
    others = [
        f"{module}:{line}: an adapter imports another distribution, {name}"
        for name, line, _ in imports(text)
        if name.startswith("anycarrier_") and name.split(".")[0] != module.split(".")[0]
    ]
    return public_names_only(module, text, ADAPTER) + others


def server_direction(module: str, text: str) -> list[str]:
    """A layer of the service imports only layers before it, for the type checker too."""
    here = layer_of(module)
    return [
        f"{module}:{line}: {here} imports {layer_of(name)}, which comes after it"
        for name, line, _ in imports(text)
        if name.split(".")[0] == "anycarrier_server"
        and SERVER_LAYERS.index(layer_of(name)) > SERVER_LAYERS.index(here)
    ]


def layer_of(name: str) -> str:
    """``anycarrier_server.work.scheduler`` -> work."""
    return f"{name}.".split(".")[1]


def exported(name: str) -> bool:
    """Whether ``anycarrier.speech.Heard`` is in the ``__all__`` of ``anycarrier.speech``, or is such a package."""
    package, _, last = name.removeprefix("anycarrier.").rpartition(".")
    if f"{package}.{last}".removeprefix(".") in EXPORTED:
        return True
    if package not in EXPORTED:
        return False
    tree = ast.parse((CORE / package.replace(".", "/") / "__init__.py").read_text())
    lists = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    return any(last in ast.literal_eval(found) for found in lists)


def compiled_once(module: str, text: str) -> list[str]:
    """The rule for the service's two ways to its database: see docs/architecture.md."""
    tree = ast.parse(text)
    found, inside = [], set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        if not any(ast.unparse(decorator) == "cache" for decorator in function.decorator_list):
            inside.update(ast.walk(function))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("Statement", "Rows") and node in inside and module != STATEMENTS:
            found.append(f"{module}:{node.lineno}: makes a {called} each time; make it a constant of the module")
        if module in COMPILED_ONLY and re.fullmatch(r"(.*\.)?_?db\.(read|write|unhurried)", called):
            found.append(f"{module}:{node.lineno}: uses a session for what every call does")
    if module != "anycarrier_server.store.database":
        found += [f"{module}:{line}: imports a driver, {name}" for name, line, _ in imports(text)
                  if name.startswith(DRIVERS)]  # fmt: skip
    return found


def cancellations_are_kept(module: str, text: str) -> list[str]:
    """Python 3.11's ``wait_for`` returns as if nothing were when it is cancelled just as its work is done."""
    return [
        f"{module}:{node.lineno}: asyncio.wait_for can lose a cancellation; use asyncio.timeout"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for"
    ]


def file_named_for_its_idea(path: str, text: str) -> list[str]:
    return [f"{path}: '{Path(path).stem}' names no idea"] if Path(path).stem in NAMELESS else []


def one_idea_long(path: str, text: str, limit: int = LONGEST) -> list[str]:
    lines = text.count("\n")
    excused = "/migrations/versions/" in path  # a migration is a record, written once
    return [f"{path}: {lines} lines; look for the second idea"] if lines > limit and not excused else []


def adapters_are_thin(folder: str, texts: str) -> list[str]:
    lines = code_lines(texts)
    return [f"{folder}: {lines} lines of code, more than {MOST_OF_AN_ADAPTER}"] if lines > MOST_OF_AN_ADAPTER else []


def says_what_it_is(path: str, text: str) -> list[str]:
    return [f"{path}: no docstring at its top"] if text.strip() and not ast.get_docstring(ast.parse(text)) else []


def no_registry_named(path: str, text: str) -> list[str]:
    return [
        f"{path}:{number}: names a package registry's host"
        for number, line in enumerate(text.splitlines(), 1)
        if REGISTRY_HOST.search(line)
    ]


def no_former_name(path: str, text: str) -> list[str]:
    if path == "CHANGELOG.md":  # it says what the project was called before
        return []
    return [
        f"{path}:{number}: uses the project's former name"
        for number, line in enumerate([path, *text.splitlines()])
        if FORMER_NAME.search(line)
    ]


def _python(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (p for p in sorted(ROOT.glob(f"{folder}/**/*.py")) if "build" not in p.parts)


def _module(path: Path) -> str:
    parts = path.relative_to(next(p for p in path.parents if p.name == "src")).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def _modules(*folders: str) -> list[tuple[str, str]]:
    return [(_module(path), path.read_text()) for path in _python(*folders)]


def _files(*folders: str) -> list[tuple[str, str]]:
    return [(path.relative_to(ROOT).as_posix(), path.read_text()) for path in _python(*folders)]


def _tracked() -> list[tuple[str, str]]:
    """Every text file that is, or is about to be, in the repository."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()
    texts = []
    for name in names:
        try:
            texts.append((name, (ROOT / name).read_text()))
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
    return texts


def _pure_modules() -> list[tuple[str, str]]:
    core = [(m, t) for m, t in _modules("src") if m.removeprefix("anycarrier.") in PURE]
    return core + [(m, t) for m, t in _modules(*PLUGINS) if m.split(".")[-1] == "wire" or says_pure(t)]


def says_pure(text: str) -> bool:
    return re.search(r"\bPure[.:]", ast.get_docstring(ast.parse(text)) or "") is not None


DISTRIBUTIONS = [path for folder in (".", "providers/*", "contrib/*", "docs/examples/*")
                 for path in sorted(ROOT.glob(f"{folder}/pyproject.toml"))]  # fmt: skip
ADAPTERS = tuple(f"contrib/{name}/src" for name in discover())
"""For frameworks. The Twilio front is none: it is for bots that know one carrier's wire, so it names that carrier."""
PLUGINS = ("providers/*/src", "contrib/speech-*/src", "docs/examples/*/src")
SHIPPED = ("src", "providers/*/src", "contrib/*/src")

RULES: dict[str, tuple[Rule, Callable[[], list[tuple[str, str]]], int, list[tuple[str, str]]]] = {
    # rule: the check, what it is held against, the least number of files it must see, modules that break it
    "a room imports only rooms above it": (
        import_direction, lambda: _modules("src"), 20, [
            ("anycarrier.calls", "from anycarrier.exchange import Exchange"),
            ("anycarrier.calls", "from anycarrier import Exchange"),
            ("anycarrier.calls", "from .exchange import Exchange"),
            ("anycarrier.demo", "def f():\n    import anycarrier.cli"),
        ]),
    "the core imports no other distribution": (
        core_stands_alone, lambda: _modules("src"), 20, [
            ("anycarrier.exchange", "from anycarrier_acme import Acme"),
            ("anycarrier.cli", "def f():\n    import anycarrier_server.app"),
        ]),
    "the core's tests need the core alone": (
        core_stands_alone,
        lambda: [(n, t) for n, t in _files("tests/core") if not n.endswith(NEEDS_ACME)], 20, [
            ("tests/core/test_cli.py", "from anycarrier_server.cli import completion"),
        ]),
    "no carrier is named in the core or the service": (
        no_carrier_named,
        lambda: [(n, t) for n, t in _tracked() if n.startswith(("src/", "contrib/server/src/"))], 20, [
            (f"contrib/server/src/{CARRIER_FIELD[0]}", "twilio_call_sid = 1\nif provider == 'Twilio': ..."),
            ("contrib/server/src/anycarrier_server/console/app.js", "const carriers = ['telnyx']"),
            ("src/anycarrier/audio.py", "# as Asterisk sends it"),
            ("src/anycarrier/audio.py", "from anycarrier_bandwidth import frames"),
        ]),
    "no framework is named in the core or the service": (
        no_framework_named,
        lambda: [(n, t) for n, t in _tracked() if n.startswith(("src/", "contrib/server/src/"))], 20, [
            ("src/anycarrier/session.py", "# a LiveKit agent pauses here"),
            ("contrib/server/src/anycarrier_server/app.py", "from anycarrier_pipecat import CallTransport"),
        ]),
    "an adapter for a framework names no carrier": (
        no_carrier_named, lambda: _files(*ADAPTERS), 3, [
            ("contrib/pipecat/src/anycarrier_pipecat/transport.py", "if session.call.provider == 'twilio': ..."),
        ]),
    "an adapter for a framework imports only public names": (
        adapter_names_only, lambda: _modules(*ADAPTERS), 3, [
            ("anycarrier_pipecat.transport", "from anycarrier.media_stream import MediaStream"),
            ("anycarrier_pipecat.transport", "from anycarrier.switchboard import Switchboard"),
            ("anycarrier_pipecat.transport", "from anycarrier_twilio.signature import sign"),
        ]),
    "what runs in a call is cancelled when it is told to": (
        cancellations_are_kept,
        lambda: [(m, t) for m, t in _modules("src", "contrib/*/src", *PLUGINS) if ".testing." not in m], 100, [
            ("anycarrier.audio_output", "async def f(event):\n    await asyncio.wait_for(event.wait(), 1)"),
        ]),
    "an adapter for a framework is thin": (
        adapters_are_thin, lambda: [(each, "\n".join(t for _, t in _files(each))) for each in ADAPTERS], 3, [
            ("contrib/pipecat/src", "x = 1\n" * (MOST_OF_AN_ADAPTER + 1)),
        ]),
    "pure rooms have no sockets, clock, environment or log, and do not wait": (
        pure, _pure_modules, 20, [
            ("anycarrier.events", "def f():\n    import logging"),
            ("anycarrier.events", "import os.path"),
            ("anycarrier.events", "import datetime\nx = datetime.datetime.now(datetime.UTC)"),
            ("anycarrier.events", "async def f(): ..."),
        ]),
    "plugins import only public names": (
        public_names_only, lambda: _modules(*PLUGINS), 3, [
            ("anycarrier_acme", "from anycarrier.exchange import Exchange"),
            ("anycarrier_acme", "from anycarrier.errors import _verb"),
            ("anycarrier_acme", "from anycarrier.agent.conversation import Conversation"),
            ("anycarrier_acme", "from anycarrier.speech.engines import SpeechEngine"),
            ("anycarrier_acme", "from anycarrier.speech.workers.pool import WorkerPool"),
            ("anycarrier_acme", "from anycarrier.speech.workers import Worker"),
        ]),
    "statements are compiled once, and what every call does uses no session": (
        compiled_once, lambda: _modules("contrib/server/src"), 20, [
            ("anycarrier_server.store.calls", "def f(db):\n    return db.row(Statement(select(TABLE)))"),
            ("anycarrier_server.store.limits", "async def f(self):\n    async with self._db.read() as session: ..."),
            ("anycarrier_server.store.calls", "from anycarrier_server.store.sqlite import SqliteDriver"),
        ]),
    "the service imports only what a platform may": (
        platform_names_only, lambda: _modules("contrib/server/src"), 60, [
            ("anycarrier_server.app", "from anycarrier.incoming import handle_webhook"),
            ("anycarrier_server.app", "from anycarrier.agent.conversation import Conversation"),
        ]),
    "a layer of the service imports only layers below it": (
        server_direction, lambda: _modules("contrib/server/src"), 60, [
            ("anycarrier_server.domain.place_call", "from anycarrier_server.service import Service"),
            ("anycarrier_server.store", "def f():\n    from anycarrier_server.domain import access"),
            ("anycarrier_server.work.scheduler", "if TYPE_CHECKING:\n    from anycarrier_server.app import faces"),
        ]),
    "files are named for their idea": (
        file_named_for_its_idea, lambda: _files("src", "providers", "contrib", "tests"), 20,
        [("src/anycarrier/utils.py", "")]),
    "files hold one idea": (
        one_idea_long, lambda: _files(*SHIPPED), 20, [("src/anycarrier/x.py", "x = 1\n" * (LONGEST + 1))]),
    "files say what they are": (says_what_it_is, lambda: _files(*SHIPPED), 20, [("src/anycarrier/x.py", "x = 1")]),
    "no registry host is named": (
        no_registry_named, _tracked, 40, [("pyproject.toml", "index" "-url = 'https://example.com'")]),
    "the project has one name": (
        no_former_name, _tracked, 40, [
            ("dev", "LINE" "CARD_VENV=.venv"),
            ("docs/line" "card.md", ""),
        ]),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_the_house_keeps(name: str) -> None:
    check, files, least, _ = RULES[name]
    seen = files()
    assert len(seen) >= least, "the rule looks at too little to mean anything"
    complaints = [complaint for path, text in seen for complaint in check(path, text)]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("name", RULES)
def test_breaking_it_is_noticed(name: str) -> None:
    check, _, _, broken = RULES[name]
    assert broken
    for path, text in broken:
        assert len(check(path, text)) == 1, f"unnoticed: {text}"


def test_the_carrier_field_is_excepted_in_its_own_file_only() -> None:
    assert no_carrier_named(f"contrib/server/src/{CARRIER_FIELD[0]}", "twilio_call_sid: str") == []
    assert no_carrier_named("contrib/server/src/anycarrier_server/inkbox.py", "twilio_call_sid: str") != []
    assert no_carrier_named("src/anycarrier/audio.py", "an asterisk costs no bandwidth, anycarrier's least") == []


def test_the_service_has_no_circle_of_imports() -> None:
    """Not even one for the type checker: each module can be read with only those it imports."""
    texts = dict(_modules("contrib/server/src"))
    below: dict[str, set[str]] = {}
    for module, text in texts.items():
        names = (name for name, _, _ in imports(text))
        known = (name if name in texts else name.rpartition(".")[0] for name in names)
        below[module] = {name for name in known if name in texts} - {module}
    while leaves := [module for module, needs in below.items() if not needs]:
        for leaf in leaves:
            del below[leaf]
        for needs in below.values():
            needs.difference_update(leaves)
    assert sorted(below) == []


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {p.stem if p.suffix == ".py" else p.name for p in CORE.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert rooms - {"__pycache__"} - set(ROOMS) == set()


class LongFile(UserWarning):
    """A file grows long: a hint, and no reason to split it today."""


@pytest.mark.filterwarnings("always::UserWarning")
def test_long_files_are_named_in_a_warning() -> None:
    long = [complaint for path, text in _files(*SHIPPED) for complaint in one_idea_long(path, text, limit=LONG)]
    if long:
        warnings.warn("\n".join(("files grow long", *long)), LongFile, stacklevel=1)
    assert one_idea_long("src/anycarrier/x.py", "x = 1\n" * (LONG + 1), limit=LONG)
    assert not one_idea_long("src/anycarrier/x.py", "x = 1\n" * (LONG + 1))


@pytest.mark.parametrize("pyproject", DISTRIBUTIONS, ids=lambda p: p.parent.name)
def test_every_distribution_pins_what_it_needs_and_ships_its_types(pyproject: Path) -> None:
    own = pyproject.parent / "constraints.txt"  # of a distribution with an environment of its own
    constraints = own if own.exists() else ROOT / "constraints.txt"
    pinned = set()
    for line in constraints.read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[\w.-]+==[\w.!+]+", line), f"{constraints}: {line!r} is no plain name==version"
            pinned.add(canonicalize_name(line.split("==")[0]))
    table = tomllib.loads(pyproject.read_text())
    project = table["project"]
    groups = [project.get("dependencies", []), table.get("dependency-groups", {}).get("dev", [])]
    groups += project.get("optional-dependencies", {}).values()
    names = {canonicalize_name(Requirement(r).name) for group in groups for r in group}
    assert {n for n in names if not n.startswith("anycarrier")} - pinned == set(), f"add them to {constraints}"
    assert [*pyproject.parent.glob("src/*/py.typed")], "no py.typed"
    assert project["license"] == "Apache-2.0"
    assert (pyproject.parent / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes(), "a wheel brings its licence"


def test_the_schemas_versions_follow_each_other() -> None:
    """Two branches may both have taken the next number, and each is right by itself."""
    files = sorted((SERVER / "store/migrations/versions").glob("[0-9]*.py"))
    said = [re.findall(r'^(?:down_)?revision = (?:"(\d+)"|None)$', path.read_text(), re.MULTILINE) for path in files]
    numbers = ["", *(path.name[:4] for path in files)]
    assert said == [[number, before] for before, number in pairwise(numbers)]
