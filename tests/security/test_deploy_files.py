"""The files one deploys from name only settings that exist, and leave no guard down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from anycarrier_server.settings import Settings

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples" / "deploy"
KNOWN = {f"ANYCARRIER_{name.upper()}" for name in Settings.model_fields}
PAGE = FOLDER.parents[1] / "deploy.md"


FILES = [FOLDER / "compose.yaml", FOLDER / "anycarrier.service", PAGE]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_named_is_one(path: Path) -> None:
    named = set(re.findall(r"ANYCARRIER_[A-Z_]+[A-Z]", path.read_text()))
    engines = {name for name in named if name.startswith("ANYCARRIER_ENGINES__")}  # one for each engine's settings
    assert named and named - KNOWN - engines == set()


def test_compose_keeps_the_service_behind_the_proxy_and_its_guards_up() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    given = services["anycarrier"]["environment"]
    assert not {"ANYCARRIER_LOCAL", "ANYCARRIER_SANDBOX", "ANYCARRIER_OUTWARD_ALLOW"} & set(given)
    assert all(given[name].startswith("${") for name in ("ANYCARRIER_MASTER_KEY", "ANYCARRIER_ADMIN_KEY"))


def test_metrics_are_not_published_by_either_proxy() -> None:
    """They need no key, so whoever stands in front keeps strangers from them."""
    composed = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert "command" not in composed["services"]["proxy"]
    assert composed["services"]["proxy"]["configs"] == [{"source": "caddyfile", "target": "/etc/caddy/Caddyfile"}]
    lines = [line.strip() for line in composed["configs"]["caddyfile"]["content"].splitlines()]
    assert lines[1:3] == ["respond /metrics 403", "reverse_proxy anycarrier:8080"]
    assert "location = /metrics { deny all; }" in PAGE.read_text()


@pytest.mark.parametrize(("path", "pattern"), [
    (FOLDER / "compose.yaml", r"stop_grace_period: (\d+)m"), (FOLDER / "anycarrier.service", r"TimeoutStopSec=(\d+)"),
])  # fmt: skip
def test_supervisors_wait_longer_than_calls_are_drained(path: Path, pattern: str) -> None:
    text = path.read_text()
    drained = re.search(r'ANYCARRIER_DRAIN_SECONDS[=: "]+(\d+)', text)
    waits = re.search(pattern, text)
    assert drained and waits
    assert int(waits[1]) * (60 if pattern.endswith("m") else 1) > int(drained[1])


def test_nothing_of_ours_is_taken_from_an_index_that_does_not_have_it() -> None:
    """Whoever registered the name there would be running in your service."""
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    installed = re.search(r"pip install (.*?) &&", services["anycarrier"]["command"][2])
    assert installed
    ours = [word.strip("'") for word in installed[1].split() if not word.startswith("-")]
    assert ours and all(word.startswith(".") for word in ours)
    assert "../../..:/checkout:ro" in services["anycarrier"]["volumes"]
    for place in ours:
        assert (FOLDER.parents[2] / place.partition("[")[0] / "pyproject.toml").is_file(), place
