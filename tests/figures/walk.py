"""``python tests/figures/walk.py library|service``: walk one inbound call, from its ring to the agent's first word.

Prints the files of this checkout that the call enters and, for the service, the single rows it reads from the database.
``--checkout PATH`` walks another checkout, with that checkout's own Python.

What counts:

- A file is entered when a function of it runs. Running a module or a class body at import is no entry.
- Work belongs to the call when it runs in the context of one of the carrier's connections (on asyncio's own loop, where
  each connection has one): the webhook's requests and
  the media socket, with every task, callback and database transaction that they start. Loops that were started with
  the process (the writer, the sender, the reconciler, the watch over open calls) have contexts of their own, so what
  they do for the call later is left out.
- The sandbox and the testing kit play the carrier, so their files are left out, and so are requests to the API.
- A read of a single row is a SELECT of which one row is wanted: ``Database.row``, or ``row`` and ``value`` within
  ``look``. A SELECT inside a transaction that changes something is part of that change, and is listed beside them.
- Whatever a session is asked for is listed too: what every call does goes by compiled statements.
- The walk ends when the caller has heard a fifth of a second of the agent's first words.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OPTIMIZED = inspect.CO_OPTIMIZED
NUMBER, CALLER = "+14155550111", "+12125550123"
ADMIN_KEY = "ApiKey_0000-walk-admin-key-0123456789abcdef"
HEARD = 0.2
"""Seconds of the agent's first words that the caller hears before the walk ends."""


@dataclass(eq=False)
class Connection:
    """A connection that a server accepted, and what ran in its context."""

    app: object
    """What is served there."""
    paths: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    reads: list[tuple[str, str, str]] = field(default_factory=list)
    """How a row was read (``row``, ``in a change``, ``rows``), by which statement, and from where."""

    @property
    def carriers(self) -> bool:
        """True for the carrier's webhooks and media; the rest is the API's or the sandbox's."""
        return bool(self.paths) and not any(path.startswith(("/sandbox", "/v1", "/healthz")) for path in self.paths)


CONNECTION: ContextVar[Connection | None] = ContextVar("CONNECTION", default=None)


@dataclass
class Walk:
    """What one call entered and read."""

    files: list[str]
    reads: list[tuple[str, str, str]]

    def by_package(self) -> Counter[str]:
        """How many files of each package."""
        return Counter(path.partition("src/")[2].partition("/")[0] for path in self.files)


