"""The benches measure what they say. Whether a bound is kept they say themselves, on a quiet machine."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def bench(*words: str) -> dict[str, Any]:
    run = subprocess.run([sys.executable, str(HERE), *words, "--json"], capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stderr
    shown: dict[str, Any] = json.loads(run.stdout)
    assert run.returncode == (0 if shown["ok"] else 1)
    return shown


def test_import_anycarrier_pulls_in_no_sdk_http_client_or_server(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("bench_import", monkeypatch)
    assert module.FORBIDDEN & set(module.pulled_in()) == set()
    assert module.FORBIDDEN & set(module.pulled_in("import httpx")) == {"httpx"}


def test_the_import_bench_compares_with_what_we_stand_on() -> None:
    assert bench("import", "--rounds", "1")["ratio"] > 0


def test_the_serializer_bench_measures_each_carrier_both_ways() -> None:
    ratios = bench("serializers", "--rounds", "1", "--frames", "100")["ratios"]
    ours = [folder.parent.name for folder in HERE.parents[1].glob("providers/*/pyproject.toml")]
    assert len(ours) >= 3 and ratios.keys() == {f"{name} {way}" for name in ours for way in ("decode", "encode")}


def test_an_installed_carrier_without_frames_is_named_and_the_bound_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("frames", monkeypatch)
    module = load("bench_serializers", monkeypatch)
    monkeypatch.setattr(module, "provider_names", lambda: ["acme", "sip", "zeppelin"])
    monkeypatch.setattr(module, "measure", lambda *_: (True, {key: [1.0] for key in
                        ("decode", "plain decode", "encode", "plain encode")}))  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["serializers", "--json"])
    with pytest.raises(SystemExit) as done:
        module.main()
    told = json.loads(capsys.readouterr().out)
    assert done.value.code == 1 and not told["ok"] and told["not_measured"] == ["zeppelin"]


@pytest.mark.parametrize(
    ("binary", "cost", "kept"), [(True, 1.19, True), (True, 1.21, False), (False, 0.33, True), (False, 0.34, False)]
)
def test_binary_audio_may_cost_a_fifth_more_and_json_a_third(
    binary: bool, cost: float, kept: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("frames", monkeypatch)
    module = load("bench_serializers", monkeypatch)
    found = {"decode": [cost], "plain decode": [1.0], "encode": [0.1], "plain encode": [1.0]}
    monkeypatch.setattr(module, "provider_names", lambda: ["sip"])
    monkeypatch.setattr(module, "measure", lambda *_: (binary, found))
    monkeypatch.setattr(sys, "argv", ["serializers", "--json"])
    with pytest.raises(SystemExit):
        module.main()
    assert json.loads(capsys.readouterr().out)["ok"] is kept


def test_without_a_name_the_benches_are_listed() -> None:
    run = subprocess.run([sys.executable, str(HERE)], capture_output=True, text=True)
    assert run.returncode == 2
    assert {"import", "serializers"} <= {line.split()[0] for line in run.stdout.splitlines()}


def test_of_a_hundred_calls_the_fairness_benchs_p99_is_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("bench_fairness", monkeypatch)
    hundred = [float(number) for number in range(100, 0, -1)]
    assert (module.quantile(hundred, 0.5), module.quantile(hundred, 0.99)) == (51, 100)
    assert module.quantile([7.0], 0.99) == 7
    assert set(module.NUMBERS) == {"quiet", *module.NEIGHBOURS}


def test_writing_replaces_only_the_benchs_own_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Result = load("result", monkeypatch).Result
    page = tmp_path / "benchmarks.md"
    Result("one", "b", True, ["what", "ns"], [["x", "1"]]).write(page)
    Result("two", "b", True, ["what", "ns"], [["y", "2"]]).write(page)
    Result("one", "b", False, ["what", "ns"], [["x", "3"]]).write(page)
    text = page.read_text()
    assert text.count("## one") == text.count("## two") == 1
    assert "| x | 3 |" in text and "| y | 2 |" in text and "| x | 1 |" not in text
    assert "NOT KEPT" in text


def test_the_sip_bench_measures_calls_set_ups_and_memory() -> None:
    shown = bench("sip", "--quick", "--only", "handler", "relay-srtp", "by-hand")["targets"]
    assert shown["% of the core for 300 calls with a handler"] > 0 < shown["% of a core a call, relayed with SRTP"]
    assert shown["calls that failed, in all rounds"] == shown["set-ups that failed"] == 0
    assert shown["% that memory has grown"] is not None
    assert shown["a relayed call over one that baresip-python relays"] is None
    assert shown["modules of SIP that `import anycarrier` brings in"] == 0
