"""The workflows call what the repository has, pin every action, and give the right to publish to one job only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def jobs(workflow: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(workflow.read_text())["jobs"])


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow).values() for step in job.get("steps", [])]


def test_there_is_one_for_ci_and_one_for_releases() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_script_it_runs_is_here(workflow: Path) -> None:
    named = [word for step in steps(workflow) for word in re.findall(r"(?:\./|\.ci/)[\w-]+", step.get("run", ""))]
    assert named
    for script in named:
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} cannot be run"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_to_a_version(workflow: Path) -> None:
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@v\d+(\.\d+)*", step["uses"]), step["uses"]


def test_one_job_may_publish_and_only_after_ci_and_the_build() -> None:
    release = jobs(ROOT / ".github/workflows/release.yml")
    assert [name for name, job in release.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert release["publish"]["needs"] == ["ci", "build"]
    assert release["publish"]["environment"] == "release"
    assert "checkout" not in str(release["publish"]["steps"]), "the job that may publish runs no code of the repository"
