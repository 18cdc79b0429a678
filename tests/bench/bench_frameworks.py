"""What each framework's adapter costs for a frame of audio, beside the framework's own way to a carrier.

CPU of the process that answers, for each 20 ms frame that comes in and goes back; ``--calls`` at once, over loopback
sockets. In each round every subject is measured once, so that a ratio is of one minute on one machine; the figures are
medians of the rounds. A subject's process lives through all rounds, and is at rest while another is measured. Of an
adapter that is interrupted: milliseconds until the far end is told to drop what it was sent.
``tests/bench/frameworks/NAME.py`` has the rows of a framework, measured in its environment.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import statistics
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from result import Result, parser, percentile

TESTS = Path(__file__).resolve().parents[1]
sys.path[1:1] = [str(TESTS)]  # after this folder, before what is installed

from bench.frameworks.carrier import Heard, talk  # noqa: E402
from frameworks.environments import Environment, Refused, discover, say  # noqa: E402

ALL_BACK = 0.997
"""The share of each call's audio that has to come back. One lost frame is more; what a resampler still holds, less."""
IN_TIME = 0.1
"""Seconds in which a ``clear`` is waited for at the end."""
AT_REST = 0.2
"""A process that uses less of a core has started its calls, or is through with them."""


def names() -> list[str]:
    """The files with rows: the bare session, and those named for a framework."""
    found = {path.stem for path in (TESTS / "bench/frameworks").glob("*.py")}
    return ["session", *(name for name in discover() if name in found)]


def python_for(name: str) -> str:
    if name not in discover():
        return sys.executable
    environment = Environment(discover()[name])
    environment.set_up()
    return str(environment.python)


