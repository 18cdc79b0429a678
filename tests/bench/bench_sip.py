"""What a call over SIP and RTP costs, and what many of them do to each other.

A far end (``sip_ends.py``) has one core, the telephones that call it (``sip_load.c``) the other; rounds are
interleaved, and of CPU time the least is shown, since neighbours only add. The telephones send a numbered frame each
20 ms and check that it comes back. How late a packet was sent is what they see of it: by its timestamp, against the
earliest of its call.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from media_levels import DELAYED, HERE, build_load, free_port, quietest, resident_kb, scheduled
from result import Result, parser
from sip_ends import LOAD, OURS, REMEMBERED

KEY = bytes(range(30))
CRYPTO = "1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
PER_SECOND = 50
"""Set-ups; one more than that is what a trunk allows, and what the telephones do here."""
SETTLE = 36.0
"""Seconds until the transactions of the last calls are forgotten."""

FIELD = {
    # end: calls, the name of the row
    "handler": (300, "anycarrier, a handler that says what it hears"),
    "handler, half": (150, "the same at half load"),
    "relay": (100, "anycarrier, relayed to an agent's WebSocket"),
    "relay-srtp": (100, "the same with SRTP"),
    "streams": (100, "RTP alone, without a session"),
    "by-hand": (100, "RTP alone by hand, asyncio"),
    "baresip": (20, "baresip-python, a handler that says what it hears"),
    "baresip-relay": (20, "baresip-python, relayed to an agent's WebSocket"),
}
FOREIGN = ("baresip", "baresip-relay")


@dataclass
class Level:
    """What was seen at one number of calls; ``core`` is a share of the core, ``seen`` what the telephones say."""

    calls: int
    core: float
    delayed: float
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def void(self) -> bool:
        """Neighbours had the core for so long that this says nothing."""
        return self.delayed > DELAYED

    @property
    def a_call(self) -> float:
        return self.core / self.calls


class End:
    """A far end's process, pinned to a core."""

    def __init__(self, name: str, core: int, calls: int, *more: str) -> None:
        self.name = name
        self.port = free_udp_port() if name != "agent" else free_port()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed below
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "sip_ends.py"), name, str(self.port), str(calls), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self.pid = self._process.pid
        os.sched_setaffinity(self.pid, {core})
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{name} did not start: {self.log()}")
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})

    def log(self) -> str:
        """The last it said."""
        self._log.seek(0)
        return self._log.read()[-600:].strip()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()


