"""One level of ``./dev bench media``: a bridge on one core, the load on another, and whether what was seen counts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
DELAYED = 0.05
"""Share of a level's time the bridge or the load may wait for a core that somebody else uses."""
LATE_MS = 10.0
"""The load may be this late with a frame: beyond, it is the load that is measured."""
SLOW_MS = 20.0


@dataclass
class Level:
    """What was seen at one number of calls; times in ms, CPU in µs for each frame relayed one way."""

    calls: int
    relayed: int
    cpu_us: float
    core: float
    p50_ms: float
    p99_ms: float
    late_ms: float
    load_core: float
    delayed: float
    flaws: dict[str, int] = field(default_factory=dict)
    rss_kb: int = 0

    @property
    def void(self) -> str:
        """Why this level says nothing of the bridge; empty when it counts."""
        if self.delayed > DELAYED:
            return f"neighbours: {self.delayed:.0%} of the time waiting for a core"
        if self.late_ms > LATE_MS and self.load_core > 0.9:
            return f"the load itself was {self.late_ms:.0f} ms late"
        return ""

    @property
    def clean(self) -> bool:
        """Nothing lost, out of order, on the wrong call, unreadable or cut off."""
        return not any(self.flaws.values())

    @property
    def passes(self) -> bool:
        return self.clean and 0 <= self.p99_ms < SLOW_MS


def largest(
    passes: Callable[[int], bool], guess: int, *, stride: float = 1.35, most: int = 4000, precision: float = 1.07
) -> int:
    """The largest number that passes, found by galloping from ``guess`` and halving the gap; 0 when 1 does not."""
    low, high = 0, most + 1
    at = max(1, guess)
    while high / max(low, 1) > precision and high - low > 1:
        if passes(at):
            low = at
        else:
            high = at
        if high > most:
            at = min(most, int(at * stride) + 1)
            if low >= most:
                return low
        elif low == 0:
            at = max(1, int(at / stride))
        else:
            at = (low + high) // 2
    return low


def quietest() -> tuple[int, int]:
    """A core for the bridge, the quieter one, and one for the load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this bench needs two cores: one for the bridge, one for the load")
    before = {core: _busy(core) for core in cores}
    time.sleep(0.5)
    bridge, load, *_ = sorted(cores, key=lambda core: _busy(core) - before[core])
    return bridge, load


def _busy(core: int) -> int:
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in line.split()[1:9])
    return user + nice + system + irq + softirq + steal


def scheduled(pid: int) -> tuple[float, float]:
    """Seconds a process has run, and seconds it was ready to run and did not: its threads together."""
    run = wait = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        ran, waited, _ = (task / "schedstat").read_text().split()
        run, wait = run + int(ran), wait + int(waited)
    return run / 1e9, wait / 1e9


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def build_load(folder: Path, name: str = "media_load") -> Path:
    """The load generator, compiled; it has to do more than any bridge on a core as fast."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SystemExit("this bench builds its load generator and needs a C compiler: apt-get install gcc")
    program = folder / name
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


class Bridge:
    """A bridge's process, pinned to its core."""

    def __init__(self, name: str, core: int, load: Path, load_core: int, python: str = sys.executable) -> None:
        self.name = name
        self._load = load
        self._load_core = load_core
        self._ports = [str(free_port()), str(free_port())]
        self._folder = Path(tempfile.mkdtemp(prefix="anycarrier-bench-"))
        self._log = self._folder / "log"
        self._process = subprocess.Popen(
            [python, str(HERE / "media_bridges.py"), name, *self._ports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
            env={**os.environ, "ANYCARRIER_PLUGINS": "twilio", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        os.sched_setaffinity(self._process.pid, {core})
        if self._answer() != "ready":
            raise RuntimeError(f"{name} did not start: {self.log()}")
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        """The last it said."""
        return self._log.read_text()[-600:].strip()

    def level(
        self, mode: str, calls: int, *, warm: float, seconds: float, watch: Callable[[float], None] | None = None
    ) -> Level:
        """Run it; ``watch`` is called about once a second with the seconds gone. RuntimeError when no call comes up."""
        file = self._folder / "calls"
        self._tell(f"calls {calls} {file}")
        load = subprocess.Popen(
            [str(self._load), HOST, *self._ports, str(file), mode, str(warm), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.sched_setaffinity(load.pid, {self._load_core})
        assert load.stdout is not None and load.stderr is not None
        try:
            self._await(load, "connected")
            self._await(load, "begin")
            began, before, load_before = time.monotonic(), scheduled(self.pid), scheduled(load.pid)
            while watch is not None and (gone := time.monotonic() - began) < seconds - 1:
                watch(gone)
                time.sleep(1)
            self._await(load, "end")
            after, load_after = scheduled(self.pid), scheduled(load.pid)
            rss = resident_kb(self.pid)
            seen: dict[str, Any] = json.loads(load.stdout.readline())
            load.wait(30)
        finally:
            load.kill()
            load.wait()
            load.stdout.close()
            load.stderr.close()
        self._tell("end")
        lasted, relayed = seen["seconds"], seen["relayed"]
        waited = max(after[1] - before[1], load_after[1] - load_before[1])
        return Level(
            calls=calls,
            relayed=relayed,
            cpu_us=(after[0] - before[0]) * 1e6 / max(1, relayed),
            core=(after[0] - before[0]) / lasted,
            p50_ms=seen["p50_ms"],
            p99_ms=seen["p99_ms"],
            late_ms=seen["late_ms"],
            load_core=seen["load_cpu"],
            delayed=waited / lasted,
            flaws={what: seen[what] for what in ("lost", "reordered", "misrouted", "stray", "broken")},
            rss_kb=rss,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _await(self, load: subprocess.Popen[str], word: str) -> None:
        assert load.stdout is not None and load.stderr is not None
        if load.stdout.readline().strip() != word:
            load.wait(10)
            raise RuntimeError(f"{self.name}: {load.stderr.read().strip()} {self.log()}")

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        if self._answer() != "ok":
            raise RuntimeError(f"{self.name} died: {self.log()}")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def as_json(level: Level) -> dict[str, Any]:
    return asdict(level)
