"""Worker processes and the streams they serve; a worker that dies is replaced and its streams go on.

Workers are fresh interpreters talked to over pipes: nothing is forked, and nothing of the caller's ``__main__`` is run
again. They end when their input does, so they cannot outlive this process, and are waited for, so there are no zombies.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterable
from itertools import count
from typing import Protocol

from anycarrier.errors import SpeechFailed
from anycarrier_speech_local import messages as m

log = logging.getLogger(__name__)

UNREAD_LIMIT = 4 * 1024 * 1024
"""Bytes a worker may leave unread (eight minutes of one call's audio) before it is taken for stuck."""
ANSWER_LIMIT = 15.0
"""Seconds a worker may take to answer a Finish or an Open."""
MOVES_LIMIT = 3
"""Workers a stream may lose without one answer in between; then the stream itself is what kills them."""
STOPPED = (-signal.SIGTERM, -signal.SIGINT)
"""Statuses of a worker that was told to stop from outside."""
GOODBYE = 2.0
"""Seconds a worker has to leave once its input ended."""


class Stream(Protocol):
    """What the pool knows of a stream: how to set it up again, where to tell, how to give up."""

    opening: m.Open

    def told(self, message: m.FromWorker) -> None: ...

    def moved(self) -> Iterable[m.ToWorker]: ...

    def lost(self, failure: SpeechFailed) -> None: ...


class Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self.streams: dict[int, Stream] = {}
        self.deadline: float | None = None
        self._in = process.stdin
        self._out = process.stdout

    def send(self, message: m.ToWorker) -> None:
        """Write without waiting; a worker that has stopped reading is killed, and replaced like any dead one."""
        if self._in.is_closing():
            return
        self._in.write(m.packed(message))
        if self._in.transport.get_write_buffer_size() > UNREAD_LIMIT:
            self.kill()

    async def read(self, tell: Callable[[m.FromWorker], None]) -> None:
        """Pass on what it says until it is gone."""
        try:
            while True:
                prefix = await self._out.readexactly(m.PREFIX.size)
                body = await self._out.readexactly(m.PREFIX.unpack(prefix)[0])
                tell(m.from_worker.decode(body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        await self.process.wait()

    def kill(self) -> None:
        """End it now."""
        try:
            self.process.kill()
        except ProcessLookupError:
            pass

    async def leave(self) -> None:
        """End it politely, and see it gone."""
        self._in.close()
        try:
            await asyncio.wait_for(self.process.wait(), GOODBYE)
        except TimeoutError:
            self.kill()
            await self.process.wait()


class WorkerPool:
    """``size`` processes of one role. Started by the first stream; to be used in one event loop."""

    def __init__(self, engine: str, operation: str, arguments: tuple[str, ...], size: int) -> None:
        self._engine = engine
        self._operation = operation
        self._arguments = arguments
        self._size = size
        self._numbers = count(1)
        self._workers: list[Worker] = []
        self._homes: dict[int, Worker] = {}
        self._moves: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """The processes alive now."""
        return [worker.process.pid for worker in self._workers]

    async def start(self) -> None:
        """Have all processes running."""
        async with self._starting:
            if self._closed:
                raise self.failure("the engine is closed")
            while len(self._workers) < self._size:
                self._workers.append(await self._spawn())

    def number(self) -> int:
        """A stream number never used before."""
        return next(self._numbers)

    async def add(self, stream: Stream) -> None:
        """Give a stream a home on the worker that has the fewest."""
        await self.start()
        self._settle(stream)

    def send(self, message: m.ToWorker) -> None:
        """To the stream's worker; nothing happens when it has none."""
        worker = self._homes.get(message.stream)
        if worker is not None:
            if isinstance(message, m.Finish) and worker.deadline is None:
                self._expect(worker)
            worker.send(message)

    def remove(self, stream: int) -> None:
        """The stream is over."""
        self.send(m.Close(stream))
        worker = self._homes.pop(stream, None)
        self._moves.pop(stream, None)
        if worker is not None:
            worker.streams.pop(stream, None)

    async def aclose(self) -> None:
        """End all processes and wait for them; streams that are left fail."""
        self._closed = True
        async with self._starting:
            workers, self._workers = self._workers, []
        for worker in workers:
            for stream in worker.streams.values():
                stream.lost(self.failure("the engine was closed"))
            worker.streams.clear()
        self._homes.clear()
        await asyncio.gather(*(worker.leave() for worker in workers))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def failure(self, message: str) -> SpeechFailed:
        """The error to raise or to hand to a stream."""
        return SpeechFailed(self._engine, self._operation, message)

    # --- workers that come and go ---------------------------------------------------------------------------------

    async def _spawn(self) -> Worker:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "anycarrier_speech_local.worker",
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as failure:
            raise self.failure(f"no worker process can be started: {failure}") from failure
        worker = Worker(process)
        task = asyncio.create_task(self._attend(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return worker

    async def _attend(self, worker: Worker) -> None:
        await worker.read(lambda message: self._told(worker, message))
        if self._closed:
            return
        status = worker.process.returncode
        # Told to stop with the whole group, before it could leave that to us: most likely we are about to stop too.
        level = logging.INFO if status in STOPPED else logging.WARNING
        log.log(level, "a %s worker ended with status %s; replacing it", self._engine, status)
        if worker in self._workers:
            self._workers.remove(worker)
        orphans = list(worker.streams.values())
        try:
            await self.start()
        except SpeechFailed as failure:
            for stream in orphans:
                stream.lost(failure)
            return
        for stream in orphans:
            number = stream.opening.stream
            if self._homes.get(number) is not worker:
                continue  # closed while we were waiting
            self._moves[number] = self._moves.get(number, 0) + 1
            if self._moves[number] > MOVES_LIMIT:
                self._homes.pop(number, None)
                stream.lost(self.failure(f"the workers of this stream died {MOVES_LIMIT + 1} times"))
                continue
            self._settle(stream)
            for message in stream.moved():
                self.send(message)

    def _settle(self, stream: Stream) -> None:
        number = stream.opening.stream
        worker = min(self._workers, key=lambda w: len(w.streams))
        worker.streams[number] = stream
        self._homes[number] = worker
        self._expect(worker)
        worker.send(stream.opening)

    def _told(self, worker: Worker, message: m.FromWorker) -> None:
        worker.deadline = None
        stream = worker.streams.get(message.stream)
        if stream is not None:
            if isinstance(message, m.Words | m.VoiceTold):
                self._moves.pop(message.stream, None)
            stream.told(message)

    def _expect(self, worker: Worker) -> None:
        """Something must be heard from the worker in time, or it is stuck."""
        loop = asyncio.get_running_loop()
        worker.deadline = loop.time() + ANSWER_LIMIT

        def look() -> None:
            if worker.deadline is not None and loop.time() >= worker.deadline - 0.01:
                log.warning("a %s worker has not answered for %.0f s", self._engine, ANSWER_LIMIT)
                worker.kill()

        loop.call_later(ANSWER_LIMIT, look)
