"""Plugins: found by entry point, loaded once and late, each on its own."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from anycarrier import plugins
from anycarrier.credentials import Credential
from anycarrier.errors import ConfigurationError, PluginError, UnknownProvider
from anycarrier.events import UnknownEvent
from anycarrier.hookspecs import hookimpl
from anycarrier.routing import Line

PROVIDER = """
from anycarrier.credentials import Credential
from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider

class Card(Credential):
    provider: str = {name!r}

class Carrier(Provider):
    name = {name!r}
    credential_type = Card
    contract = {contract}
    def verify(self, request): ...
    def parse_webhook(self, request): ...
    def serializer(self): ...
    async def search_numbers(self, query): ...
    async def dial(self, request): ...
    async def answer(self, call, stream): ...
    async def hang_up(self, call_id): ...

@hookimpl
def anycarrier_providers():
    return [Carrier]
"""

Install = Callable[..., None]


def carrier(name: str, contract: int = 1) -> str:
    return PROVIDER.format(name=name, contract=contract)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution, with real metadata, on a path where only such distributions are."""
    before = set(sys.modules)
    stdlib_only = [p for p in sys.path if "site-packages" not in p and "anycarrier" not in p and not p.endswith("/src")]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *stdlib_only])
    monkeypatch.setattr("anycarrier.plugins.entry_points", _entry_points_in(tmp_path))
    monkeypatch.delenv("ANYCARRIER_PLUGINS", raising=False)
    plugins.reset()

    def install(distribution: str, source: str, *, entry: str = "", version: str = "1.0") -> None:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[anycarrier]\n{entry or distribution} = {module}\n")

    yield install
    plugins.reset()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _entry_points_in(folder: Path) -> Callable[..., object]:
    from importlib.metadata import EntryPoints, distributions

    def entry_points(*, group: str) -> EntryPoints:
        return EntryPoints(e for d in distributions(path=[str(folder)]) for e in d.entry_points if e.group == group)

    return entry_points


def test_an_installed_distribution_provides_its_carrier(install: Install) -> None:
    install("anycarrier-brook", carrier("brook"))
    assert plugins.provider_names() == ["brook"]
    assert plugins.get_provider("brook").name == "brook"


def test_plugins_are_loaded_once_and_not_before_the_first_use(install: Install) -> None:
    install("anycarrier-brook", "import sys\nsys.loads = getattr(sys, 'loads', 0) + 1\n" + carrier("brook"))
    assert not hasattr(sys, "loads")
    plugins.provider_names()
    plugins.get_provider("brook")
    assert sys.loads == 1  # type: ignore[attr-defined]
    del sys.loads  # type: ignore[attr-defined]


def test_importing_the_module_loads_no_plugin() -> None:
    code = "import sys, anycarrier.plugins; print([m for m in sys.modules if m.startswith('anycarrier_')])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_an_unknown_provider_says_what_to_install(install: Install) -> None:
    install("anycarrier-brook", carrier("brook"))
    with pytest.raises(UnknownProvider, match="usually anycarrier-acme") as caught:
        plugins.get_provider("acme")
    assert caught.value.known == ("brook",)


HOOK = "from anycarrier.hookspecs import hookimpl\n@hookimpl\n"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_module_here", "no_such_module_here"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        (HOOK + "def anycarrier_provider():\n    return []", "anycarrier_provider"),
        (HOOK + "def anycarrier_providers(x):\n    return []", "x"),
        (HOOK + "def anycarrier_providers():\n    return [int]", "not a Provider"),
        (HOOK + "def anycarrier_providers():\n    1 / 0", "ZeroDivisionError"),
        (carrier("sink").replace("async def dial", "async def ring"), "Carrier lacks dial"),
    ],
)
def test_a_broken_plugin_names_itself_and_harms_no_other(
    install: Install, caplog: pytest.LogCaptureFixture, source: str, why: str
) -> None:
    install("anycarrier-sink", source, entry="sink", version="0.3")
    install("anycarrier-brook", carrier("brook"))
    assert plugins.provider_names() == ["brook"]
    assert list(plugins.broken_plugins()) == ["sink"]
    for text in (str(plugins.broken_plugins()["sink"]), caplog.text):
        assert "anycarrier-sink 0.3" in text
        assert why in text
    with pytest.raises(PluginError, match=r"anycarrier-sink 0\.3"):
        plugins.get_provider("sink")
    with pytest.raises(UnknownProvider):
        plugins.get_provider("acme")


