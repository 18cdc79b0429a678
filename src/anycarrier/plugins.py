"""Find and load plugins: entry-point group ``anycarrier``, pluggy project ``anycarrier``.

Loaded once, on first use. Each load is isolated: a plugin that fails is recorded by name and harms no other.
The capability table of the loaded providers is made here too.

``ANYCARRIER_PLUGINS=a,b`` loads only those entry points (empty: none). A plugin is code you trust.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from anycarrier import hookspecs
from anycarrier.credentials import Credential
from anycarrier.errors import ConfigurationError, PluginError, UnknownProvider
from anycarrier.provider import CONTRACT, Capability, Provider
from anycarrier.redaction import redact

if TYPE_CHECKING:
    import httpx

    from anycarrier.events import CallEvent
    from anycarrier.routing import Line



log = logging.getLogger(__name__)


class PluginHost:
    """The loaded plugins and what they add."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("anycarrier")
        self.manager.add_hookspecs(hookspecs)
        self.providers: dict[str, tuple[type[Provider], str]] = {}  # name -> class, who ships it
        self.unusable: dict[str, PluginError] = {}  # by provider name: claimed twice, or of another contract
        self.broken: dict[str, PluginError] = {}  # by entry-point name

    def discover(self) -> None:
        """Load every installed entry point that ``ANYCARRIER_PLUGINS`` does not leave out."""
        only = os.environ.get("ANYCARRIER_PLUGINS")
        wanted = None if only is None else {name.strip() for name in only.split(",")}
        for entry in sorted(entry_points(group="anycarrier"), key=lambda e: (e.name, _shipper(e))):
            if wanted is None or entry.name in wanted:
                try:
                    self.register(entry.load(), _shipper(entry), entry.name)
                except (Exception, SystemExit) as failure:  # noqa: BLE001 - one bad plugin must not stop the others
                    key = entry.name if entry.name not in self.broken else f"{entry.name} of {_shipper(entry)}"
                    self.broken[key] = error = _broken(entry.name, _shipper(entry), failure)
                    log.warning("%s", error)

    def register(self, plugin: Any, shipper: str, name: str) -> None:
        """Add one plugin; any exception leaves nothing of it behind, except the refusals it caused."""
        self.manager.register(plugin, name=f"{name} of {shipper}")
        try:
            self.manager.check_pending()  # a misspelt hook would otherwise be silence
            for impl in self.manager.hook.anycarrier_providers.get_hookimpls():
                if impl.plugin is plugin:
                    classes: Any = impl.function()
                    self._add(list(classes), shipper)
        except BaseException:
            self.manager.unregister(plugin)
            raise

    def _add(self, classes: list[type[Provider]], shipper: str) -> None:
        for cls in classes:
            if not (isinstance(cls, type) and issubclass(cls, Provider)):
                raise PluginError(f"anycarrier_providers() gave {cls!r}, which is not a Provider class")
            if cls.contract != CONTRACT:
                old = "anycarrier" if cls.contract > CONTRACT else shipper
                self.unusable[cls.name] = PluginError(
                    f"provider {cls.name!r} of {shipper} is written for contract {cls.contract}, this anycarrier "
                    f"speaks {CONTRACT}. Upgrade {old.split()[0]}"
                )
                raise self.unusable[cls.name]
            if missing := abstract_methods(cls):
                raise PluginError(f"{cls.__name__} lacks {', '.join(missing)}")
        for cls in classes:
            first, other = self.providers.setdefault(cls.name, (cls, shipper))
            if first is not cls:
                self.unusable[cls.name] = PluginError(
                    f"provider {cls.name!r} is claimed by {other} and by {shipper}. Uninstall one of them, "
                    "or choose with ANYCARRIER_PLUGINS"
                )


