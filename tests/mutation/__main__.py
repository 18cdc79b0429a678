"""``./dev mutate ROOM``: plant small bugs in a room and see whether the tests nearest to it notice.

The bugs are mutmut's (https://mutmut.readthedocs.io); this file says which tests belong to which room, makes a copy of
the checkout to work in, draws a sample, and prints what survived. mutmut changes code inside functions and methods
only: statements at module level (most SQL of the store) are held by ``tests/server/test_tenancy.py`` and its like.

Changes to text for people (a string with a space in it) and to log calls are not counted.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

STORE = "contrib/server/src/anycarrier_server/store"
SIP = "providers/sip/src/anycarrier_sip"
BANDWIDTH, PLIVO, SIGNALWIRE, VONAGE = (
    f"providers/{name}/src/anycarrier_{name}" for name in ("bandwidth", "plivo", "signalwire", "vonage")
)
ROOMS: dict[str, tuple[str, str]] = {
    # room: its files, the tests nearest to it; tests that start a process of their own are too slow for this
    "callbook": ("src/anycarrier/callbook.py", "tests/core/test_callbook.py"),
    "calls": ("src/anycarrier/calls.py", "tests/core/test_calls.py"),
    "call_phases": (
        "src/anycarrier/call_phases.py",
        "tests/core/test_call_phases.py tests/core/test_call_watch_timing.py",
    ),
    "call_watch": (
        "src/anycarrier/call_watch.py",
        "tests/core/test_call_watch_timing.py tests/core/test_call_watch_meanwhile.py "
        "tests/core/test_call_watch_adoption.py tests/core/test_call_watch.py",
    ),
    "exchange": (
        "src/anycarrier/exchange.py",
        "tests/core/test_callbook.py tests/core/test_commands.py tests/core/test_dialling.py "
        "tests/core/test_exchange.py tests/core/test_exchange_numbers.py tests/core/test_transfers.py",
    ),
    "incoming": (
        "src/anycarrier/incoming.py src/anycarrier/routing.py",
        "tests/core/test_answering.py tests/core/test_incoming.py tests/core/test_routing_failures.py "
        "tests/core/test_transfers.py tests/core/test_dialling.py tests/core/test_exchange.py",
    ),
    "media": (
        "src/anycarrier/media.py",
        "tests/core/test_media.py tests/core/test_dialling.py tests/core/test_exchange.py "
        "tests/core/test_routing_failures.py",
    ),
    "numbering_plan": (
        "src/anycarrier/numbering_plan.py", "tests/core/test_numbering_plan.py tests/core/test_policy.py"),
    "policy": ("src/anycarrier/policy.py", "tests/core/test_policy.py tests/core/test_dialling.py"),
    "position": ("src/anycarrier/position.py", "tests/core/test_position.py tests/core/test_session.py"),
    "media_stream": ("src/anycarrier/media_stream.py", "tests/core/test_session.py tests/core/test_media_stream.py"),
    "audio_output": (
        "src/anycarrier/audio_output.py",
        "tests/core/test_session.py tests/core/test_media_stream.py tests/core/test_clear_order.py",
    ),
    "bandwidth": (
        f"{BANDWIDTH}/frames.py {BANDWIDTH}/provider.py {BANDWIDTH}/wire.py",
        "tests/providers/bandwidth/test_frames.py tests/providers/bandwidth/test_webhooks.py "
        "tests/providers/bandwidth/test_login.py tests/providers/bandwidth/test_calls.py",
    ),
    "plivo": (
        f"{PLIVO}/frames.py {PLIVO}/instructions.py {PLIVO}/webhooks.py",
        "tests/providers/plivo/test_frames.py tests/providers/plivo/test_webhooks.py "
        "tests/providers/plivo/test_signature.py",
    ),
    "signalwire": (
        f"{SIGNALWIRE}/frames.py {SIGNALWIRE}/signature.py {SIGNALWIRE}/wire.py",
        "tests/providers/signalwire/test_frames.py tests/providers/signalwire/test_signature.py "
        "tests/providers/signalwire/test_wire.py",
    ),
    "sip_description": (f"{SIP}/sdp.py", "tests/providers/sip/test_sdp.py"),
    "sip_jitter": (f"{SIP}/jitter.py", "tests/providers/sip/test_jitter.py"),
    "sip_packets": (f"{SIP}/rtp.py {SIP}/rtcp.py {SIP}/dtmf.py", "tests/providers/sip/test_rtp.py"),
    "sip_media": (
        f"{SIP}/media.py {SIP}/delivery.py {SIP}/playout.py {SIP}/rtp_source.py {SIP}/frames.py",
        "tests/providers/sip/test_media.py tests/providers/sip/test_rtp_sources.py tests/providers/sip/test_frames.py",
    ),
    "vonage": (
        f"{VONAGE}/frames.py {VONAGE}/wire.py",
        "tests/providers/vonage/test_frames.py tests/providers/vonage/test_signature.py "
        "tests/providers/vonage/test_wire.py",
    ),
    "rest": (
        "src/anycarrier/rest.py src/anycarrier/refusals.py src/anycarrier/markup.py",
        "tests/core/test_rest.py tests/core/test_markup.py tests/core/test_parsing.py",
    ),
    "sip": ("src/anycarrier/sip.py", "tests/core/test_sip_address.py tests/core/test_policy.py"),
    "tickets": ("src/anycarrier/tickets.py", "tests/core/test_tickets.py"),
    "bridge": ("src/anycarrier/agent/bridge.py", "tests/agent/test_bridge.py"),
    "budget": ("src/anycarrier/agent/budget.py", "tests/agent/test_budget.py"),
    "conversation": (
        "src/anycarrier/agent/conversation.py", "tests/agent/test_conversation.py tests/agent/test_agent_call.py"),
    "speaker": ("src/anycarrier/agent/speaker.py", "tests/agent/test_conversation.py tests/agent/test_agent_call.py"),
    "voicemail": ("src/anycarrier/agent/voicemail.py", "tests/agent/test_agent_call.py"),
    "admission": ("contrib/server/src/anycarrier_server/domain/call_limits.py", "tests/server/test_admission.py"),
    "limits": (f"{STORE}/limits.py", "tests/server/test_limits.py tests/server/test_short_way.py"),
    "outbox": (
        f"contrib/server/src/anycarrier_server/work/webhook_delivery.py {STORE}/outbox.py",
        "tests/server/test_outbox.py",
    ),
    "reconciler": ("contrib/server/src/anycarrier_server/work/reconciler.py", "tests/server/test_reconciler.py"),
    "rules": (f"{STORE}/rules.py", "tests/server/test_rules.py"),
    "store": (
        " ".join(f"{STORE}/{name}.py" for name in ("agents", "calls", "credentials", "lines", "webhooks")),
        "tests/server/test_tenancy.py tests/server/test_workspaces_apart.py tests/server/test_calls.py "
        "tests/server/test_callbook.py tests/server/test_outbox.py",
    ),
}

# Rooms whose code is the same on both databases: their tests run on SQLite alone, in a third of the time.
SQLITE_ENOUGH = ("outbox", "reconciler", "rules", "store")

SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {files}
do_not_mutate_patterns = ['^\\s*log\\.', '^\\s*warnings\\.warn']
also_copy = ["cassettes", "contrib", "docs", "providers", "README.md", "CHANGELOG.md", "constraints.txt", "dev"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = {arguments}
timeout_constant = 20.0
timeout_multiplier = 3.0
"""

