"""The field of media bridges side by side: CPU for each relayed frame, round trips, most calls on a core, memory.

Each bridge is a process pinned to one core, the load (``media_load.c``) to another; rounds are interleaved, those of
the search for the most calls too, since a shared machine may be half as fast again a minute later; a level that
neighbours spoilt is repeated, then marked. ``--quick`` takes two minutes, all of it some twenty.
``--soak SECONDS`` runs the fast bridge at 70 % of its largest number of calls and wants nothing lost and memory flat.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from media_levels import Bridge, Level, as_json, build_load, largest, quietest, resident_kb
from media_pipecat import installed_pipecat
from result import Result, commit, machine, parser

FIELD = [
    "anycarrier-fast", "anycarrier-portable", "anycarrier-in-fastapi", "fastapi-by-hand", "websockets", "picows-bare",
    "pipecat",
]  # fmt: skip
QUESTIONS = ["anycarrier-fast-gc-default"]
"""Asked for by name only: what Python's own times for collecting garbage cost."""
GUESS = {"anycarrier-fast": 450, "picows-bare": 500, "pipecat": 12}
"""Where the search for the largest number begins; elsewhere at 200."""
PACED = 100
"""Calls at which paced rounds are taken; pipecat, which cannot, has 5."""
STATE = Path(tempfile.gettempdir()) / "anycarrier-bench-media.json"


@dataclass
class Plan:
    """How much of everything."""

    rounds: int = 5
    flood_seconds: float = 1.5
    paced_seconds: float = 2.5
    idle_calls: int = 200
    search_rounds: int = 3
    search_seconds: float = 2.5
    search_budget: float = 75.0
    again: bool = True

    @classmethod
    def quick(cls) -> Plan:
        return cls(rounds=2, flood_seconds=0.7, paced_seconds=1.0, idle_calls=60, search_rounds=0, again=False)


@dataclass
class Search:
    """One search for the largest number of calls: the level with it, if any passed."""

    best: Level | None = None
    spoilt: bool = False
    """Not finished: the largest number may be larger."""

    @property
    def calls(self) -> int:
        return self.best.calls if self.best else 0


