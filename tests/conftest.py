"""What every test gets: the house documents, and under ``ANYCARRIER_CI=1`` no quiet skip.

A skip is how a laptop without PostgreSQL or ../shared still gets an answer. In CI it would be how a check is
lost, so there every skip is a failure, but for those that no machine of ours can run. A public runner has no ../shared.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import httpx
import hypothesis
import pytest

from frameworks.environments import discover
from shared_documents import SHARED, shared_path

pytest_plugins = ["pytester"]

hypothesis.settings.register_profile(
    "any machine",
    deadline=None,  # a busy one is no failure
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("ANYCARRIER_CI") == "1",  # CI judges the commit; other runs look for what nobody knew
)
hypothesis.settings.load_profile("any machine")

for client in (httpx.Client, httpx.AsyncClient):  # a busy machine may take more than the five seconds that they give it
    client.__init__.__kwdefaults__["timeout"] = httpx.Timeout(60)  # type: ignore[misc]

create_context = ssl.create_default_context


@functools.cache
def _public_authorities() -> ssl.SSLContext:
    return create_context(cafile=certifi.where())


def _created_once(*given: Any, **settings: Any) -> ssl.SSLContext:
    """httpx reads the public authorities' certificates for each client, for 20 ms; most tests make several clients."""
    if given or settings != {"cafile": certifi.where()}:
        return create_context(*given, **settings)
    return _public_authorities()


ssl.create_default_context = _created_once

SKIPS_ALLOWED_IN_CI = (
    "live:",  # needs an account with a carrier
    "capability",  # this carrier does not claim it
    "Python 3.",  # an interpreter this new or old has no such module
)
DOCUMENTS = "needs ../shared"
"""Where a skip for want of the house documents begins; with ``ANYCARRIER_SHARED=none`` a machine says it has none."""
KIT = "anycarrier/testing/conformance/"  # skips by capability only, in sentences of its own


FEW_AND_LONG = (
    "server/test_two_processes.py", "docs/test_examples.py", "server/oneinbox/test_schemathesis.py",
    "server/inkbox/test_schema.py", "server/cli/test_operations_schema.py", "docs/test_testing_page.py",
    "server/test_serve_command.py", "server/test_full_disk.py", "packaging/test_dev.py", "core/test_scaffold.py",
)  # fmt: skip
"""Begun first, or one process of several would be left alone with them at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files first, then those with many tests; within a file as written. ``./dev`` keeps xdist from reordering."""
    if carrier := config.getoption("carrier"):
        others = [item for item in items if not _of(item, carrier)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in {*others}]
    many = Counter(item.path for item in items)
    first = {Path(__file__).parent / name for name in FEW_AND_LONG}
    items.sort(key=lambda item: (item.path not in first, -many[item.path], str(item.path)))


def _of(item: pytest.Item, carrier: str) -> bool:
    """Whether a test is the carrier's own, or is run on it; those that listen to speech say nothing about a carrier."""
    if item.path.is_relative_to(Path(__file__).parent / "providers" / carrier):
        return True
    on = getattr(item, "callspec", None)
    return on is not None and carrier in on.params.values() and "spoken" not in item.path.name


def _in_ci() -> bool:
    return os.environ.get("ANYCARRIER_CI") == "1"


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    where, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    reason = reason.removeprefix("Skipped: ")
    allowed = (*SKIPS_ALLOWED_IN_CI, *([DOCUMENTS] if os.environ.get("ANYCARRIER_SHARED") == "none" else []))
    if KIT not in Path(where).as_posix() and not reason.startswith(allowed):
        report.outcome = "failed"
        report.longrepr = f"skipped, and ANYCARRIER_CI=1 allows no skip: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report: Any = yield
    if _in_ci():
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report: Any = yield
    if _in_ci():
        _refuse_skip(report)
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="rewrite the generated pages under docs/")
    parser.addoption("--carrier", metavar="NAME", help="this carrier's own tests, and others only where they run on it")


FRAMEWORKS = Path(__file__).resolve().parent / "frameworks"
KNOWN = discover()
ABSENT = {name: lacks for name, framework in KNOWN.items() if (lacks := framework.missing())}
"""The frameworks whose adapters this interpreter cannot test, and what it lacks for each."""


def pytest_configure(config: pytest.Config) -> None:
    """Who names the tests of a framework that is absent is told what to run, rather than that there are none."""
    for argument in config.args:
        path = Path(config.invocation_params.dir, argument.partition("::")[0]).resolve()
        if not path.is_relative_to(FRAMEWORKS):
            continue
        name = "/".join(path.relative_to(FRAMEWORKS).parts[:1])
        if name in ABSENT:
            lacks = " and ".join(ABSENT[name])
            raise pytest.UsageError(f"{argument} needs {lacks}, absent here; run ./dev frameworks {name}")
        if len(ABSENT) == len(KNOWN):
            raise pytest.UsageError(f"{argument} needs a framework, and there is none here; run ./dev frameworks")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """The tests of frameworks that are absent are left to ``./dev frameworks``."""
    absent = collection_path.parent == FRAMEWORKS and collection_path.name in ABSENT
    return True if absent or (collection_path == FRAMEWORKS and len(ABSENT) == len(KNOWN)) else None


def pytest_report_header() -> list[str]:
    lines = [f"house documents: {SHARED if SHARED.exists() else 'absent, tests that need them are skipped'}"]
    if ABSENT:
        lines.append(f"not collected: tests/frameworks of {', '.join(ABSENT)}; run ./dev frameworks")
    return lines


@pytest.fixture(scope="session")
def shared() -> Callable[..., Path]:
    """``shared("recordings", "twilio")``: a path among the house documents, or a skip with the reason."""
    return shared_path
