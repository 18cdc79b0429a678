"""What ``import anycarrier`` costs a process, beside importing pydantic and pluggy and defining one model.

Fresh processes, taken in turns so that a noisy neighbour meets both; the minimum is the fairer figure, since
neighbours only add. Also shows which heavy modules the import pulled in: there must be none.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from result import Result, parser

BOUND = 1.5
BASELINE = "import pydantic, pluggy\nclass Model(pydantic.BaseModel):\n    name: str\n    count: int = 0\n"
PROGRAMS = {
    "python, nothing imported": "pass",
    "pydantic + pluggy + a model": BASELINE,
    "import anycarrier": "import anycarrier",
}
HEAVY = ("httpx", "starlette", "phonenumbers", "cryptography", "twilio", "telnyx", "sqlalchemy", "uvicorn", "asyncio")
FORBIDDEN = {"httpx", "starlette", "phonenumbers", "cryptography", "twilio", "telnyx", "sqlalchemy", "uvicorn"}


def pulled_in(program: str = "import anycarrier") -> list[str]:
    """Which heavy modules a fresh process has after ``program``."""
    code = f"{program}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return list(json.loads(run.stdout))


def once(program: str, environment: dict[str, str]) -> float:
    """Wall milliseconds of one fresh process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return 1000 * (time.perf_counter() - start)


def measure(rounds: int) -> dict[str, list[float]]:
    """Wall milliseconds of each program, ``rounds`` of them, interleaved, after one warm-up each.

    The warm-up writes bytecode, which an installed package has: a machine that writes none would time the compiler.
    """
    walls: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as bytecode:
        environment["PYTHONPYCACHEPREFIX"] = bytecode
        for number in range(rounds + 1):
            for name, program in PROGRAMS.items():
                wall = once(program, environment)
                if number:
                    walls[name].append(wall)
    return walls


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=21)
    chosen = options.parse_args()
    walls = measure(chosen.rounds)
    base, ours = (walls[name] for name in list(PROGRAMS)[1:])
    ratio, median_ratio = min(ours) / min(base), statistics.median(ours) / statistics.median(base)
    heavy = pulled_in()
    rows = [[name, f"{min(ms):.0f}", f"{statistics.median(ms):.0f}", f"{min(ms) / min(base):.2f}",
             f"{statistics.median(ms) / statistics.median(base):.2f}"] for name, ms in walls.items()]  # fmt: skip
    Result(
        name="import",
        bound=f"at most {BOUND} times the baseline by the minimum, and no SDK, HTTP client or server imported",
        kept=ratio <= BOUND and not FORBIDDEN & set(heavy),
        columns=["process", "min ms", "median ms", "x min", "x median"],
        rows=rows,
        figures={"ratio": round(ratio, 3), "ratio_median": round(median_ratio, 3), "rounds": chosen.rounds,
                 "pulled_in": heavy, "min_ms": {name: round(min(ms), 1) for name, ms in walls.items()}},
        notes=[f"Of {', '.join(HEAVY)}, `import anycarrier` pulls in: {', '.join(heavy) or 'none'}."],
    ).report(chosen)  # fmt: skip


if __name__ == "__main__":
    main()