@dataclass
class Seen:
    """Of one bridge."""

    flood: list[Level] = field(default_factory=list)
    paced: list[Level] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    rss_kb: float | None = None
    problem: str = ""

    @property
    def most(self) -> Search | None:
        """Of the searches the middle one, those that were finished if there are any."""
        finished = [one for one in self.searches if not one.spoilt] or self.searches
        ordered = sorted(finished, key=lambda one: one.calls)
        return ordered[(len(ordered) - 1) // 2] if ordered else None


class Bench:
    """The run, kept in a file as it goes, so that ``--resume`` takes up where one was cut."""

    def __init__(self, options: Namespace) -> None:
        self.plan = Plan.quick() if options.quick else Plan()
        self.names = [name for name in [*FIELD, *QUESTIONS] if name in (options.only or FIELD)]
        self.core, self.load_core = quietest()
        self.load = build_load(Path(tempfile.mkdtemp(prefix="anycarrier-bench-")))
        self.seen = {name: Seen() for name in self.names}
        self.key = f"{commit()} {machine()} {'quick' if options.quick else 'full'}"
        self.pythons: dict[str, str] = {}
        self._bridges: dict[str, Bridge] = {}
        if options.resume:
            self._resume()

    def run(self) -> None:
        for name in self.names:
            if name == "pipecat":
                python, problem = installed_pipecat()
                self.pythons[name], self.seen[name].problem = python, problem
        for name in self.names:
            if self.seen[name].rss_kb is None:
                self._memory(name)
        for number in range(self.plan.rounds):
            for name in self.names:
                if name != "pipecat" and len(self.seen[name].flood) <= number:
                    # pipecat plays out in real time, so it cannot be flooded: its cost is that of the paced rounds
                    self._once(name, "flood", "flood", 64, self.plan.flood_seconds)
            for name in self.names:
                if len(self.seen[name].paced) <= number < 3:
                    calls = 5 if name == "pipecat" else PACED
                    self._once(name, "paced", "paced", calls, self.plan.paced_seconds)
        for number in range(self.plan.search_rounds):
            for name in self.names:
                if len(self.seen[name].searches) <= number:
                    self.search(name)

    def close(self) -> None:
        for name in list(self._bridges):
            self._bridges.pop(name).close()

    def bridge(self, name: str) -> Bridge:
        """Its process, started when it is first asked for, and again when it died."""
        if name not in self._bridges:
            python = self.pythons.get(name) or sys.executable
            self._bridges[name] = Bridge(name, self.core, self.load, self.load_core, python)
        return self._bridges[name]

    def _once(self, name: str, into: str, mode: str, calls: int, seconds: float) -> None:
        seen = self.seen[name]
        if seen.problem:
            return
        say(f"{name}: {mode}, {calls} calls")
        try:
            level = self.bridge(name).level(mode, calls, warm=0.5, seconds=seconds)
            if level.void and self.plan.again:
                # What neighbours add to CPU time is little: spoilt twice, the better one is kept, and marked.
                again = self.bridge(name).level(mode, calls, warm=0.5, seconds=seconds)
                level = min(level, again, key=lambda one: (bool(one.void), one.cpu_us))
        except (RuntimeError, OSError) as failure:
            self._failed(name, failure)
        else:
            getattr(seen, into).append(level)
        self._keep()

    def _memory(self, name: str) -> None:
        """Of a process that has had some calls: what the first ones bring in for all is no call's."""
        seen = self.seen[name]
        if seen.problem:
            return
        calls = min(self.plan.idle_calls, 20) if name == "pipecat" else self.plan.idle_calls
        first = max(5, calls // 10)
        say(f"{name}: memory of {calls} idle calls")
        try:
            before = self.bridge(name).level("idle", first, warm=0.1, seconds=0.4).rss_kb
            after = self.bridge(name).level("idle", first + calls, warm=0.1, seconds=1.0).rss_kb
        except (RuntimeError, OSError) as failure:
            self._failed(name, failure)
        else:
            seen.rss_kb = (after - before) / calls
        self._keep()

    def search(self, name: str) -> None:
        """The largest number of calls, within the plan's time; after the first search beginning at what that found."""
        seen = self.seen[name]
        if seen.problem:
            return
        before, found = seen.most, Search()
        due = time.monotonic() + self.plan.search_budget

        def passes(calls: int) -> bool:
            failed = spoilt = 0
            while failed < 2 and spoilt < 4:  # one bump of a shared machine is no verdict
                if time.monotonic() > due:
                    break
                try:
                    level = self.bridge(name).level("paced", calls, warm=1.0, seconds=self.plan.search_seconds)
                except (RuntimeError, OSError) as failure:
                    say(f"  {calls}: {str(failure)[:200]}")
                    self._bridges.pop(name).close()
                    return False
                say(f"  {calls}: p99 {level.p99_ms:.1f} ms, core {level.core:.0%}, {level.flaws} {level.void}")
                if level.clean and level.core < 0.97 if name == "pipecat" else level.passes:
                    if found.best is None or level.calls > found.best.calls:
                        found.best = level
                    return True
                if level.void:
                    spoilt += 1
                    time.sleep(2)
                else:
                    failed += 1
            # A level that only neighbours made fail says nothing, nor does one not run.
            found.spoilt |= failed < 2
            return False

        say(f"{name}: largest number of calls")
        if before and before.calls:
            largest(passes, before.calls, stride=1.15)
        else:
            largest(passes, GUESS.get(name, 200))
        seen.searches.append(found)
        self._keep()

    def _failed(self, name: str, failure: Exception) -> None:
        self.seen[name].problem = str(failure)[:300]
        if name in self._bridges:
            self._bridges.pop(name).close()

    def _keep(self) -> None:
        kept = {name: {"flood": [as_json(level) for level in seen.flood], "paced": [as_json(p) for p in seen.paced],
                       "searches": [[as_json(one.best) if one.best else None, one.spoilt] for one in seen.searches],
                       "rss_kb": seen.rss_kb, "problem": seen.problem} for name, seen in self.seen.items()}  # fmt: skip
        STATE.write_text(json.dumps({"key": self.key, "seen": kept}))

    def _resume(self) -> None:
        kept = json.loads(STATE.read_text()) if STATE.exists() else {}
        if kept.get("key") != self.key:
            say("nothing to resume: no run of this commit on this machine was cut")
            return
        for name, old in kept["seen"].items():
            if name in self.seen:
                self.seen[name] = Seen(
                    [Level(**level) for level in old["flood"]], [Level(**level) for level in old["paced"]],
                    [Search(Level(**best) if best else None, spoilt) for best, spoilt in old["searches"]],
                    old["rss_kb"], old["problem"],
                )  # fmt: skip


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def low(levels: list[Level]) -> float | None:
    """The least CPU for a frame: neighbours only add."""
    return min((level.cpu_us for level in levels), default=None)


def over(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def targets(seen: dict[str, Seen]) -> list[tuple[str, float | None, str, float]]:
    """What is held to what: in words, the figure, whether it is to be at most or at least, and the mark."""

    def flood(name: str) -> float | None:
        return low(seen[name].flood) if name in seen else None

    def calls(over_name: str) -> float | None:
        """Fast's over another's, the middle of the rounds in which both searches were finished."""
        pairs = zip(fast.searches, seen[over_name].searches if over_name in seen else [], strict=False)
        times = [one.calls / other.calls for one, other in pairs if other.calls and not one.spoilt | other.spoilt]
        return statistics.median(times) if times else None

    fast = seen.get("anycarrier-fast", Seen())
    return [
        ("fast: CPU per frame over picows bare's", over(flood("anycarrier-fast"), flood("picows-bare")), "<=", 1.25),
        ("fast: CPU per frame over the websockets bridge's", over(flood("anycarrier-fast"), flood("websockets")),
         "<=", 0.35),
        ("fast: largest N over the hand-written FastAPI bridge's", calls("fastapi-by-hand"), ">=", 3.0),
        ("fast: largest N over pipecat's", calls("pipecat"), ">=", 10.0),
        ("fast: MB for an idle bridged call", fast.rss_kb / 1024 if fast.rss_kb else None, "<=", 0.10),
        ("portable: CPU per frame over the hand-written FastAPI bridge's", over(flood("anycarrier-portable"),
         flood("fastapi-by-hand")), "<=", 1.15),
    ]  # fmt: skip


def held(figure: float | None, sign: str, mark: float) -> bool:
    return figure is not None and (figure <= mark if sign == "<=" else figure >= mark)


def shown(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def result(bench: Bench) -> Result:
    seen = bench.seen
    base = low(seen["picows-bare"].flood) if "picows-bare" in seen else None
    rows, notes = [], []
    for name, one in seen.items():
        least, paced, most = low(one.flood), one.paced, one.most
        best = most.best if most else None
        middle = statistics.median(level.cpu_us for level in one.flood) if one.flood else None
        rows.append([
            name, shown(least), shown(middle), shown(over(least, base), 2), shown(low(paced)),
            shown(min((level.p50_ms for level in paced), default=None), 2),
            shown(min((level.p99_ms for level in paced), default=None), 2),
            ">= " * most.spoilt + str(best.calls) if most and best else "-", shown(best.cpu_us if best else None),
            shown(best.p99_ms if best else None), shown(one.rss_kb, 0),
        ])  # fmt: skip
        levels = [*one.flood, *one.paced]
        if spoilt := sum(bool(level.void) for level in levels):
            notes.append(f"{name}: neighbours used the core in {spoilt} of {len(levels)} rounds.")
        if unclean := [level.flaws for level in levels if not level.clean]:
            notes.append(f"{name}: frames went wrong: {unclean[0]}.")
        if spoilt := sum(search.spoilt for search in one.searches):
            notes.append(
                f"{name}: neighbours used the core in {spoilt} of {len(one.searches)} searches for the largest N."
            )
        if one.problem:
            notes.append(f"{name}: not measured: {one.problem}.")
    verdicts = targets(seen)
    for words, figure, sign, mark in verdicts:
        verdict = "not measured" if figure is None else "kept" if held(figure, sign, mark) else "SHORT OF IT"
        notes.append(f"- {words}: {shown(figure, 2)}, to be {sign} {mark:g}: {verdict}")
    at_pace = {name: low(one.paced) for name, one in seen.items()}
    by_bare, by_websockets = (
        shown(over(at_pace.get("anycarrier-fast"), at_pace.get(name)), 2) for name in ("picows-bare", "websockets")
    )
    notes.append("")
    notes.append(
        f"At the pace of speech, with {PACED} calls, a frame on the fast path costs {by_bare} x picows bare's and "
        f"{by_websockets} x the websockets bridge's: it alone takes frames together that come within a millisecond "
        "(`fast.coalescing`)."
    )
    notes.append("")
    notes.append(
        f"Flood: 64 calls, a frame in flight each. Paced: 50 frames a second each way, {PACED} calls (pipecat: 5). "
        "Largest N: p99 of the round trip under 20 ms and nothing lost; of pipecat, which plays out in real time and "
        "takes longer by design, only that nothing is lost and the core is not used up. Each is searched for three "
        "times, in turn; shown is the middle one, and the ratios are the middle ones of the three rounds'."
    )
    return Result(
        name="media",
        bound="the six targets below",
        kept=all(held(figure, sign, mark) for _, figure, sign, mark in verdicts),
        columns=["bridge", "flood µs/frame", "median", "x bare", "paced µs/frame", "p50 ms", "p99 ms", "largest N",
                 "µs/frame there", "p99 ms there", "KB/idle call"],
        rows=rows,
        figures={"targets": {words: figure for words, figure, _, _ in verdicts}},
        notes=["", *notes],
    )  # fmt: skip


def soak(bench: Bench, options: Namespace) -> Result:
    """70 % of the largest number for a long time."""
    calls = options.calls
    if calls is None:
        bench.search("anycarrier-fast")
        most = bench.seen["anycarrier-fast"].most
        calls = int(most.calls * 0.7) if most and most.calls else 50
    memory: list[tuple[float, int]] = []
    bridge = bench.bridge("anycarrier-fast")

    def watch(gone: float) -> None:
        memory.append((gone, resident_kb(bridge.pid)))
        if int(gone) % 30 == 0:
            say(f"  {gone:.0f} s: {memory[-1][1] // 1024} MB")

    say(f"soak: {calls} calls for {options.soak:g} s")
    level = bridge.level("paced", calls, warm=2.0, seconds=options.soak, watch=watch)
    settled = [kb for gone, kb in memory if gone >= options.soak * 0.2] or [level.rss_kb]
    growth = (settled[-1] - settled[0]) / settled[0]
    flat = growth < 0.02
    figures: dict[str, Any] = {"calls": calls, "seconds": options.soak, "relayed": level.relayed, **level.flaws}
    figures |= {"p50_ms": level.p50_ms, "p99_ms": level.p99_ms, "memory_growth": round(growth, 4)}
    return Result(
        name="media-soak",
        bound="nothing lost, out of order or on the wrong call, and memory flat (under 2 %) after the first fifth",
        kept=level.clean and flat,
        columns=["calls", "seconds", "frames relayed", "lost", "out of order", "wrong call", "p99 ms", "MB then", "MB"],
        rows=[[str(calls), f"{options.soak:g}", str(level.relayed), str(level.flaws["lost"]),
               str(level.flaws["reordered"]), str(level.flaws["misrouted"]), shown(level.p99_ms),
               str(settled[0] // 1024), str(settled[-1] // 1024)]],
        figures=figures,
        notes=[level.void] if level.void else [],
    )  # fmt: skip


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--quick", action="store_true", help="two minutes: no search for the largest number of calls")
    options.add_argument("--only", nargs="*", choices=[*FIELD, *QUESTIONS], help="these bridges only")
    options.add_argument("--resume", action="store_true", help="go on with a run that was cut")
    options.add_argument("--soak", type=float, metavar="SECONDS", help="the long run, instead of the table")
    options.add_argument("--calls", type=int, help="calls of the soak, instead of 70 %% of the largest number")
    chosen = options.parse_args()
    bench = Bench(chosen)
    try:
        if not chosen.soak:
            bench.run()
        made = soak(bench, chosen) if chosen.soak else result(bench)
    finally:
        bench.close()
    made.report(chosen)


if __name__ == "__main__":
    main()
