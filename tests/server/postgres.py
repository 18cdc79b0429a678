"""A throw-away PostgreSQL from the binaries on this machine; `scratch_postgres` starts one and stops it,
:class:`Server` is one that may go away."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# PostgreSQL refuses to run as root; these are the accounts a machine may have for it.
ACCOUNTS = ("postgres", "nobody")


def binaries() -> Path | None:
    """Where initdb and postgres live; None when not installed."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(os.path.realpath(found)).parent if found else None


def free_port() -> int:
    """One to be taken later, and again after a stop: none of those that the system gives to whoever asks for any."""
    for port in (*random.sample(range(10_000, 30_000), 100), 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            given: int = probe.getsockname()[1]
            return given
    raise AssertionError("no port is free")


class Server:
    """A PostgreSQL in ``folder`` that can be stopped, started again and frozen; ``url`` lacks a database's name."""

    def __init__(self, folder: Path) -> None:
        found = binaries()
        assert found is not None
        self._bin, self._folder, self._data = found, folder, folder / "data"
        self._data.mkdir(parents=True)
        self._run: list[str] = []
        account = pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            entry = next(pwd.getpwnam(name) for name in ACCOUNTS if _exists(name))
            account = entry.pw_name
            self._run = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
            for path in (folder, self._data):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self._port = free_port()
        self.url = f"postgresql://{account}@127.0.0.1:{self._port}"
        encoding = ("-E", "UTF8", "--locale=C.UTF-8")
        self._sh("initdb", "-D", str(self._data), "-U", account, "-A", "trust", "--no-sync", *encoding)

    def start(self) -> None:
        """Up, and answering."""
        options = f"-h 127.0.0.1 -p {self._port} -k {self._folder} "
        options += "-c fsync=off -c max_connections=200 -c full_page_writes=off"
        # Output into a file: a server that inherits our pipe would keep subprocess.run waiting.
        log = str(self._folder / "log")
        self._sh("pg_ctl", "-D", str(self._data), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        """Gone at once, as if it had been killed."""
        self._sh("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def freeze(self) -> None:
        """It accepts connections and answers nothing, until :meth:`thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        head = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(head, number)
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == head:
                    os.kill(int(stat.parent.name), number)

    def _sh(self, program: str, *words: str) -> None:
        command = [*self._run, str(self._bin / program), *words]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


@contextmanager
def scratch_postgres(folder: Path) -> Iterator[str]:
    """Run a server in ``folder``; yields a URL up to and without the database's name."""
    server = Server(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A short path another account may enter: socket paths are limited to 107 bytes, pytest's are private."""
    folder = Path(tempfile.mkdtemp(prefix="anycarrier-pg-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
