"""Pages made from the code are what the code says. ``./dev test tests/docs --write-docs`` makes them again."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import anycarrier
from anycarrier import agent, speech
from anycarrier.call_phases import table
from anycarrier.plugins import broken_plugins, capability_matrix, get_provider, provider_names
from anycarrier.speech import workers
from anycarrier_twilio import call_status, commands, frames, numbers, signature, wire
from docs.provider_names import provider_reference
from frameworks.environments import discover

DOCS = Path(__file__).resolve().parents[2] / "docs"

NOT_CLASSES = {
    "CONTRACT": "Version of the provider contract this anycarrier speaks",
    "Handler": "Talks on one call: an async function of a `MediaSession`",
    "hookimpl": "Marks a plugin's hook, for pluggy",
    "hookspec": "Marks what a hook is, for pluggy",
    "MediaEvent": "Any of the events on a media stream",
    "PCMA_8K": "A-law, 8,000 samples a second",
    "PCMU_8K": "mu-law, 8,000 samples a second: the common format of telephony",
    "Route": "What to do with an incoming call: `Answer`, `Reject`, `Forward` or `LeaveRinging`",
    "Router": "Given an `IncomingCall` and its line, or None, the `Route`",
    "PhoneNumber": "An E.164 string, checked by pydantic where a model takes one",
}

HEAD = """\
# Public names

Everything `anycarrier` exports, made from the code; do not edit. Only what is documented is public. A plugin may build
on these names and on the modules that `tests/test_house_rules.py` lists as `PUBLIC`; a platform on those it lists as
`PLATFORM` too.

| name | module | what it is |
| --- | --- | --- |
"""


AGENT_NOT_CLASSES = {
    "AgentFunction": "A Python agent: an async function of an `AgentCall`",
    "ENGINE_SETTINGS": "The settings that name the engine and the fallback engine for an ability",
    "Guard": "Checks the address of an agent's WebSocket, and may say which IP address to connect to",
    "RawFunction": "A raw audio agent: an async function of a `MediaSession`",
    "START_TIMEOUT": "Seconds that an agent may take to be made, and to start, once its call is there: 10",
}

AGENT_HEAD = """
## Names of anycarrier.agent

For agents; `from anycarrier.agent import Agents, CallSetup`. Also made from the code.

| name | module | what it is |
| --- | --- | --- |
"""

SPEECH_HEAD = """
## Names of anycarrier.speech

For speech engines and turn-taking; `from anycarrier.speech import SpeechEngine`. Also made from the code.

| name | module | what it is |
| --- | --- | --- |
"""

WORKERS_HEAD = """
## Names of anycarrier.speech.workers

For engines that work in other processes; `from anycarrier.speech.workers import WorkerPool`. Also made from the code.

| name | module | what it is |
| --- | --- | --- |
"""

WORKERS_NOT_CLASSES = {
    "FromWorker": "Any message from a worker",
    "Send": "Sends a message to the engine; may be called from any thread",
    "ToWorker": "Any message to a worker",
}

ADAPTERS_HEAD = """
## Names of the adapters for frameworks

Read from their source, since none of their frameworks is installed where this page is made: `from anycarrier_pipecat
import CallTransport`.

| name | module | what it is |
| --- | --- | --- |
"""

CARRIERS_HEAD = """
## Names of anycarrier_twilio

For programs that are Twilio to another one, and for carriers that speak as Twilio does; `from
anycarrier_twilio.signature import sign`.