NOTICED = ("killed", "timeout", "caught by type check", "segfault")


@dataclass(frozen=True)
class Mutant:
    """One planted bug: its name for ``mutmut show``, what became of it, file:line, the changed lines."""

    name: str
    status: str
    place: str
    change: str

    @property
    def noticed(self) -> bool:
        return self.status in NOTICED


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev mutate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("room", nargs="?", help="without one, the rooms are listed")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="try N, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: one a core)")
    parser.add_argument("--keep", metavar="FOLDER", help="work in this folder and leave it there")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    given = parser.parse_args()
    if given.room not in ROOMS:
        for room, (files, tests) in ROOMS.items():
            print(f"{room:<14}{files.replace('src/anycarrier/', '')}  by  {tests}")
        return 2
    if given.keep:
        folder = Path(given.keep).resolve()
        folder.mkdir(parents=True)
        return _mutate(folder, given)
    with tempfile.TemporaryDirectory(prefix="mutate-") as scratch:
        return _mutate(Path(scratch), given)


def _mutate(folder: Path, given: argparse.Namespace) -> int:
    started = time.monotonic()
    files, tests = (part.split() for part in ROOMS[given.room])
    arguments = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "mutation.fresh_caches", "-x"]
    if given.room in SQLITE_ENOUGH:
        # The second lists the store's methods, and mutmut has added its own.
        arguments += ["-k", "not postgresql and not test_every_question_with_a_workspace"]
    _copy_checkout(folder, files, tests, arguments)
    os.chdir(folder)
    # Services that the tests start are processes of their own: they must run the changed code too.
    parts = ("src", "tests", *(str(p.relative_to(folder)) for p in sorted(folder.glob("*/*/src"))))
    os.environ["PYTHONPATH"] = os.pathsep.join(str(folder / "mutants" / part) for part in parts)
    os.environ["ANYCARRIER_CI"] = "0"
    os.environ["CI"] = "1"  # hypothesis then tries the same examples each time, and without a deadline
    chosen, all_of_them = _generate(given.sample, given.seed)
    if not chosen:
        print(f"{given.room}: nothing to change here", file=sys.stderr)
        return 2
    print(f"{given.room}: trying {len(chosen)} of {all_of_them} changes", file=sys.stderr)
    watched = sys.stderr.isatty()  # mutmut redraws a line of figures as it goes
    command = [sys.executable, __file__, "--in-copy", str(given.jobs), *chosen]
    run = subprocess.run(command, stdout=sys.stderr if watched else subprocess.PIPE, text=True)
    if run.returncode:
        print(run.stdout or "", file=sys.stderr)
        return run.returncode
    mutants = [_result(name) for name in chosen]
    missed = [mutant for mutant in mutants if not mutant.noticed]
    share = 100 * (len(mutants) - len(missed)) / len(mutants)
    figures = {
        "room": given.room, "planted": len(mutants), "of": all_of_them, "seed": given.seed,
        "noticed": len(mutants) - len(missed), "percent": round(share, 1), "seconds": round(time.monotonic() - started),
    }  # fmt: skip
    if given.json:
        print(json.dumps({**figures, "survivors": [vars(mutant) for mutant in missed]}))
        return 0
    for mutant in missed:
        print(f"{mutant.place}: {mutant.status}\n{mutant.change}\n")
    print(
        f"{given.room}: {figures['noticed']} of {len(mutants)} noticed ({share:.1f} %), "
        f"drawn from {all_of_them} with seed {given.seed}, {figures['seconds']} s"
    )
    return 0