def test_a_broken_plugin_shows_no_number_or_key(install: Install) -> None:
    install("anycarrier-sink", "raise ValueError('KEY0123456789ABCDEF01 +14155550123')", entry="sink")
    text = str(plugins.broken_plugins()["sink"])
    assert "0123456789ABCDEF" not in text
    assert "4155550123" not in text


def test_two_distributions_with_one_provider_name_are_both_named(install: Install) -> None:
    install("anycarrier-brook", carrier("brook"))
    install("acme-brook", carrier("brook"), version="2.0")
    install("anycarrier-creek", carrier("creek"))
    assert plugins.provider_names() == ["creek"]
    with pytest.raises(PluginError, match=r"acme-brook 2\.0.*anycarrier-brook 1\.0"):
        plugins.get_provider("brook")


@pytest.mark.parametrize(("contract", "upgrade"), [(0, "anycarrier-brook"), (99, "anycarrier")])
def test_a_provider_of_another_contract_is_refused_with_what_to_upgrade(
    install: Install, contract: int, upgrade: str
) -> None:
    lacking = carrier("brook", contract).replace("def verify(", "def verify_as_it_was_called(")
    install("anycarrier-brook", lacking, entry="water")
    assert plugins.provider_names() == []
    with pytest.raises(PluginError, match=f"contract {contract}.*Upgrade {upgrade}$"):
        plugins.get_provider("brook")
    assert "water" in plugins.broken_plugins()


@pytest.mark.parametrize(
    ("only", "names"),
    [("brook", ["brook"]), ("brook, creek", ["brook", "creek"]), ("", []), (None, ["brook", "creek"])],
)
def test_an_environment_variable_restricts_loading(
    install: Install, monkeypatch: pytest.MonkeyPatch, only: str | None, names: list[str]
) -> None:
    install("anycarrier-brook", carrier("brook"), entry="brook")
    install("anycarrier-creek", carrier("creek"), entry="creek")
    if only is not None:
        monkeypatch.setenv("ANYCARRIER_PLUGINS", only)
    assert plugins.provider_names() == names


class Observer:
    def __init__(self) -> None:
        self.seen: list[tuple[object, object]] = []

    @hookimpl
    def anycarrier_call_event(self, event: object, line: object) -> None:
        self.seen.append((event, line))


class Grumbler:
    __name__ = "grumbler"

    @hookimpl
    def anycarrier_call_event(self, event: object) -> None:
        raise RuntimeError("no room for +14155550123")


def test_an_observer_that_raises_is_logged_by_name_and_the_others_still_hear(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = Observer(), Observer()
    for plugin in (first, Grumbler(), last):
        plugins.register(plugin, f"plugin-{id(plugin)}" if isinstance(plugin, Observer) else "")
    event = UnknownEvent(kind="x")
    line = Line(number="+14155550100", agent_id="desk", credential_id="main", provider="brook")
    with caplog.at_level(logging.ERROR):
        plugins.call_event(event, line)
    assert first.seen == last.seen == [(event, line)]
    assert "grumbler" in caplog.text
    assert "RuntimeError" in caplog.text
    assert "4155550123" not in caplog.text


def test_registering_in_process_raises_what_is_wrong(install: Install) -> None:
    class Wrong:
        @hookimpl
        def anycarrier_providers(self) -> list[object]:
            return ["not a class"]

    with pytest.raises(PluginError, match="not a Provider class"):
        plugins.register(Wrong())
    assert plugins.provider_names() == []


def test_a_provider_opens_with_its_own_credential_only(install: Install) -> None:
    class Stranger(Credential):
        provider: str = "brook"
        key: SecretStr = SecretStr("k-secret")

    install("anycarrier-brook", carrier("brook"))
    kind = plugins.get_provider("brook")
    assert isinstance(plugins.open_provider(kind.credential_type()), kind)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="needs a Card, not a Stranger"):
        plugins.open_provider(Stranger())