class Observer:
    """Notes what runs in the context of each accepted connection, once ``begin`` was called."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._ours: dict[str, str | None] = {}
        self.connections: list[Connection] = []
        self.watching = False
        self.app: object = None
        """Only connections to this app are looked at, when there are several."""

    def install(self) -> None:
        """Label connections as uvicorn accepts them, and look at every function call from now on."""
        import uvicorn

        load = uvicorn.Config.load
        observer = self

        def labelled(config: Any) -> None:
            load(config)
            protocol: Any = config.http_protocol_class

            class Labelled(protocol):  # type: ignore[misc]
                def __init__(self, *args: Any, **kwargs: Any) -> None:
                    made = Connection(config.app)
                    observer.connections.append(made)
                    CONNECTION.set(made)
                    super().__init__(*args, **kwargs)

                def on_url(self, url: bytes) -> None:
                    CONNECTION.get().paths.add(url.decode())
                    super().on_url(url)

            config.http_protocol_class = Labelled

        uvicorn.Config.load = labelled  # type: ignore[method-assign, assignment]
        threading.setprofile(self._enter)
        sys.setprofile(self._enter)

    def stop(self) -> None:
        """Look no more."""
        self.watching = False
        threading.setprofile(None)  # type: ignore[arg-type]
        sys.setprofile(None)

    def _enter(self, frame: FrameType, what: str, _: Any) -> None:
        if what != "call" or not self.watching or not frame.f_code.co_flags & OPTIMIZED:
            return
        connection = CONNECTION.get()
        if connection is None:
            return
        name = frame.f_code.co_filename
        if name not in self._ours:
            self._ours[name] = self._as_ours(name)
        if (ours := self._ours[name]) is not None:
            connection.files.add(ours)

    def _as_ours(self, name: str) -> str | None:
        path = Path(name)
        if not path.is_relative_to(self._checkout):
            return None
        parts = path.relative_to(self._checkout).parts
        if "src" not in parts or ".venv" in parts:
            return None
        if "testing" in parts or any(part.startswith("sandbox") for part in parts):
            return None
        return path.relative_to(self._checkout).as_posix()

    def result(self) -> Walk:
        """What the carrier's connections entered and read."""
        mine = [made for made in self.connections if made.carriers and self.app in (None, made.app)]
        files = sorted({file for connection in mine for file in connection.files})
        return Walk(files, [read for connection in mine for read in connection.reads])

    # --- the database -----------------------------------------------------------------------------------------------

    def watch_database(self, database: Any) -> None:
        """Note every SELECT that ``database``, the service's class of that name, is asked for."""
        note = self._note

        def of(name: str, how: str) -> None:
            plain = getattr(database, name)

            async def asked(db: Any, statement: Any, **values: Any) -> Any:
                note(how, statement, db.engine.dialect, sys._getframe(1))
                return await plain(db, statement, **values)

            setattr(database, name, asked)

        def within(name: str, how: str) -> None:
            plain = getattr(database, name)

            async def asked(db: Any, work: Any) -> Any:
                connection, caller = CONNECTION.get(), sys._getframe(1)

                def noted(statement: Any) -> None:
                    note(how, statement, db.engine.dialect, caller)

                async def counted(tx: Any) -> Any:
                    token = CONNECTION.set(connection)  # SQLite's transactions run in a thread
                    try:
                        return await work(_Counted(tx, noted))
                    finally:
                        CONNECTION.reset(token)

                return await plain(db, counted)

            setattr(database, name, asked)

        of("row", "row")
        of("few", "rows")
        of("rows", "rows")
        within("look", "row")
        within("transact", "in a change")

        opened = database.__init__

        def watched(db: Any, *args: Any, **kwargs: Any) -> None:
            from sqlalchemy import event

            opened(db, *args, **kwargs)

            @event.listens_for(db.engine.sync_engine, "before_cursor_execute")
            def asked(_conn: Any, _cursor: Any, text: str, *_: Any) -> None:
                if text != "BEGIN":
                    self._note("session", text, None, sys._getframe(1))

        database.__init__ = watched

    def _note(self, how: str, statement: Any, dialect: Any, frame: FrameType | None) -> None:
        connection = CONNECTION.get()
        if connection is None or not self.watching:
            return
        text: str = statement if isinstance(statement, str) else statement.on(dialect).sql
        if how != "session" and not text.lstrip().upper().startswith("SELECT"):
            return
        name, where = _name_of(statement), ""
        while frame is not None and len(where) < 200:
            ours = self._as_ours(frame.f_code.co_filename)
            if ours is not None and not ours.endswith("store/database.py"):
                where += f" < {frame.f_code.co_name} ({Path(ours).name}:{frame.f_lineno})"
            frame = frame.f_back
        connection.reads.append((how, name or " ".join(text.split())[:60], where.removeprefix(" < ")))


class _Counted:
    """A transaction whose single-row reads are noted."""

    def __init__(self, tx: Any, note: Callable[[Any], None]) -> None:
        self._tx = tx
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def row(self, statement: Any, **values: Any) -> Any:
        self._note(statement)
        return await self._tx.row(statement, **values)

    async def value(self, statement: Any, **values: Any) -> Any:
        self._note(statement)
        return await self._tx.value(statement, **values)


def _name_of(statement: Any) -> str:
    """The constant that a statement is, by the module it is in."""
    if isinstance(statement, str):
        return ""
    for name, module in list(sys.modules.items()):
        if ".store" not in name and ".domain" not in name:
            continue
        for key, value in list(vars(module).items()):
            if value is statement or (isinstance(value, tuple) and any(one is statement for one in value)):
                return f"{name.rpartition('.')[2]}.{key}"
    return ""


# --- the library ----------------------------------------------------------------------------------------------------


async def walk_library(checkout: Path, package: str = "anycarrier") -> Walk:
    """README's example on a carrier's sandbox: an agent that is one function."""
    observer = Observer(checkout)
    observer.install()
    try:
        core, asgi = import_module(package), import_module(f"{package}.asgi")
        serving: Any = _testing(package, "serve_sandbox")
        sandbox: Any = import_module(f"{package}_telnyx.sandbox").TelnyxSandbox

        async def talk(session: Any) -> None:
            async for event in session:
                if isinstance(event, core.AudioReceived):
                    await session.send_audio(event.payload)

        async with serving.serve_sandbox(sandbox) as carrier:
            carrier.add_number(NUMBER)
            port = serving.listening()
            exchange = core.Exchange(
                registry=core.MemoryNumberRegistry(),
                credentials={"main": carrier.credential()},
                public_url=serving.url_of(port),
                secret="at least 32 random bytes in real life",
                agents=talk,
            )
            observer.app = asgi.create_app(exchange)
            async with serving.serve(observer.app, port):
                await exchange.assign(NUMBER, agent_id="front-desk", credential_id="main")
                observer.watching = True
                caller = await carrier.ring(NUMBER, CALLER)
                await caller.say(b"\x20\xa0" * 4000)
                await caller.wait_heard(HEARD)
                observer.watching = False
                await caller.hang_up()
                await exchange.wait_for(caller.call_id)
        return observer.result()
    finally:
        observer.stop()