def _copy_checkout(folder: Path, files: list[str], tests: list[str], arguments: list[str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for at, name in enumerate(files):
        distribution, _, module = name.rpartition("src/")
        if distribution:  # mutmut knows the modules of a folder ``src`` only: there the package is found first
            package = module.partition("/")[0]
            shutil.copytree(folder / distribution / "src" / package, folder / "src" / package, dirs_exist_ok=True)
            files[at] = f"src/{module}"
    shared = ROOT.parent / "shared"
    if shared.is_dir():  # documents beside the checkout, which some tests compare with
        (folder / "shared").symlink_to(shared)
    with (folder / "pyproject.toml").open("a") as settings:
        filled = {"files": files, "tests": tests, "arguments": arguments}
        settings.write(SETTINGS.format(**{name: json.dumps(value) for name, value in filled.items()}))


def _generate(sample: int, seed: int) -> tuple[list[str], int]:
    """Write the changed files; the names of the changes to try, and how many there are."""
    from mutmut import __main__ as mutmut

    with contextlib.redirect_stdout(io.StringIO()):
        mutmut.set_mutant_under_test("mutant_generation")
        Path("mutants").mkdir()
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(1)
        names = [name for _, name, _ in mutmut.collect_source_file_mutation_data(mutant_names=[])[0]]
        worth_it = [name for name in sorted(names) if not _only_wording(_diff(name))]
    drawn = random.Random(seed).sample(worth_it, min(sample or len(worth_it), len(worth_it)))
    return sorted(drawn), len(worth_it)


def _diff(name: str) -> str:
    from mutmut import __main__ as mutmut

    found: str = mutmut.get_diff_for_mutant(name, path=mutmut.find_mutant(name).path)
    return found


def _only_wording(diff: str) -> bool:
    """Whether only text for people was changed: the same code but for a string with a space in it."""
    before, after = (
        " ".join(line[1:] for line in diff.splitlines() if re.match(rf"\{sign}(?!\{sign}\{sign})", line))
        for sign in "-+"
    )
    old, new = _tokens(before), _tokens(after)
    if len(old) != len(new):
        return False
    changed = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
    return bool(changed) and all(
        was[0] == became[0] == tokenize.STRING and " " in was[1] for was, became in changed
    )


def _tokens(code: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    with contextlib.suppress(tokenize.TokenError, IndentationError):
        found.extend((t.type, t.string) for t in tokenize.generate_tokens(io.StringIO(code.strip()).readline))
    return found


def _result(name: str) -> Mutant:
    from mutmut import __main__ as mutmut

    source = mutmut.find_mutant(name)
    lines = _diff(name).splitlines()[2:]
    begin = _line_of(Path(source.path).read_text(), name.rpartition(".")[2].partition("__mutmut_")[0])
    first = next(at for at, line in enumerate(lines[1:]) if line[:1] in "-+")
    hunk = re.match(r"@@ -(\d+)", lines[0])
    line = begin + int(hunk[1]) - 1 + first if hunk else begin
    change = "\n".join(line for line in lines[1:] if line[:1] in "-+")
    return Mutant(name, mutmut.status_by_exit_code[source.exit_code_by_key[name]], f"{source.path}:{line}", change)


def _line_of(source: str, mangled: str) -> int:
    """Where a function begins that mutmut calls ``x_name``, or ``xǁClassǁname`` when it is a method."""
    *owner, name = mangled.removeprefix("x").removeprefix("_").removeprefix("ǁ").split("ǁ")
    body = ast.parse(source).body
    for class_name in owner:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == class_name)
    return next(n.lineno for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name)


def _in_copy(jobs: int, names: list[str]) -> int:
    """A process that only runs mutmut: it imports the changed code, so it must not have imported ours."""
    from mutmut import __main__ as mutmut

    run_tests = mutmut.PytestRunner.run_tests

    def run_changed(self: Any, *, mutant_name: str | None, tests: Any) -> int:
        if mutant_name is not None and _runs_on_import(mutant_name):
            # mutmut forks after the import, when such a function has returned: import all anew, and run every test.
            here = str(Path("mutants").resolve())
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None) or "").startswith(here):
                    del sys.modules[name]
            tests = []
        return int(run_tests(self, mutant_name=mutant_name, tests=tests))

    mutmut.PytestRunner.run_tests = run_changed
    mutmut._run(names, jobs)
    return 0


def _runs_on_import(mutant_name: str) -> bool:
    from mutmut import __main__ as mutmut

    function = mutant_name.rpartition(".")[2].partition("__mutmut_")[0].removeprefix("x_")
    return _called_on_import(Path(mutmut.find_mutant(mutant_name).path).read_text(), function)


def _called_on_import(source: str, function: str) -> bool:
    """Whether the statements of a module call a function of its own."""
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
        for statement in ast.parse(source).body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-copy"]:
        sys.exit(_in_copy(int(sys.argv[2]), sys.argv[3:]))
    sys.exit(main())
