"""A pool of worker processes and the streams they serve; a worker that dies or hangs is replaced and its streams go on.

Workers are fresh interpreters, connected by pipes: nothing is forked, and the caller's ``__main__`` is not run again.
They end when their input ends, so they cannot outlive this process, and are waited for, so there are no zombies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Protocol

import msgspec

from anycarrier.errors import AnycarrierError, ConfigurationError, SpeechFailed
from anycarrier.speech.workers import messages as m

log = logging.getLogger("anycarrier")

UNREAD_LIMIT = 4 * 1024 * 1024
"""Bytes a worker may leave unread (eight minutes of one call's audio) before it counts as stuck."""
STOPPED = (-signal.SIGTERM, -signal.SIGINT)
"""Statuses of a worker that was told to stop from outside."""
GOODBYE = 2.0
"""Seconds a worker has to end once its input has ended."""

STARTING = m.Ready().stream
"""The stream number of messages about the worker itself."""


class WorkerStream(Protocol):
    """One call's stream on a worker, as the pool sees it. ``opening`` opens it, on the first worker and on the next."""

    opening: m.Open

    def received(self, message: m.FromWorker) -> None:
        """The worker sent this."""
        ...

    def replay(self) -> Iterable[m.ToWorker]:
        """What another worker needs, after ``opening``, to go on where the last one was."""
        ...

    def failed(self, failure: SpeechFailed) -> None:
        """The stream cannot go on."""
        ...


class Worker:
    """One process. ``ready`` is done once it can open streams, and has an exception if it ended before."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self.streams: dict[int, WorkerStream] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.unusable: str | None = None
        self.owed: dict[int, int] = {STARTING: 1}  # by stream, how many answers must come
        self.deadline: float | None = None
        self._in = process.stdin
        self._out = process.stdout

    @property
    def usable(self) -> bool:
        """True once it is ready."""
        return self.ready.done() and self.ready.exception() is None

    def send(self, message: m.ToWorker) -> None:
        """Write without waiting; a worker that has stopped reading is killed, and replaced like any dead one."""
        if self._in.is_closing():
            return
        self._in.write(m.packed(message))
        if self.unread > UNREAD_LIMIT:
            log.warning("a worker process has left %.1f MB unread: it is replaced", self.unread / 2**20)
            self._in.transport.abort()  # nothing more is written, so this is said once
            self.kill()

    @property
    def unread(self) -> int:
        """Bytes written that are still in this process, because the worker has not read so far."""
        return self._in.transport.get_write_buffer_size()

    async def read(self, receive: Callable[[m.FromWorker], None]) -> None:
        """Pass on what it sends until it has ended."""
        try:
            while True:
                size = m.PREFIX.unpack(await self._out.readexactly(m.PREFIX.size))[0]
                if size > m.LONGEST:
                    raise msgspec.DecodeError(f"a message of {size} bytes")
                receive(m.from_worker.decode(await self._out.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except msgspec.DecodeError as failure:
            log.warning("a worker process sends what is no message: %s", failure)
            self.kill()
        await self.process.wait()

    def kill(self) -> None:
        """End it now."""
        try:
            self.process.kill()
        except ProcessLookupError:
            pass

    async def leave(self) -> None:
        """Let it end, and wait until it has."""
        self._in.close()
        try:
            async with asyncio.timeout(GOODBYE):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()


class WorkerPool:
    """``size`` processes that run ``python -m module`` with ``arguments``; for one event loop.

    ``engine`` and ``operation`` (``listen`` or ``detect``) name the engine in errors. ``environment``: variables set
    for the workers, such as ``OMP_NUM_THREADS``, which libraries read when they are loaded. ``answer_limit``: seconds
    without a message after which a worker that owes an answer is killed and replaced. ``start_limit``: the same for its
    start. ``moves_limit``: how many workers a stream may lose without an answer in between; after that the stream
    itself is taken for the cause.
    """

    def __init__(
        self,
        engine: str,
        operation: str,
        module: str,
        arguments: Iterable[str] = (),
        *,
        size: int = 1,
        environment: Mapping[str, str] | None = None,
        answer_limit: float = 15.0,
        start_limit: float = 60.0,
        moves_limit: int = 3,
    ) -> None:
        self.answer_limit = answer_limit
        self.start_limit = start_limit
        self.moves_limit = moves_limit
        self._engine = engine
        self._operation = operation
        self._command = (sys.executable, "-P", "-m", module, *arguments)
        self._environment = environment or {}
        self._size = size
        self._numbers = count(1)
        self._workers: list[Worker] = []
        self._homes: dict[int, Worker] = {}
        self._moves: dict[int, int] = {}
        self._opening: dict[int, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._start_failure: SpeechFailed | None = None
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """The processes alive now."""
        return [worker.process.pid for worker in self._workers]

    async def start(self) -> None:
        """Start all processes and wait until they are ready; raises ``SpeechFailed`` when one cannot start."""
        await self._spawn_missing()
        for worker in list(self._workers):
            await asyncio.shield(worker.ready)  # shared: whoever is cancelled here must not cancel it for others

    def number(self) -> int:
        """A stream number never used before."""
        return next(self._numbers)

    async def open(self, stream: WorkerStream) -> None:
        """Open a stream on the worker that has the fewest; ``ConfigurationError`` when the worker refuses it."""
        try:
            await self._spawn_missing()
            await self._first_ready()
            number = stream.opening.stream
            opened = self._opening[number] = asyncio.get_running_loop().create_future()
            self._settle(stream)
            await opened
        except BaseException:
            self.remove(stream.opening.stream)
            raise

    def send(self, message: m.ToWorker) -> None:
        """To the stream's worker; ignored when it has none."""
        worker = self._homes.get(message.stream)
        if worker is not None:
            if isinstance(message, m.Finish):
                self._expect(worker, message.stream)
            worker.send(message)

    def remove(self, stream: int) -> None:
        """The stream is over."""
        self.send(m.Close(stream))
        worker = self._homes.pop(stream, None)
        self._moves.pop(stream, None)
        self._opening.pop(stream, None)
        if worker is not None:
            worker.streams.pop(stream, None)
            worker.owed.pop(stream, None)
            if not worker.owed:
                worker.deadline = None

    async def aclose(self) -> None:
        """End all processes and wait for them; streams that are left fail."""
        self._closed = True
        async with self._starting:
            workers, self._workers = self._workers, []
        for worker in workers:
            for stream in list(worker.streams.values()):
                self._fail(stream, self.failure("the engine was closed"))
        await asyncio.gather(*(worker.leave() for worker in workers))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def failure(self, message: str) -> SpeechFailed:
        """The error to raise or to hand to a stream."""
        return SpeechFailed(self._engine, self._operation, message)

    # --- starting and replacing workers ---------------------------------------------------------------------------

    async def _spawn_missing(self) -> None:
        async with self._starting:
            if self._closed:
                raise self.failure("the engine is closed")
            while len(self._workers) < self._size:
                self._workers.append(await self._spawn())

    async def _first_ready(self) -> None:
        """Wait until a worker is ready; raises when none will be."""
        while not any(worker.usable for worker in self._workers):
            waiting = [worker.ready for worker in self._workers]
            if not waiting:
                raise self._start_failure or self.failure("no worker process is left")
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    async def _spawn(self) -> Worker:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **self._environment},
            )
        except OSError as failure:
            raise self.failure(f"no worker process can be started: {failure}") from failure
        worker = Worker(process)
        self._watch(worker, self.start_limit)
        task = asyncio.create_task(self._attend(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return worker

    async def _attend(self, worker: Worker) -> None:
        await worker.read(lambda message: self._received(worker, message))
        worker.deadline = None
        started = worker.usable
        if not started:
            status = worker.process.returncode
            why = worker.unusable or f"a worker process ended with status {status} before it was ready"
            self._start_failure = self.failure(why)
            worker.ready.set_exception(self._start_failure)
            worker.ready.exception()  # retrieved, or asyncio complains when nobody waits for it
        if worker in self._workers:
            self._workers.remove(worker)
        if self._closed:
            return
        self._log_end(worker)
        orphans = list(worker.streams.values())
        if worker.unusable is not None:
            for stream in orphans:
                self._fail(stream, self.failure(worker.unusable))
        elif started or orphans:  # otherwise the next start or stream tries again, and nothing restarts forever
            await self._replace(worker, orphans)

    def _log_end(self, worker: Worker) -> None:
        if worker.unusable is not None:
            log.warning("a %s worker cannot start: %s", self._engine, worker.unusable)
            return
        status = worker.process.returncode
        # Told to stop with the whole group, before it could leave that to us: most likely we are about to stop too.
        level = logging.INFO if status in STOPPED else logging.WARNING
        log.log(level, "a %s worker ended with status %s", self._engine, status)

    async def _replace(self, worker: Worker, orphans: list[WorkerStream]) -> None:
        try:
            await self._spawn_missing()
        except SpeechFailed as failure:
            for stream in orphans:
                self._fail(stream, failure)
            return
        for stream in orphans:
            number = stream.opening.stream
            if self._homes.get(number) is not worker:
                continue  # closed while we were waiting
            messages = list(stream.replay())
            if messages:  # one that had nothing to do is not what killed it
                self._moves[number] = self._moves.get(number, 0) + 1
            if self._moves.get(number, 0) > self.moves_limit:
                self._fail(stream, self.failure(f"the workers of this stream died {self.moves_limit + 1} times"))
                continue
            self._settle(stream)
            for message in messages:
                self.send(message)

    def _settle(self, stream: WorkerStream) -> None:
        """Put a stream on the worker with the fewest, those that are ready first."""
        number = stream.opening.stream
        worker = min(self._workers, key=lambda w: (not w.usable, len(w.streams)))
        worker.streams[number] = stream
        self._homes[number] = worker
        self._expect(worker, number)
        worker.send(stream.opening)

    def _fail(self, stream: WorkerStream, failure: AnycarrierError) -> None:
        number = stream.opening.stream
        opening = self._opening.pop(number, None)
        self.remove(number)
        if opening is not None and not opening.done():
            opening.set_exception(failure)
        elif isinstance(failure, SpeechFailed):
            stream.failed(failure)
        else:
            stream.failed(self.failure(str(failure)))

    # --- messages and deadlines -----------------------------------------------------------------------------------

    def _received(self, worker: Worker, message: m.FromWorker) -> None:
        if isinstance(message, m.Unusable):
            worker.unusable = message.why
            return
        if isinstance(message, m.Ready):
            worker.ready.set_result(None)
        self._answered(worker, message)
        stream = worker.streams.get(message.stream)
        if stream is None:
            return
        if isinstance(message, m.Recognized | m.VoiceReport):
            self._moves.pop(message.stream, None)
        if isinstance(message, m.Refused):
            self._fail(stream, ConfigurationError(f"{self._engine} cannot {self._operation}: {message.why}"))
        elif isinstance(message, m.Opened):
            opening = self._opening.pop(message.stream, None)
            if opening is not None and not opening.done():
                opening.set_result(None)
        else:
            stream.received(message)

    def _expect(self, worker: Worker, stream: int) -> None:
        """The worker owes one more answer."""
        worker.owed[stream] = worker.owed.get(stream, 0) + 1
        if worker.deadline is None:
            self._watch(worker, self.answer_limit)

    def _answered(self, worker: Worker, message: m.FromWorker) -> None:
        """A sign of life: what else is owed has its full time again."""
        interim = isinstance(message, m.Recognized) and not message.final
        if not interim and not isinstance(message, m.VoiceReport | m.Examined):
            left = worker.owed.pop(message.stream, 0) - 1
            if left > 0:
                worker.owed[message.stream] = left
        worker.deadline = None
        if worker.owed:
            self._watch(worker, self.answer_limit)

    def _watch(self, worker: Worker, limit: float) -> None:
        """Kill the worker if it sends nothing for ``limit`` seconds."""
        loop = asyncio.get_running_loop()
        worker.deadline = deadline = loop.time() + limit

        def look() -> None:
            if worker.deadline == deadline:
                log.warning("a %s worker has not answered for %.0f s", self._engine, limit)
                worker.kill()

        loop.call_later(limit, look)