def _shipper(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _broken(name: str, shipper: str, failure: BaseException) -> PluginError:
    why = str(failure) if isinstance(failure, PluginError) else f"{type(failure).__name__}: {redact(str(failure))}"
    error = PluginError(f"plugin {name!r} of {shipper} cannot be used: {why}")
    error.__cause__ = failure
    return error


_host: PluginHost | None = None
_lock = threading.RLock()


def host() -> PluginHost:
    """All installed plugins, loaded by the first call."""
    global _host
    with _lock:
        if _host is None:
            _host = PluginHost()
            _host.discover()
        return _host


def reset() -> None:
    """Forget what is loaded; the next use loads again. For tests."""
    global _host
    _host = None


def register(plugin: Any, name: str = "") -> None:
    """Add a plugin object or module of this process: anything with hook functions. Raises what is wrong with it."""
    name = name or getattr(plugin, "__name__", type(plugin).__name__)
    host().register(plugin, f"this process ({name})", name)


def provider_names() -> list[str]:
    """Names of the usable providers."""
    return sorted(set(host().providers) - set(host().unusable))


def broken_plugins() -> dict[str, PluginError]:
    """Entry-point name -> why the plugin could not be loaded."""
    return dict(host().broken)


def get_provider(name: str) -> type[Provider]:
    """The provider class of that name; ``PluginError`` when its plugin is broken, ``UnknownProvider`` when absent."""
    loaded = host()
    problem = loaded.unusable.get(name) or (loaded.broken.get(name) if name not in loaded.providers else None)
    if problem:
        raise PluginError(str(problem)) from problem.__cause__
    if name not in loaded.providers:
        raise UnknownProvider(name, provider_names())
    return loaded.providers[name][0]


def shipper_of(name: str) -> str:
    """The distribution that brings the provider, and its version: ``anycarrier-acme 0.1.0``."""
    get_provider(name)
    return host().providers[name][1]


def open_provider(credential: Credential, http: httpx.AsyncClient | None = None) -> Provider:
    """The provider that ``credential`` is for; ``http`` is the shared client."""
    cls = get_provider(credential.provider)
    if not isinstance(credential, cls.credential_type):
        raise ConfigurationError(
            f"provider {cls.name!r} needs a {cls.credential_type.__name__}, not a {type(credential).__name__}"
        )
    return cls(credential, http)


def watched() -> bool:
    """Whether any plugin observes call events."""
    return bool(host().manager.hook.anycarrier_call_event.get_hookimpls())


def call_event(event: CallEvent, line: Line | None) -> None:
    """Tell every observer. One that raises is logged by name and goes no further: a webhook must not fail for it."""
    for impl in host().manager.hook.anycarrier_call_event.get_hookimpls():
        known = {"event": event, "line": line}
        try:
            impl.function(*(known[name] for name in impl.argnames))
        except Exception as failure:  # noqa: BLE001 - the one place where we swallow
            # No traceback: its lines and locals may quote the event, which holds numbers.
            log.error("observer %s failed: %s: %s", impl.plugin_name, type(failure).__name__, redact(str(failure)))


def abstract_methods(cls: type[Provider]) -> list[str]:
    """Contract methods ``cls`` still lacks, for error texts."""
    return sorted(name for name, member in inspect.getmembers(cls) if getattr(member, "__isabstractmethod__", False))


MATRIX_HEAD = """\
# What each carrier can do

Made from the installed plugins by `anycarrier matrix`; do not edit. A provider declares an ability by overriding the
method of that name, so this table says what the code says. Asking for what a carrier lacks raises
`UnsupportedOperation`; `provider.supports(Capability.TRANSFER)` asks beforehand. By ear: anycarrier listens.

"""
MATRIX_NAMES = """
Every carrier has {required}.
One without a stock of numbers answers `search_numbers` with `UnsupportedOperation`.

## What the names mean

| method | what it does |
| --- | --- |
"""


def capability_matrix(providers: Iterable[type[Provider]]) -> str:
    """A Markdown page: a row for each ability, a column for each provider; then what each method does."""
    columns = sorted(providers, key=lambda p: p.title.lower())
    rows = [["", *(p.title for p in columns)], ["---"] * (1 + len(columns))]
    for capability in Capability:
        lacking = "hangs up" if capability is Capability.REJECT else "-"
        rows.append([f"`{capability}`", *("yes" if capability in p.capabilities else lacking for p in columns)])
    rows.append(["instructed", *("in the reply" if p.answers_in_reply else "by REST" for p in columns)])
    rows.append(["tells when it rings", *("yes" if p.reports_ringing else "-" for p in columns)])
    rows.append(["tells machines", *("yes" if p.detects_machines else "by ear" for p in columns)])
    rows.append(["a sandbox", *("yes" if p.sandbox else "-" for p in columns)])
    required = [name for name in vars(Provider) if name in Provider.__abstractmethods__]
    told = ", ".join(f"`{name}`" for name in required[:-1]) + f" and `{required[-1]}`"
    meant = [[f"`{name}`", _purpose(name)] for name in (*required, *Capability)]
    return MATRIX_HEAD + _table(rows) + MATRIX_NAMES.format(required=told) + _table(meant)


def _table(rows: list[list[str]]) -> str:
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _purpose(method: str) -> str:
    """The first sentence of the method's docstring in the contract."""
    text = " ".join((inspect.getdoc(getattr(Provider, method)) or "").split())
    return text.split(". ")[0].rstrip(".").replace("``", "`") + "."
