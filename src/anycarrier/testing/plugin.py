"""The pytest plugin of anycarrier[testing]: fixtures, ``--record``, ``--kit-report``, the cassettes' provenance.

Imports nothing more until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anycarrier.testing.sandbox import Sandbox
    from anycarrier.webhooks import WebhookRequest

COUNTS = pytest.StashKey[dict[str, dict[str, int]]]()
UNFINISHED = pytest.StashKey[dict[type, bool]]()
"""Whether what a conformance test names still has methods to write."""
RECORDED = pytest.StashKey[set[type]]()
pytest.register_assert_rewrite("anycarrier.testing.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("anycarrier")
    group.addoption(
        "--record",
        action="store_true",
        help="record rest/ cassettes from the carrier itself first: rings a phone, needs ANYCARRIER_LIVE_<CARRIER>",
    )
    group.addoption(
        "--kit-report",
        type=Path,
        metavar="FILE",
        help="write what came of the conformance kit as JSON, for docs/directory.md and `anycarrier providers`",
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--kit-report")
    if path is not None and not hasattr(config, "workerinput"):  # xdist's workers only run
        from anycarrier.testing.kit_results import KitResults

        config.pluginmanager.register(KitResults(config.invocation_params.dir / path), "anycarrier-kit-results")


def count_cassettes(config: pytest.Config, carrier: str, counts: Mapping[str, int]) -> None:
    """Remember what the conformance kit found, for the summary."""
    config.stash.setdefault(COUNTS, {})[carrier] = dict(counts)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """With ``--record``: before the first test of a kit, have one conversation with the carrier itself."""
    tested = item.getparent(pytest.Class)
    if tested is None or not item.config.getoption("--record"):
        return
    import asyncio

    from anycarrier.testing.conformance import ProviderConformance
    from anycarrier.testing.record import record_live

    recorded = item.config.stash.setdefault(RECORDED, set())
    if issubclass(tested.obj, ProviderConformance) and tested.obj not in recorded:
        recorded.add(tested.obj)
        try:
            asyncio.run(record_live(tested.obj.provider, tested.obj.cassettes))
        except LookupError as missing:
            pytest.exit(f"--record: {missing}", returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """While a plugin is not all written, a check that needs what is missing waits instead of failing."""
    report: Any = yield
    tested = item.getparent(pytest.Class)
    failure = call.excinfo.value if call.excinfo is not None else None
    if tested is not None and isinstance(failure, NotImplementedError):
        from anycarrier.testing.conformance import EngineConformance, ProviderConformance

        unfinished = item.config.stash.setdefault(UNFINISHED, {})
        if issubclass(tested.obj, ProviderConformance | EngineConformance) and tested.obj not in unfinished:
            unfinished[tested.obj] = bool(tested.obj().unwritten())
        if unfinished.get(tested.obj):
            path, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (path, line, f"Skipped: not written yet: {failure}")
    if item.config.getoption("--kit-report") is not None:
        from anycarrier.testing.kit_results import mark

        mark(item, report)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for carrier, counts in sorted(config.stash.get(COUNTS, {}).items()):
        told = ", ".join(f"{count} {said}" for said, count in counts.items())
        terminalreporter.write_line(f"anycarrier cassettes of {carrier}: {told}")


@pytest.fixture
def anycarrier_cassette(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Any]]:
    """``with anycarrier_cassette("acme/rest/dial"):`` the carrier answers from that cassette; the network is not used.

    Looked for in ``cassettes/`` beside the test, then in the package of the carrier's plugin.
    """
    from anycarrier.testing.cassettes import find
    from anycarrier.testing.replay import recorder

    def play(name: str) -> AbstractContextManager[Any]:
        path = find(name, ".yaml", request.path.parent)
        cassette: AbstractContextManager[Any] = recorder().use_cassette(str(path))
        return cassette

    return play


@pytest.fixture
def anycarrier_webhook(request: pytest.FixtureRequest) -> Callable[[str], WebhookRequest]:
    """``anycarrier_webhook("acme/webhooks/incoming")``: the request a carrier would send, not signed."""
    from anycarrier.testing.cassettes import find, load_webhook

    return lambda name: load_webhook(find(name, ".json", request.path.parent)).request


@pytest.fixture
def anycarrier_sandbox() -> Callable[[str], AbstractAsyncContextManager[Sandbox]]:
    """``async with anycarrier_sandbox("acme") as sandbox:`` that carrier, played on a port of its own."""
    from anycarrier.testing.live_server import serve_sandbox
    from anycarrier.testing.sandbox import sandbox_type

    return lambda carrier: serve_sandbox(sandbox_type(carrier))
