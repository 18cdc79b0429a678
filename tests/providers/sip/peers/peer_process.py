"""Programs of other people, started for a test and gone after it, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

HOST = "127.0.0.1"


def require(program: str, package: str) -> str:
    """The program's path; without it the test is skipped, which ``ANYCARRIER_CI=1`` does not allow."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return found


def free_ports(count: int = 1) -> int:
    """The first of ``count`` neighbouring ports that are free for UDP and TCP; none that the kernel gives away."""
    for _ in range(200):
        first = random.randrange(20010, 31000, 2)
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        held.enter_context(socket.socket(socket.AF_INET, kind)).bind((HOST, port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports")


@contextlib.asynccontextmanager
async def running(*command: str, log: Path, input: bool = False) -> AsyncIterator[asyncio.subprocess.Process]:
    """``command`` in a process group of its own; its output goes to ``log``. It dies with us, even if we are killed."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            require("setpriv", "util-linux"), "--pdeathsig", "KILL", "--", *command,
            stdin=asyncio.subprocess.PIPE if input else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if input else output, stderr=output,
            start_new_session=True, cwd=log.parent, env={**os.environ, "HOME": str(log.parent)},
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(2):  # baresip would wait for answers from who is gone
                await process.wait()
        except TimeoutError:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the group outlives its leader: kamailio's children
        await process.wait()
