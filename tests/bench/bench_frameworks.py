"""What each framework's adapter costs for a frame of audio, beside the framework's own way to a carrier.

CPU of the process that answers, for each 20 ms frame that comes in and goes back; ``--calls`` at once, over loopback
sockets. In each round every subject is measured once, so that a ratio is of one minute on one machine; the figures are
medians of the rounds. ``tests/bench/frameworks/NAME.py`` has the rows of a framework, measured in its environment.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from typing import Any

from result import Result, parser, percentile

TESTS = Path(__file__).resolve().parents[1]
sys.path[1:1] = [str(TESTS)]  # after this folder, before what is installed

from bench.frameworks.carrier import Heard, talk  # noqa: E402
from frameworks.environments import Environment, Refused, discover, say  # noqa: E402

ALL_BACK = 0.999
"""The share of the audio that has to come back for a figure to count."""


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


async def measure(python: str, name: str, subject: str, *, marks: bool, options: Namespace) -> Heard:
    """One subject in a process of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *script(python, name, subject, str(port)), cwd=TESTS, limit=2**22,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin and process.stdout

    async def ask(command: str) -> Any:
        process.stdin.write(f"{command}\n".encode())
        return json.loads(await asyncio.wait_for(process.stdout.readline(), 60))

    try:
        while (line := await asyncio.wait_for(process.stdout.readline(), 120)).strip() != b"ready":
            if not line:
                raise SystemExit(f"{name}: {subject} did not start")
        paths = await ask(f"calls {options.calls}")
        return await talk(
            port, paths, lambda: ask("cpu"),
            pause=options.pause, seconds=options.seconds, warm=options.warm, marks=marks,
        )  # fmt: skip
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


def rounds(name: str, options: Namespace) -> tuple[list[dict[str, Any]], dict[tuple[str, bool], list[Heard]]]:
    """The rows of a file, and what was heard of each subject, once a round."""
    python = python_for(name)
    said = subprocess.run(script(python, name, "rows"), cwd=TESTS, check=True, capture_output=True, text=True).stdout
    rows = json.loads(said.splitlines()[-1])
    wanted = {(subject, row["marks"]): None for row in rows for subject in (row["beside"], row["subject"]) if subject}
    seen: dict[tuple[str, bool], list[Heard]] = defaultdict(list)
    for number in range(options.rounds):
        for subject, marks in wanted:
            say(f"{name}: {subject}, round {number + 1} of {options.rounds}")
            seen[subject, marks].append(
                asyncio.run(measure(python, name, subject, marks=marks, options=options))
            )
    return rows, seen


def microseconds(heard: Heard) -> float:
    return 1e6 * heard.cpu / heard.frames


def judged(row: dict[str, Any], seen: dict[tuple[str, bool], list[Heard]]) -> dict[str, Any]:
    """A row's figures; ``kept`` is False where it has a bound that was not kept, or audio was lost."""
    own = seen[row["subject"], row["marks"]]
    costs = [microseconds(heard) for heard in own]
    found: dict[str, Any] = {
        "us": statistics.median(costs),
        "p50_ms": 1000 * percentile([each for heard in own for each in heard.behind] or [0.0], 0.5),
        "back": min(heard.back for heard in own),
        "most": row["most"], "difference": row["difference"], "beside": row["beside"],
    }  # fmt: skip
    if row["beside"]:
        others = [microseconds(heard) for heard in seen[row["beside"], row["marks"]]]
        pairs = list(zip(costs, others, strict=True))
        found["beside_us"] = statistics.median(others)
        found["measured"] = statistics.median(a - b if row["difference"] else a / b for a, b in pairs)
    found["kept"] = found["back"] >= ALL_BACK and (row["most"] is None or found["measured"] <= row["most"])
    return found


def cells(name: str, found: dict[str, Any]) -> list[str]:
    unit = ("+{:.0f} µs" if found["difference"] else "{:.2f}x").format
    return [
        name, f"{found['us']:.0f}", found["beside"] or "-", f"{found['beside_us']:.0f}" if found["beside"] else "-",
        unit(found["measured"]) if found["beside"] else "-", "-" if found["most"] is None else unit(found["most"]),
        f"{found['p50_ms']:.1f}", f"{found['back']:.1%}",
    ]  # fmt: skip


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--only", nargs="+", choices=names(), default=names(), help="rows of these files")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--calls", type=int, default=20)
    made.add_argument("--seconds", type=float, default=5.0, help="of talk that are measured")
    made.add_argument("--pause", type=float, default=3.0, help="seconds that calls have to start in")
    made.add_argument("--warm", type=float, default=1.0, help="of talk before")
    options = made.parse_args()
    figures: dict[str, Any] = {}
    try:
        for name in options.only:
            rows, seen = rounds(name, options)
            figures |= {row["name"]: judged(row, seen) for row in rows}
    except Refused as refusal:
        raise SystemExit(str(refusal)) from None
    left_out = [name for name in names() if name not in options.only]
    Result(
        name="frameworks",
        bound=f"each row at most its bound, and at least {ALL_BACK:.1%} of the audio back",
        kept=all(found["kept"] for found in figures.values()),
        columns=["", "µs/frame", "beside", "its µs/frame", "measured", "bound", "p50 ms", "back"],
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