class Bench:
    def __init__(self, options: Namespace) -> None:
        self.quick = options.quick
        self.names = options.only or list(FIELD)
        self.folder = Path(tempfile.mkdtemp(prefix="anycarrier-bench-"))
        self.load = build_load(self.folder, "sip_load")
        self.core, self.load_core = quietest()
        self.levels: dict[str, list[Level]] = {name: [] for name in self.names}
        self.missing: dict[str, str] = {}
        self.set_ups: dict[str, Any] = {}
        self.memory: tuple[int, int, int] | None = None
        self.packets = self.folder / "packets"
        self.seconds = 2.0 if self.quick else 20.0

    def run(self) -> None:
        if find_spec("baresip") is None:
            self.missing = dict.fromkeys(FOREIGN, "baresip-python is not installed")
        for number in range(1 if self.quick else 3):
            for name in self.names:
                if name not in self.missing:
                    say(f"round {number + 1}: {name}")
                    self.levels[name].append(self.level(name))
        say("set-ups")
        self.set_ups = self.set_up()
        say("memory")
        self.memory = self.remember()

    def calls(self, name: str) -> int:
        return 5 if self.quick else FIELD[name][0]

    def level(self, name: str) -> Level:
        """Run it, and again, twice at most, where neighbours had the core."""
        for _ in range(1 if self.quick else 3):
            level = self._level(name)
            if not level.void:
                break
        return level

    def _level(self, name: str) -> Level:
        calls = self.calls(name)
        end, agent, more = name.partition(",")[0], None, []
        if "relay" in end:
            agent = End("agent", self.load_core, 0)
            more = [str(agent.port)]
        far = End(end, self.core, calls, *more)
        try:
            return self._measure(far, calls, warm=1.0 if self.quick else 2.0)
        finally:
            far.close()
            if agent is not None:
                agent.close()

    def _measure(self, far: End, calls: int, warm: float) -> Level:
        alone = far.name in ("streams", "by-hand")
        set_up = 0.0 if alone else calls / PER_SECOND
        lasts = set_up + warm + self.seconds + 1.0
        secure = []
        if far.name == "relay-srtp":
            write_packets(self.packets, int((lasts + 1) * 50))
            secure = [str(self.packets), CRYPTO]
        load = self._call(far, calls, lasts, warm, secure, user=str(LOAD) if alone else OURS)
        try:
            assert load.stdout is not None
            for word in ("connected", "begin"):
                if load.stdout.readline().strip() != word:
                    load.wait(10)
                    raise RuntimeError(f"{far.name}: no call came up: {far.log()}")
            began, before, load_before = time.monotonic(), scheduled(far.pid), scheduled(load.pid)
            load.stdout.readline()
            lasted = time.monotonic() - began
            after, load_after = scheduled(far.pid), scheduled(load.pid)
            seen = json.loads(load.stdout.readline())
        finally:
            load.kill()
            load.wait()
        waited = max(after[1] - before[1], load_after[1] - load_before[1])
        return Level(calls, (after[0] - before[0]) / lasted, waited / lasted, seen)

    def _call(
        self, far: End, calls: int, lasts: float, warm: float, more: Sequence[str] = (), *, rate: float = PER_SECOND,
        user: str = OURS,
    ) -> subprocess.Popen[str]:  # fmt: skip
        words = [far.port, user, calls, rate if user == OURS else 1e6, lasts, warm]
        load = subprocess.Popen([str(self.load), *map(str, words), *more], stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(load.pid, {self.load_core})
        return load

    def _calls_of_a_second(self, far: End, calls: int) -> dict[str, Any]:
        load = self._call(far, calls, 1.0, 0.0)
        try:
            told, _ = load.communicate(timeout=120 + calls)
        finally:
            load.kill()
        return dict(json.loads(told.splitlines()[-1]))

    def set_up(self) -> dict[str, Any]:
        """Calls of a second each, 50 a second for a minute."""
        far = End("handler", self.core, 0)
        try:
            return self._calls_of_a_second(far, 50 if self.quick else 60 * PER_SECOND)
        finally:
            far.close()

    def remember(self) -> tuple[int, int, int]:
        """Kilobytes before and after so many calls. Those before take longer than a transaction is remembered: until
        then, what is there at once still grows."""
        first, count = (20, 50) if self.quick else (60 * PER_SECOND, 5000)
        settle = 1.0 if self.quick else SETTLE
        far = End("handler", self.core, 0)
        try:
            self._calls_of_a_second(far, first)
            time.sleep(settle)
            before = resident_kb(far.pid)
            self._calls_of_a_second(far, count)
            time.sleep(settle)
            self._calls_of_a_second(far, 5)  # with the end of a call, those that ended long ago are forgotten
            return before, resident_kb(far.pid), count
        finally:
            far.close()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def write_packets(file: Path, count: int) -> None:
    """What a telephone sends, encrypted with :data:`KEY`: the same in each call, as each has a session of its own."""
    import pylibsrtp

    policy = pylibsrtp.Policy(key=KEY, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    session = pylibsrtp.Session(policy)
    with file.open("wb") as out:
        for number in range(count):
            packet = session.protect(struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, 160 * number, 77) + b"A" * 160)
            out.write(struct.pack("H", len(packet)) + packet)


def free_udp_port() -> int:
    """The first of as many as 300 calls take, between those of the exchange and those of the load."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for port in (20000, 20700, 21300):
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit("the UDP ports 20000, 20700 and 21300 are all taken")


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def least(levels: list[Level]) -> Level | None:
    return min(levels, key=lambda level: level.core, default=None)


def sip_on_import() -> list[str]:
    """The modules of SIP that ``import anycarrier`` brings in."""
    code = "import anycarrier, json, sys; print(json.dumps([m for m in sys.modules if 'sip' in m.split('.')[0]]))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return list(json.loads(run.stdout))


def targets(bench: Bench) -> list[tuple[str, float | None, float]]:
    """What is held to what: in words, the figure, and what it is to be at most."""
    best = {name: least(levels) for name, levels in bench.levels.items()}

    def a_call(name: str) -> float | None:
        level = best.get(name)
        return 100 * level.a_call if level else None

    def over(one: str, other: str) -> float | None:
        first, second = a_call(one), a_call(other)
        return first / second if first and second else None

    full, half = best.get("handler"), bench.levels.get("handler, half", [])
    seen = [level.seen for name, levels in bench.levels.items() if name not in FOREIGN for level in levels]
    lost = sum(one["lost"] + one["reordered"] + one["gaps"] for one in seen)
    return [
        ("% of the core for 300 calls with a handler", 100 * full.core if full else None, 60.0),
        ("calls that failed, in all rounds", float(sum(one["failed"] for one in seen)), 0.0),
        ("frames lost or out of order, in all rounds", float(lost), 0.0),
        ("ms that a packet is sent late at half load, p99",
         min((level.seen["late_p99_ms"] for level in half), default=None), 5.0),
        ("% of a core a call, relayed", a_call("relay"), 0.20),
        ("% of a core a call, relayed with SRTP", a_call("relay-srtp"), 0.25),
        ("a relayed call over one that baresip-python relays", over("relay", "baresip-relay"), 0.25),
        ("a call with a handler over one of baresip-python", over("handler", "baresip"), 0.33),
        ("% of a core a call, RTP alone", a_call("streams"), 0.12),
        ("set-ups that failed", float(bench.set_ups["failed"]), 0.0),
        ("requests and answers repeated in set-ups",
         float(sum(bench.set_ups[f"{what}_repeats"] for what in ("invite", "answer", "bye"))), 0.0),
        ("% that memory has grown", 100 * (bench.memory[1] / bench.memory[0] - 1) if bench.memory else None, 5.0),
        ("modules of SIP that `import anycarrier` brings in", float(len(sip_on_import())), 0.0),
    ]  # fmt: skip


def result(bench: Bench) -> Result:
    rows, notes = [], []
    for name, levels in bench.levels.items():
        calls, label = FIELD[name]
        if (level := least(levels)) is None:
            notes.append(f"{label}: not measured: {bench.missing.get(name, 'left out')}.")
            continue
        seen = [one.seen for one in levels]
        rows.append([
            label, str(level.calls), f"{100 * level.core:.1f}", f"{100 * level.a_call:.3f}",
            str(sum(one["lost"] + one["reordered"] for one in seen)), str(sum(one["failed"] for one in seen)),
            "-" if name == "relay-srtp" else f"{min(one['round_trip_p99_ms'] for one in seen):.1f}",
            f"{min(one['late_p50_ms'] for one in seen):.2f}", f"{min(one['late_p99_ms'] for one in seen):.2f}",
        ])  # fmt: skip
        if spoilt := sum(one.void for one in levels):
            notes.append(f"{label}: neighbours used the core in {spoilt} of {len(levels)} rounds.")
    verdicts = targets(bench)
    for words, figure, mark in verdicts:
        verdict = "not measured" if figure is None else "kept" if figure <= mark else "SHORT OF IT"
        notes.append(f"- {words}: {'-' if figure is None else f'{figure:.3g}'}, to be at most {mark:g}: {verdict}")
    if bench.memory:
        before, after, count = bench.memory
        memory = f"{before / 1024:.1f} MB before {count} calls of a second each, {after / 1024:.1f} after"
        notes.append(f"\nMemory: {memory}. Ended calls are known for {REMEMBERED:g} s here, not for ten minutes.")
    made = bench.set_ups
    notes.append(
        f"Set-ups: {made['set_up']} calls of a second each, {PER_SECOND} a second; from INVITE to 200 "
        f"{made['set_up_p50_ms']:.1f} ms, p99 {made['set_up_p99_ms']:.1f} ms."
    )
    return Result(
        name="sip",
        bound="the targets below",
        kept=all(figure is not None and figure <= mark for _, figure, mark in verdicts),
        columns=["far end", "calls", "% of the core", "% a call", "frames lost", "calls failed", "round trip p99 ms",
                 "sent late p50 ms", "p99 ms"],
        rows=rows,
        figures={"targets": {words: figure for words, figure, _ in verdicts}},
        notes=["", *notes],
    )  # fmt: skip


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--quick", action="store_true", help="few calls: to see that it runs")
    options.add_argument("--only", nargs="*", choices=list(FIELD), help="these far ends only")
    chosen = options.parse_args()
    bench = Bench(chosen)
    try:
        bench.run()
        made = result(bench)
    finally:
        bench.close()
    made.report(chosen)


if __name__ == "__main__":
    main()
