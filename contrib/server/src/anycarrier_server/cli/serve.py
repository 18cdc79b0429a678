"""``anycarrier serve``: the whole service in one process on one port."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anycarrier.cli import Parser, about
from anycarrier.errors import ConfigurationError
from anycarrier.plugins import get_provider, provider_names
from anycarrier_server.cli.connection import database_troubles, own_settings
from anycarrier_server.runtime import Coalescer, QuietCollector

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from anycarrier.provider import TrialPhone
    from anycarrier_server.service import Service
    from anycarrier_server.settings import Settings

log = logging.getLogger("anycarrier")

THREADS_WAIT = 0.0005
"""Seconds a thread that wants Python's lock waits for a busy event loop to give it up. SQLite's driver takes the lock
again for every row it reads; at Python's 5 ms, each transaction of a busy service would take ten times that, and so
would those queued behind it. The setting holds for the whole process, so only a process of our own sets it."""


def main(argv: list[str]) -> int:
    """Serve until told to stop; a second signal does not wait for calls."""
    settings = own_settings(**settings_typed(argv))
    sys.setswitchinterval(THREADS_WAIT)
    with asyncio.Runner(loop_factory=_loop()) as runner:
        return runner.run(serve(settings))


def settings_typed(argv: list[str]) -> dict[str, Any]:
    """The settings that the command line names."""
    given = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    listen = {name: given.pop(f"listen_{name}") for name in _listening() if f"listen_{name}" in given}
    if listen:
        given["carriers"] = {name: {"listen": addresses} for name, addresses in listen.items()}
    return given


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: a frame costs a tenth to a third less on it."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _parser() -> argparse.ArgumentParser:
    more = "Everything else is set in the environment or anycarrier.toml: docs/settings.md"
    parser = Parser(prog="anycarrier serve", description=about(__doc__), epilog=more)
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8080); 0 takes a free one")
    parser.add_argument("--public-url", dest="public_url", help="origin under which carriers and agents reach us")
    parser.add_argument("--database", help="sqlite:///file or postgresql://user:password@host/name")
    parser.add_argument("--data-dir", dest="data_dir", type=Path, help="for SQLite, the key, recordings (./data)")
    parser.add_argument("--sandbox", action="store_true", default=None, help="play the carriers: no account needed")
    for name in _listening():
        parser.add_argument(
            f"--{name}", dest=f"listen_{name}", action="append", metavar="udp:ADDRESS:PORT",
            help=f"socket for {get_provider(name).title}; may be given several times (carriers.{name}.listen)",
        )  # fmt: skip
    parser.add_argument("--log-json", dest="log_json", action="store_true", default=None, help="log JSON lines")
    parser.add_argument("--log-level", dest="log_level", choices=("debug", "info", "warning", "error"))
    return parser


def _listening() -> list[str]:
    """Carriers whose settings name the sockets to open."""
    return [
        name for name in provider_names()
        if (kind := get_provider(name).settings_type) is not None and "listen" in kind.model_fields
    ]  # fmt: skip


async def serve(settings: Settings) -> int:
    """Bind, start, print where, serve, drain, stop. 0 after a stop that was asked for."""
    import uvicorn

    from anycarrier_server import runtime
    from anycarrier_server.app import create_service, faces
    from anycarrier_server.service import Service

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals are ours: a stop has to wait for calls first

    runtime.set_up_logging(settings.log_level, as_json=settings.log_json)
    sock = bind(settings.host, settings.port)
    settings = settings.model_copy(update={"port": sock.getsockname()[1]})
    try:
        with database_troubles(settings):
            opened = await Service.open(settings, faces(settings.sandbox))
    except BaseException:
        sock.close()
        raise
    app = create_service(settings, opened=opened)
    server = Server(_config(app, settings))
    stopping = asyncio.ensure_future(_until_signal(server, app, settings))
    running = asyncio.ensure_future(server.serve([sock]))
    manners: list[QuietCollector | Coalescer] = []
    try:
        while not server.started and not running.done():  # noqa: ASYNC110 uvicorn has no event for it
            await asyncio.sleep(0.01)
        if server.started:
            service: Service = app.state.service
            phones: list[TrialPhone] = []
            if service.sandboxes is not None:
                await service.sandboxes.reconnect()
                phones = await service.sandboxes.connect_phones()
            announce(service, phones, (await service.readiness.degraded()).get("speech") if phones else None)
            # Models take up to a second to load, and the first caller should not be the one who waits for it.
            service.spawn(service.resources.engines.keep_ready(service.settings.engines), "load speech engines")
            service.spawn(runtime.watch_open_files(), "watch open files")
            tasks = server.server_state.tasks  # a call's sound is a task too
            sessions = service.exchange.switchboard.sessions
            manners = [
                QuietCollector(lambda: len(sessions)),
                Coalescer(lambda: len(sessions), lambda: len(tasks) > len(sessions)),
            ]
            for one in manners:
                one.start()
        await running
    finally:
        stopping.cancel()
        for one in manners:
            one.stop()
        sock.close()
    return 0 if server.started else 1


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; ``ConfigurationError`` when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's delay on, and answers wait 40 ms for an acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError, ValueError) as problem:  # ValueError: a name that no resolver takes
        sock.close()
        raise ConfigurationError(f"cannot listen on {host}:{port}: {problem}. Give another --port or --host") from None
    sock.listen(1024)
    return sock


def _config(app: Starlette, settings: Settings) -> Any:
    import uvicorn

    return uvicorn.Config(
        app,
        http=_http(),
        log_config=None,
        access_log=False,
        lifespan="on",
        ws=_sockets(app),
        ws_max_size=1024 * 1024,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
    )


def _http() -> Any:
    """How requests are read: bounded in every direction. Without httptools by h11, which has bounds of its own."""
    try:
        from anycarrier_server.http.http_protocol import BoundedHttp
    except ImportError:
        return "h11"
    return BoundedHttp


def _sockets(app: Starlette) -> Any:
    """How WebSockets are served: media on picows where it is installed, everything else as ever.

    The exchange is there once the app has started, which is before the first connection.
    """
    try:
        from anycarrier.fast.server import websockets
    except ImportError:
        return "websockets-sansio"

    kind: type[asyncio.Protocol] | None = None

    def connect(**arguments: Any) -> asyncio.Protocol:
        nonlocal kind
        kind = kind or websockets(app.state.service.exchange)
        return kind(**arguments)

    return connect


async def _until_signal(server: Any, app: Starlette, settings: Settings) -> None:
    """First signal: drain, then stop. Second: stop now."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    again = asyncio.Event()

    def on_signal() -> None:
        (again if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await asked.wait()
    service: Service | None = getattr(app.state, "service", None)
    if service is not None and server.started:
        live = len(service.exchange.switchboard.sessions)
        log.info("stopping: %d live calls have %g s to end", live, settings.drain_seconds)
        draining = asyncio.ensure_future(service.drain(settings.drain_seconds))
        impatient = asyncio.ensure_future(again.wait())
        await asyncio.wait({draining, impatient}, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        impatient.cancel()
    server.should_exit = True


def announce(service: Service, phones: Sequence[TrialPhone] = (), mute: str | None = None) -> None:
    """Where it listens, the first key, what to type into a telephone on this machine, and what to do next.

    ``mute`` says that agents have no speech engine, so that nobody types all that in and is declined.
    """
    origin = service.exchange.switchboard.public_url
    lines = [f"anycarrier listens on {origin}   (API: {origin}/docs)"]
    if service.new_admin_key is not None:
        lines.append(f"admin key, shown this once: {service.new_admin_key}")
    elif service.settings.admin_key is not None:
        lines.append("admin key: the one in ANYCARRIER_ADMIN_KEY")
    else:
        lines.append("admin key: as printed at the first start; for another: anycarrier keys create NAME --direct")
    if service.sandboxes is not None:
        names = ", ".join(service.sandboxes.played) or "none installed"
        lines.append(f"sandbox: {names}. No account needed; `anycarrier sandbox call` calls a number of yours")
    for phone in phones:
        lines += ["a telephone on this machine can call the agent that says everything again:"]
        lines += [f"  {step}" for step in phone.steps]
    if mute is not None:
        lines.append(f"  but {mute}; docs/speech.md says how to install one")
    if service.sandboxes is not None:
        lines.append("next: make an agent, give it a number, call it; README.md walks through it under The service")
    else:
        lines.append("next: add a carrier credential, make an agent, register a number:")
        lines.append(f'  curl {origin}/v1/credentials -H "Authorization: Bearer $KEY" \\')
        lines.append("    -H 'Content-Type: application/json' \\")
        lines.append("""    -d '{"name": "My carrier", "provider": "...", "api_key": "..."}'""")
    print("\n".join(lines), file=sys.stdout, flush=True)