def script(python: str, name: str, *words: str) -> list[str]:
    return [python, "-m", f"bench.frameworks.{name}", *words]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Subject:
    """A process that answers calls, from the first round to the last: a framework may take ten seconds to import."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        assert process.stdin and process.stdout
        self._process, self._in, self._out, self.port = process, process.stdin, process.stdout, port

    @classmethod
    async def start(cls, python: str, file: str, name: str) -> Subject:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *script(python, file, name, str(port)), cwd=TESTS, limit=2**22,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        subject = cls(process, port)
        while (line := await asyncio.wait_for(subject._out.readline(), 120)).strip() != b"ready":
            if not line:
                raise SystemExit(f"{file}: {name} did not start")
        return subject

    async def ask(self, command: str) -> Any:
        self._in.write(f"{command}\n".encode())
        return json.loads(await asyncio.wait_for(self._out.readline(), 60))

    async def at_rest(self, patience: float) -> None:
        """Until it computes for less than a fifth of the time, or ``patience`` is over: its calls have started."""
        loop = asyncio.get_running_loop()
        until, cpu = loop.time() + patience, await self.ask("cpu")
        while loop.time() < until:
            since, before = loop.time(), cpu
            await asyncio.sleep(0.25)
            cpu = await self.ask("cpu")
            if cpu - before < AT_REST * (loop.time() - since):
                return

    async def measure(self, *, marks: bool, options: Namespace) -> Heard:
        calls = await self.ask(f"calls {options.calls}")
        heard = await talk(
            self.port, calls, lambda: self.ask("cpu"), started=lambda: self.at_rest(options.start),
            seconds=options.seconds, warm=options.warm, marks=marks,
        )  # fmt: skip
        late = lateness(await self.ask("interruptions"), heard)
        await self.ask("end")
        await self.at_rest(options.start)  # it does not compute while another is measured
        return replace(heard, late=late)

    async def close(self) -> None:
        self._in.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def lateness(interruptions: list[tuple[str, float]], heard: Heard) -> list[float]:
    """For each interruption seconds until the next clear of its call; infinite where none came."""
    return [min((each for each in heard.cleared.get(call_id, ()) if each >= at), default=math.inf) - at
            for call_id, at in interruptions if heard.begun <= at <= heard.ended - IN_TIME]  # fmt: skip


def rows_of(python: str, name: str) -> list[dict[str, Any]]:
    said = subprocess.run(script(python, name, "rows"), cwd=TESTS, check=True, capture_output=True, text=True).stdout
    return list(json.loads(said.splitlines()[-1]))


async def rounds(
    python: str, name: str, rows: list[dict[str, Any]], options: Namespace
) -> dict[tuple[str, bool], list[Heard]]:
    """What was heard of each subject in a file's rows, with or without marks, once a round."""
    wanted = {(subject, row["marks"]): None for row in rows for subject in (row["beside"], row["subject"]) if subject}
    seen: dict[tuple[str, bool], list[Heard]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        subjects: dict[str, Subject] = {}
        for subject in dict.fromkeys(subject for subject, _ in wanted):
            say(f"{name}: starting {subject}")
            subjects[subject] = await Subject.start(python, name, subject)
            stack.push_async_callback(subjects[subject].close)
        for number in range(options.rounds):
            for subject, marks in wanted:
                say(f"{name}: {subject}{'' if marks else ', no marks'}, round {number + 1} of {options.rounds}")
                seen[subject, marks].append(await subjects[subject].measure(marks=marks, options=options))
    return seen


def microseconds(heard: Heard) -> float:
    return 1e6 * heard.cpu / heard.frames


def judged(row: dict[str, Any], seen: dict[tuple[str, bool], list[Heard]]) -> dict[str, Any]:
    """A row's figures; ``kept`` is False where it has a bound that was not kept, or audio was lost."""
    own = seen[row["subject"], row["marks"]]
    if row["interruptions"]:
        late = [1000 * each for heard in own for each in heard.late]
        p99 = percentile(late or [math.inf], 0.99)
        return {"interruptions": len(late), "p50_ms": percentile(late or [math.inf], 0.5), "p99_ms": p99,
                "most": row["most"], "kept": p99 <= row["most"]}  # fmt: skip
    costs = [microseconds(heard) for heard in own]
    found: dict[str, Any] = {
        "us": statistics.median(costs), "us_by_round": costs,
        "p50_ms": 1000 * percentile([each for heard in own for each in heard.behind] or [0.0], 0.5),
        "back": min(heard.back for heard in own),
        "most": row["most"], "difference": row["difference"], "beside": row["beside"],
    }  # fmt: skip
    if row["beside"]:
        others = [microseconds(heard) for heard in seen[row["beside"], row["marks"]]]
        pairs = list(zip(costs, others, strict=True))
        found |= {"beside_us": statistics.median(others), "beside_us_by_round": others}
        found["measured"] = statistics.median(a - b if row["difference"] else a / b for a, b in pairs)
    found["kept"] = found["back"] >= ALL_BACK and (row["most"] is None or found["measured"] <= row["most"])
    return found


def cells(name: str, found: dict[str, Any]) -> list[str]:
    kept = "**NOT KEPT**" if not found["kept"] else "kept" if found["most"] is not None else "-"
    if "p99_ms" in found:
        p99 = f"p99 of {found['interruptions']}: {found['p99_ms']:.1f} ms"
        return [name, "-", "-", "-", p99, f"{found['most']:g} ms", f"{found['p50_ms']:.1f}", "-", kept]
    unit = ("+{:.0f} µs" if found["difference"] else "{:.2f}x").format
    return [
        name, f"{found['us']:.0f}", found["beside"] or "-", f"{found['beside_us']:.0f}" if found["beside"] else "-",
        unit(found["measured"]) if found["beside"] else "-", "-" if found["most"] is None else unit(found["most"]),
        f"{found['p50_ms']:.1f}", f"{found['back']:.1%}", kept,
    ]  # fmt: skip


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--only", nargs="+", choices=names(), default=names(), help="rows of these files")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--calls", type=int, default=20)
    made.add_argument("--seconds", type=float, default=3.0, help="of talk that are measured")
    made.add_argument("--start", type=float, default=5.0, help="seconds at most that calls have to start in")
    made.add_argument("--warm", type=float, default=1.0, help="of talk before")
    options = made.parse_args()
    figures: dict[str, Any] = {}
    try:
        for name in options.only:
            python = python_for(name)
            rows = rows_of(python, name)
            seen = asyncio.run(rounds(python, name, rows, options))
            figures |= {row["name"]: judged(row, seen) for row in rows}
    except Refused as refusal:
        raise SystemExit(str(refusal)) from None
    left_out = [name for name in names() if name not in options.only]
    Result(
        name="frameworks",
        bound=f"each row at most its bound, and at least {ALL_BACK:.1%} of each call's audio back",
        kept=all(found["kept"] for found in figures.values()),
        columns=["", "µs/frame", "beside", "its µs/frame", "measured", "bound", "p50 ms", "back", "bound is"],
        rows=[cells(name, found) for name, found in figures.items()],
        figures={"rows": figures, "calls": options.calls, "rounds": options.rounds},
        notes=[
            f"{options.calls} calls at once, {options.rounds} rounds of {options.seconds:g} s; one core each for the "
            "process that answers and the one that calls, if the machine has them to spare.",
            *([f"Left out: {', '.join(left_out)}."] if left_out else []),
        ],
    ).report(options)


if __name__ == "__main__":
    main()