| name | module | what it is |
| --- | --- | --- |
"""

LIKE_TWILIO = (
    (signature, "check sign"),
    (frames, "Start TwilioSerializer"),
    (wire, "parse"),
    (call_status, "call_from_rest end_reason read_call"),
    (commands, "dial header_problem reject reply response ring_on"),
    (numbers, "available owned settings_to_clear settings_to_write"),
)


HELD = (
    anycarrier.Exchange, anycarrier.Switchboard, anycarrier.CallBook, anycarrier.OnceStore, anycarrier.NumberRegistry,
    agent.FinishedCall, agent.Analysis, agent.Segment, agent.CallSetup, agent.Said, agent.CallerTurn,
    agent.AgentCall, agent.AgentSettings, agent.Agents,
)  # fmt: skip
"""Whose fields and methods people look for; `Turn` in an example is a `CallerTurn`."""


SPEECH_NOT_CLASSES = {
    "EndOfTurn": "A rule for the end of a turn: from the words so far to the silence that ends the utterance",
    "Output": "Any of the outputs of turn-taking",
    "PRECEDING_LIMIT": "Seconds of audio outside utterances that a recognizer keeps for one announced late",
}


def capabilities() -> str:
    assert not broken_plugins()
    return capability_matrix(get_provider(name) for name in provider_names())


def reference() -> str:
    parts = [HEAD, *_rows(anycarrier, NOT_CLASSES), AGENT_HEAD, *_rows(agent, AGENT_NOT_CLASSES)]
    parts += [SPEECH_HEAD, *_rows(speech, SPEECH_NOT_CLASSES)]
    parts += [WORKERS_HEAD, *_rows(workers, WORKERS_NOT_CLASSES)]
    parts += [CARRIERS_HEAD, *(row for module, names in LIKE_TWILIO for row in _rows(module, {}, names.split()))]
    folders = [*(framework.folder for framework in discover().values()), DOCS.parent / "contrib/twilio-front"]
    parts += [ADAPTERS_HEAD, *(row for folder in folders for row in _rows_unimported(folder))]
    return "".join(parts + [_inside(kind) for kind in HELD])


def _rows(module: ModuleType, described: dict[str, str], names: Sequence[str] | None = None) -> list[str]:
    rows = []
    for name in sorted(names or module.__all__, key=str.lower):
        value = getattr(module, name)
        if name in described:
            rows.append(f"| `{name}` | | {described[name]}. |\n")
        else:
            rows.append(f"| `{name}` | `{value.__module__}` | {_first_sentence(value)}. |\n")
    return rows


def _rows_unimported(distribution: Path) -> list[str]:
    """The same for what a distribution's package has in ``__all__``, without importing it."""
    (package,) = distribution.glob("src/*/__init__.py")
    public: list[str] = []
    said: dict[str, tuple[str, str]] = {}
    for file in sorted(package.parent.glob("*.py")):
        body = ast.parse(file.read_text()).body
        for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
            module = f"{package.parent.name}.{file.stem}".removesuffix(".__init__")
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                said[node.name] = module, ast.get_docstring(node) or ""
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                public = public or ast.literal_eval(node.value)
            elif isinstance(node, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                said[ast.unparse(node.targets[0])] = module, str(after.value.value)
    assert said.keys() >= {*public}, f"no docstring in {package.parent}: {', '.join({*public} - said.keys())}"
    return [f"| `{name}` | `{said[name][0]}` | {_sentence(said[name][1], name)}. |\n"
            for name in sorted(public, key=str.lower)]  # fmt: skip


def _first_sentence(value: object) -> str:
    return _sentence(inspect.getdoc(value) or "", value)


def _sentence(docstring: str, value: object) -> str:
    sentence = re.split(r"(?<!e\.g)\. ", " ".join(docstring.split()))[0].rstrip(".")
    assert sentence, f"{value!r} has no docstring"
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", sentence.replace("``", "`"))


def _inside(kind: type) -> str:
    """A class's fields or constructor, its properties and its public methods."""
    fields = [
        f"| `{name}` | `{_type(vars(kind).get('__annotations__', {}).get(name, parameter.annotation))}`"
        + ("" if parameter.default is parameter.empty else f", default `{_default(parameter.default)}`")
        + " |\n"
        for name, parameter in inspect.signature(kind).parameters.items()
    ]
    methods = []
    for name, value in vars(kind).items():
        if name.startswith("_") or not (callable(value) or isinstance(value, property)):
            continue
        if isinstance(value, property):
            methods.append(f"| `{name}` | {_first_sentence(value)} |\n")
        elif inspect.isfunction(value):
            arguments = [p for p in inspect.signature(value).parameters if p != "self"]
            methods.append(f"| `{name}({', '.join(arguments)})` | {_first_sentence(value)} |\n")
    text = f"\n### {kind.__name__}\n"
    if fields and not kind.__name__.startswith("AgentCall") and not getattr(kind, "_is_protocol", False):
        text += "\n| field or argument | type |\n| --- | --- |\n" + "".join(fields)
    if methods:
        text += "\n| attribute or method | what it is |\n| --- | --- |\n" + "".join(methods)
    return text


def _type(annotation: object) -> str:
    short = re.sub(r"(typing|collections\.abc|pathlib|anycarrier[\w.]*)\.", "", str(annotation))
    return short.replace("|", "\\|").strip("'")


def _default(value: object) -> str:
    if inspect.isfunction(value):
        return value.__name__
    return "empty" if "factory" in repr(value) else str(getattr(value, "value", value)).replace("|", "\\|") or '""'


@pytest.mark.parametrize("page", [capabilities, reference, provider_reference], ids=lambda page: page.__name__)
def test_the_page_is_what_the_code_says(page: Callable[[], str], request: pytest.FixtureRequest) -> None:
    file = DOCS / f"{page.__name__.replace('_', '-')}.md"
    if request.config.getoption("write_docs"):
        file.write_text(page())
    assert file.exists() and file.read_text() == page(), f"{file.name} is stale: ./dev test tests/docs --write-docs"


def test_the_bounds_of_a_call_are_what_the_code_says(request: pytest.FixtureRequest) -> None:
    file = DOCS / "how-a-call-travels.md"
    marked = re.compile("(?<=<!-- rules -->\n).*?(?=<!-- end rules -->)", re.DOTALL)
    if request.config.getoption("write_docs"):
        file.write_text(marked.sub(lambda _: table(), file.read_text()))
    assert marked.findall(file.read_text()) == [table()], f"{file.name} is stale: ./dev test tests/docs --write-docs"
