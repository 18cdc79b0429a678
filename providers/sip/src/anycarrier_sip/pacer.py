"""One timer that paces all calls' audio, and the ports that it goes over.

A call's packets are due each 20 ms by absolute deadlines: one that is sent late does not delay the next. Calls are
spread over five turns, 4 ms apart, so that none waits for all others.

The sockets are read as soon as something comes, and with many calls at each turn, all those that have something: waking
up for each packet would cost more than the packet.
"""

from __future__ import annotations

import asyncio
import random
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from anycarrier.errors import AnycarrierError

PERIOD = 0.020
TURNS = 5
EARLY = 0.0005
"""Seconds that a turn may begin early: a timer of uvloop counts in milliseconds, and would be set again and again."""
MANY = 4 * TURNS
"""From so many streams on the sockets are read at the turns."""
MOST_READ = 200
"""Datagrams of one socket that are read at a turn: a stranger who floods it takes no place from whom it is for."""
SECOND = 50
"""Periods between two calls of :meth:`Paced.each_second`."""
CATCH_UP = 3
"""Periods' worth of packets that are sent at once after a delay; of a longer one the far end hears a pause."""


class Paced(Protocol):
    """What is paced."""

    def tick(self, now: float) -> None:
        """A packet is due. ``now`` is the deadline, not the time that it has become."""
        ...

    def skip(self, periods: int) -> None:
        """The process has been busy, and for so long that these packets are not sent at all, if any."""
        ...

    def each_second(self, now: float) -> None:
        """What need not be done with every packet."""
        ...


@dataclass
class _Turn:
    """Streams whose packets are due together."""

    offset: float
    streams: list[Paced] = field(default_factory=list)
    due: float = 0.0
    count: int = 0


class Pacer:
    """One per process. Its methods are called in the loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns = [_Turn(self._loop.time() + number * PERIOD / TURNS) for number in range(TURNS)]
        self._timer: asyncio.TimerHandle | None = None
        self._sockets = select.epoll() if hasattr(select, "epoll") else None  # elsewhere the loop watches each socket
        self._readers: dict[int, Callable[[float], bool]] = {}
        self._at_turns = False
        if self._sockets is not None:
            self._loop.add_reader(self._sockets, self._read)

    @property
    def streams(self) -> int:
        """How many are paced."""
        return sum(len(turn.streams) for turn in self._turns)

    def add(self, stream: Paced) -> None:
        """Begin to pace ``stream``, in the turn that has the fewest."""
        turn = min(self._turns, key=lambda turn: len(turn.streams))
        if not turn.streams:
            past = (self._loop.time() - turn.offset) // PERIOD + 1
            turn.due = turn.offset + past * PERIOD
        turn.streams = [*turn.streams, stream]  # the list there was may be being walked over
        self._changed()

    def remove(self, stream: Paced) -> None:
        """Pace it no longer; it may not have been paced at all."""
        for turn in self._turns:
            if stream in turn.streams:
                turn.streams = [other for other in turn.streams if other is not stream]
        self._changed()

    def close(self) -> None:
        """Pace nothing any more, and read nothing."""
        for turn in self._turns:
            turn.streams = []
        self._arm()
        for number in self._readers:
            self._loop.remove_reader(number)
        self._readers.clear()
        if self._sockets is not None:
            self._loop.remove_reader(self._sockets)
            self._sockets.close()
            self._sockets = None

    def watch(self, one: socket.socket, read: Callable[[float], bool]) -> None:
        """Call ``read`` with the time when there is a datagram; it reads one, and is False when there is none."""
        self._readers[one.fileno()] = read
        if self._sockets is not None:
            self._sockets.register(one, select.EPOLLIN)
        else:
            self._loop.add_reader(one, lambda: read(self._loop.time()))

    def unwatch(self, one: socket.socket) -> None:
        """Read it no longer; it is still open."""
        if self._readers.pop(one.fileno(), None) is None:
            return
        if self._sockets is not None:
            self._sockets.unregister(one)
        else:
            self._loop.remove_reader(one)

    def _read(self) -> None:
        """One datagram of each socket; at a turn, what lies in those that have more."""
        now = self._loop.time()
        for most in (1, MOST_READ) if self._at_turns else (1,):
            for number, _ in self._sockets.poll(0) if self._sockets is not None else ():
                try:
                    for _ in range(most):
                        read = self._readers.get(number)  # none once it was closed by what came
                        if read is None or not read(now):
                            break
                except Exception as failure:  # noqa: BLE001
                    self._failed(failure)

    def _changed(self) -> None:
        many = self.streams >= MANY
        if many != self._at_turns and self._sockets is not None:
            self._at_turns = many
            if many:
                self._loop.remove_reader(self._sockets)
            else:
                self._loop.add_reader(self._sockets, self._read)
        self._arm()

    def _failed(self, failure: Exception) -> None:
        """One call's handler has failed, and the others are not to go silent for it."""
        self._loop.call_exception_handler({"message": "the audio of a SIP call failed", "exception": failure})

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = min((turn.due for turn in self._turns if turn.streams), default=None)
        self._timer = self._loop.call_at(due, self._run) if due is not None else None

    def _run(self) -> None:
        if self._at_turns:
            self._read()
        try:
            for turn in self._turns:
                if turn.streams and turn.due <= self._loop.time() + EARLY:
                    self._take(turn)
        finally:
            self._arm()

    def _take(self, turn: _Turn) -> None:
        now, due = self._loop.time(), turn.due
        missed = max(0, int((now - due) / PERIOD))  # whole periods beside the one that is due
        skipped = max(0, missed + 1 - CATCH_UP)
        due += skipped * PERIOD
        turn.due += (missed + 1) * PERIOD
        turn.count += 1
        for stream in turn.streams:
            try:
                if missed:
                    stream.skip(skipped)
                for period in range(missed + 1 - skipped):
                    stream.tick(due + period * PERIOD)
                if not turn.count % SECOND:
                    stream.each_second(now)
            except Exception as failure:  # noqa: BLE001
                self._failed(failure)


class PortsExhausted(AnycarrierError):
    """All RTP ports of the operator's range are taken by calls."""


class PortRange:
    """Pairs of UDP ports, RTP's even and RTCP's the next, given out at random from ``first`` to ``last``."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._free = list(range(first + first % 2, last, 2))
        self._random = random.SystemRandom()
        self._random.shuffle(self._free)

    def open(self, host: str) -> tuple[socket.socket, socket.socket]:
        """Two sockets bound to a pair on ``host``. ``PortsExhausted`` where there is none left."""
        taken = []
        try:
            while self._free:
                # One that was given back goes to a random place, so that none is used again soon by rule.
                at = self._random.randrange(len(self._free))
                self._free[at], self._free[-1] = self._free[-1], self._free[at]
                port = self._free.pop()
                try:
                    return _bound(host, port)
                except OSError:
                    taken.append(port)  # another program's, which may go
        finally:
            self._free += taken
        raise PortsExhausted(
            f"sip: no RTP port is free on {host} between {self._first} and {self._last}: each call takes two. "
            "Widen rtp_ports, or take fewer calls."
        )

    def close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Give a pair back."""
        port = pair[0].getsockname()[1]
        for one in pair:
            one.close()
        self._free.append(port)


def _bound(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    pair = []
    try:
        for number in (port, port + 1):
            pair.append(one := socket.socket(family, socket.SOCK_DGRAM))
            one.setblocking(False)
            one.bind((host, number))
    except OSError:
        for one in pair:
            one.close()
        raise
    return pair[0], pair[1]
