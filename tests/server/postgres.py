"""A throw-away PostgreSQL from the binaries on this machine; `scratch_postgres` starts one and stops it."""

from __future__ import annotations

import os
import pwd
import shutil
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def scratch_postgres(folder: Path) -> Iterator[str]:
    """Run a server in ``folder``; yields a URL up to and without the database's name."""
    bin_ = binaries()
    assert bin_ is not None
    data = folder / "data"
    data.mkdir(parents=True)
    run: list[str] = []
    account = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        entry = next(pwd.getpwnam(name) for name in ACCOUNTS if _exists(name))
        account = entry.pw_name
        run = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        for path in (folder, data):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    port = _free_port()

    def sh(*words: str) -> None:
        done = subprocess.run([*run, *words], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"

    encoding = ("-E", "UTF8", "--locale=C.UTF-8")
    sh(str(bin_ / "initdb"), "-D", str(data), "-U", account, "-A", "trust", "--no-sync", *encoding)
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=200 -c full_page_writes=off"
    # Output into a file: a server that inherits our pipe would keep subprocess.run waiting.
    sh(str(bin_ / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://{account}@127.0.0.1:{port}"
    finally:
        sh(str(bin_ / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A short path another account may enter: socket paths are limited to 107 bytes, pytest's are private."""
    folder = Path(tempfile.mkdtemp(prefix="linecard-pg-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