def _testing(package: str, name: str) -> Any:
    """The module of the testing kit that has this name: it was not always called what it is called now."""
    for module in iter_modules(import_module(f"{package}.testing").__path__, f"{package}.testing."):
        found = import_module(module.name)
        if getattr(getattr(found, name, None), "__module__", "") == module.name:
            return found
    raise ImportError(name)


# --- the service ----------------------------------------------------------------------------------------------------


def walk_service(checkout: Path, package: str = "anycarrier", database: str = "") -> Walk:
    """``anycarrier serve --sandbox`` with an agent of its own voice, recorded. Runs in the main thread."""
    observer = Observer(checkout)
    observer.install()
    sys.modules["uvloop"] = None  # type: ignore[assignment]  # all its connections share one context
    service = f"{package}_server" if find_spec(f"{package}_server") else f"{package}.server"  # as it was before
    observer.watch_database(import_module(f"{service}.store.database").Database)
    cli = import_module(f"{package}.cli")
    problems: list[BaseException] = []

    with tempfile.TemporaryDirectory() as folder, _environment(package, folder, database):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        def client() -> None:
            try:
                _ring(f"http://127.0.0.1:{port}", observer)
            except BaseException as problem:  # noqa: BLE001 raised again in the main thread
                problems.append(problem)
            finally:
                observer.watching = False
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.3)

        threading.Thread(target=client, daemon=True).start()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                cli.main(["serve", "--sandbox", "--port", str(port), "--log-level", "error"])
        except SystemExit:
            pass
        finally:
            observer.stop()
    if problems:
        raise problems[0]
    return observer.result()


@contextlib.contextmanager
def _environment(package: str, folder: str, database: str) -> Iterator[None]:
    prefix = package.upper()
    given = {
        f"{prefix}_DATA_DIR": folder,
        f"{prefix}_ADMIN_KEY": ADMIN_KEY,
        f"{prefix}_DATABASE": database or f"sqlite:///{folder}/walk.db",
        f"{prefix}_ALLOW": '["US"]',
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _ring(origin: str, observer: Observer) -> None:
    """Be the platform: make an agent, give it a number; then ring it and wait for its first words."""

    def ask(method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(origin + path, data, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
            return json.loads(response.read() or b"null")

    _until(lambda: ask("GET", "/healthz"), 60)
    credential = ask("POST", "/v1/credentials", {"name": "x", "provider": "twilio", "api_key": f"AC{'0' * 32}:secret"})
    agent = {"name": "Aria", "first_message": "Good morning, how can I help you today?", "enable_recording": True}
    agent_id = ask("POST", "/v1/agents", agent)["id"]
    number = {"phone_number": NUMBER, "provider": "twilio", "agent_id": agent_id, "credential_id": credential["id"]}
    ask("POST", "/v1/phone-numbers", number)
    _until(lambda: ask("GET", "/readyz")["status"] == "ready", 30)
    time.sleep(1)  # what making the agent has begun is over
    observer.watching = True
    call = ask("POST", "/sandbox/calls", {"to": NUMBER, "from": CALLER})
    _until(lambda: ask("GET", f"/sandbox/calls/{call['call_id']}")["heard_seconds"] >= HEARD, 20)
    observer.watching = False


def _until(met: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if met():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("what the walk waits for did not happen")
        time.sleep(0.02)


def main() -> int:
    """Print the walk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("which", choices=("library", "service"))
    parser.add_argument("--checkout", type=Path, default=ROOT)
    parser.add_argument("--database", default="", help="postgresql://...; SQLite unless given")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    checkout = given.checkout.resolve()
    package = next(path.parent.name for path in (checkout / "src").glob("*/exchange.py"))
    if given.which == "library":
        walk = asyncio.run(walk_library(checkout, package))
    else:
        walk = walk_service(checkout, package, given.database)
    if given.json:
        print(json.dumps({"files": walk.files, "reads": walk.reads}))
        return 0
    print("\n".join(walk.files))
    for package_of, count in walk.by_package().items():
        print(f"{count:>4} files of {package_of}")
    print(f"{len(walk.files):>4} files")
    if given.which == "service":
        for how, count in Counter(read[0] for read in walk.reads).items():
            print(f"\n{how}: {count}")
            for _, name, where in (read for read in walk.reads if read[0] == how):
                print(f"  {name:<28} {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
