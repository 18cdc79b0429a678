"""The watch over calls that are not over: no call stays open because a message, a command or a process was lost.

Carriers send the end of a call once, and may forget the call minutes later; a command may fail; a process may die.
So every open call of this process is in a phase, and each phase has a rule (``call_phases.py``): how long the call may
stay there before the carrier is asked how it stands, when it is hung up, and with what reason it ends.
A question or a hang-up that fails is repeated, less and less often, and in the end the call is written off.

Needs no server and no ``Exchange.start()``: a call is watched from the moment it is written down. Time is the event
loop's. With several processes on one call book, the process named in ``Call.owner`` watches the call; what a dead one
leaves behind is given to another with :meth:`CallWatch.adopt`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar
from weakref import WeakValueDictionary

from anycarrier import call_phases
from anycarrier.call_phases import RING_TIME, RULES, Phase, Rule, is_gone, longer
from anycarrier.calls import Call, CallStatus, EndReason, advance
from anycarrier.errors import AnycarrierError, CallElsewhere, ProviderError, RateLimited, UnsupportedOperation
from anycarrier.events import CallProgress, DigitReported
from anycarrier.provider import Capability, Provider
from anycarrier.switchboard import Switchboard

log = logging.getLogger("anycarrier")

T = TypeVar("T")

BOOK_RETRY = 5.0
"""Seconds until the next look after the call book was not available."""

AT_ONCE = 4
"""Questions and hang-ups under way for one credential: a carrier that hangs does not hold up another's calls."""

MOST_EARLY_KEYS = 64
"""Reports of keys that are kept for a call whose audio is not connected yet."""


@dataclass(slots=True)
class Watched:
    """One open call of this process, as it was last seen, and what is known of it besides."""

    call: Call
    ring_time: float = RING_TIME
    routing: bool = False
    left_ringing: bool = False
    stream_over: bool = False
    abandoned: bool = False
    phase: Phase | None = None
    since: float = 0.0
    """When the call came into its phase, or its status changed; all times are the event loop's."""
    limit_at: float | None = None
    """When the call reaches its time limit."""
    looked_at: float = 0.0
    next_at: float | None = None
    """When to look again; None before the first look in this phase."""
    due_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    early_keys: list[DigitReported] = field(default_factory=list)
    """Keys that webhooks reported before the call's audio was connected."""
    looking: bool = False
    tries: int = 0
    gone: int = 0
    """How often in a row the carrier has said that it knows no such call."""
    trouble_since: float | None = None
    """First failed question, or first attempt to hang up."""
    hung_up_at: float | None = None
    """First hang-up that the carrier accepted."""


class CallWatch:
    """Watches the open calls of one process; it is told of every change by the switchboard.

    ``settle`` is how many seconds a carrier may take to report a call over once its stream has ended, or once it has
    accepted a hang-up and cannot be asked. ``rules`` may be replaced, to wait longer or shorter; each phase needs one.
    """

    def __init__(self, switchboard: Switchboard, *, settle: float, rules: Mapping[Phase, Rule] = RULES) -> None:
        ended = replace(rules[Phase.STREAM_ENDED], ask_after=settle, hang_up_after=settle)
        self.rules: Mapping[Phase, Rule] = {**rules, Phase.STREAM_ENDED: ended}
        self.settle = settle
        self._board = switchboard
        switchboard.on_change.append(self.note)
        self._watched: dict[str, Watched] = {}
        self._gates: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._failing = False
        self._stopped = False

    # --- what the exchange tells ------------------------------------------------------------------------------------

    def note(self, call: Call, *, ring_time: float | None = None) -> None:
        """The call is like this now: watch it, or no longer."""
        if self._stopped:
            return
        known = self._watched.get(call.reference)
        if call.ended or call.owner not in ("", self._board.owner):
            if known is not None:
                self._drop(known)
            return
        if known is None:
            known = self._watched[call.reference] = Watched(call)
        if ring_time is not None:
            known.ring_time = ring_time
        now = asyncio.get_running_loop().time()
        moved, known.call = call.status is not known.call.status, call
        if known.limit_at is None and call.time_limit is not None and call.status is CallStatus.ANSWERED:
            known.limit_at = now + call.time_limit
        held = call.reference in self._board.sessions
        if held:
            known.abandoned = False
        on = {"stream_over": known.stream_over, "abandoned": known.abandoned, "routing": known.routing}
        phase = call_phases.phase_of(call, held=held, left_ringing=known.left_ringing, **on)
        if phase is not known.phase or moved:
            known.phase, known.since, known.next_at, known.tries, known.gone = phase, now, None, 0, 0
            if phase is not Phase.ENDING:
                known.trouble_since = known.hung_up_at = None
            self._arm(known)

    def stream_ended(self, reference: str) -> None:
        """The call's media socket has closed: if the carrier says nothing soon, it is asked how the call stands."""
        if (known := self._watched.get(reference)) is not None:
            known.stream_over = True
            self.note(known.call)

    def keep_keys(self, reference: str, keys: DigitReported) -> None:
        """Keep keys that were pressed before the call's audio is connected; a call that is not watched keeps none."""
        known = self._watched.get(reference)
        if known is not None and not known.stream_over and len(known.early_keys) < MOST_EARLY_KEYS:
            known.early_keys.append(keys)

    def take_keys(self, reference: str) -> list[DigitReported]:
        """The keys that were kept, oldest first; they are given out once."""
        known = self._watched.get(reference)
        if known is None:
            return []
        keys, known.early_keys = known.early_keys, []
        return keys

    @contextmanager
    def routing(self, reference: str) -> Iterator[None]:
        """While the router decides about an incoming call, it may ring on."""
        if (known := self._watched.get(reference)) is not None:
            known.routing = True
            self.note(known.call)
        try:
            yield
        finally:
            if known is not None and self.watches(reference):
                known.routing = False
                self.note(known.call)

    def leave_ringing(self, reference: str) -> None:
        """Nobody answers or declines this call on purpose."""
        if (known := self._watched.get(reference)) is not None:
            known.left_ringing = True
            self.note(known.call)

    async def adopt(
        self, reference: str, owner: str, *, ring_time: float = RING_TIME, dialled_at: datetime | None = None
    ) -> bool:
        """Take over an open call whose process, ``owner``, is dead; False when somebody else was quicker.

        Its audio had its place there, so it is hung up, unless a media socket comes here. A dial that has not been
        answered may still reach us, until its ring time (from ``dialled_at``, else from now) is over.
        """
        me = self._board.owner

        def ours(now: Call) -> Call:
            return now if now.ended or now.owner != owner else now.model_copy(update={"owner": me})

        call = await self._board.update(reference, ours)
        known = self._watched.get(reference)
        if call.ended or call.owner != me or known is None:
            return False
        known.ring_time, known.abandoned = ring_time, True
        if call.answered_at is not None and call.time_limit is not None:
            talked = (datetime.now(UTC) - call.answered_at).total_seconds()
            known.limit_at = asyncio.get_running_loop().time() + call.time_limit - max(0.0, talked)
        self.note(call)
        if dialled_at is not None and known.phase in (Phase.UNCONFIRMED, Phase.DIALLING):
            known.since -= max(0.0, (datetime.now(UTC) - dialled_at).total_seconds())
            self._arm(known)
        if known.phase in (Phase.QUEUED, Phase.DIALLING, Phase.TRANSFERRED):  # may stay up; but it may be over by now
            self._again(known, 0.0)
        return True

    def hurry(self) -> None:
        """News of calls may have been lost: ask about each that nobody talks on."""
        for known in list(self._watched.values()):
            if known.phase not in (Phase.TALKING, Phase.UNCONFIRMED):
                self._again(known, 0.0)

    def watches(self, reference: str) -> bool:
        """True while the call is open and this process's to end."""
        return reference in self._watched

    def expected(self) -> set[str]:
        """Calls with audio here, or soon; not those that are ending, were transferred, or are left ringing."""
        return {reference for reference, known in self._watched.items() if known.phase in call_phases.MAY_TALK}

    def start(self) -> None:
        """Look again after :meth:`stop`; the first time there is no need to."""
        self._stopped = False

    def stop(self) -> None:
        """Look at nothing any more. Open calls stay in the book, for another process to adopt."""
        self._stopped = True
        for known in list(self._watched.values()):
            self._drop(known)

    # --- when to look -----------------------------------------------------------------------------------------------

    def _rule(self, known: Watched) -> Rule:
        assert known.phase is not None
        rule = self.rules[known.phase]
        if not rule.rings or rule.hang_up_after is None:
            return rule
        ring = known.ring_time
        return replace(rule, ask_after=rule.ask_after + ring, hang_up_after=rule.hang_up_after + ring)

    def _drop(self, known: Watched) -> None:
        self._watched.pop(known.call.reference, None)
        if known.timer is not None:
            known.timer.cancel()

    def _again(self, known: Watched, seconds: float) -> None:
        known.next_at = asyncio.get_running_loop().time() + seconds
        self._arm(known)

    def _arm(self, known: Watched) -> None:
        """Set the timer for the next look; during a look, at its end."""
        due = known.next_at if known.next_at is not None else known.since + self._rule(known).ask_after
        if known.limit_at is not None and known.phase in call_phases.LIMITED:
            limit = max(known.limit_at, known.since)  # a transfer may give a call back after its time
            due = min(due, limit if limit > known.looked_at else due)
        known.due_at = due
        if known.timer is not None:
            known.timer.cancel()
            known.timer = None
        if not known.looking and self._watched.get(known.call.reference) is known:
            known.timer = asyncio.get_running_loop().call_at(due, self._due, known)

    def _due(self, known: Watched) -> None:
        known.timer, known.looking = None, True
        self._board.spawn(self._look(known, known.due_at), "look after an open call")

    async def _look(self, known: Watched, due: float) -> None:
        reference = known.call.reference
        known.looked_at = asyncio.get_running_loop().time()
        try:
            call = await self._board.calls.get(reference)
            if call is None:
                self._drop(known)
                return
            self._board.tell(call)  # it may have moved on in another process
            async with self._gates.setdefault(call.credential_id, asyncio.Semaphore(AT_ONCE)):
                if self.watches(reference) and known.due_at <= due:  # else over, another's, or in another phase
                    await self._act(known)
            self._failing = False
        except Exception as problem:  # noqa: BLE001 the call book is not available, or a bug: the call is not lost
            if not self._failing:
                self._failing = True
                self._board.report("the watch over open calls failed, trying again", problem)
            self._again(known, BOOK_RETRY)
        finally:
            known.looking = False
            if self._watched.get(reference) is known:
                if known.due_at <= due:
                    known.next_at = known.looked_at + BOOK_RETRY
                self._arm(known)

    # --- what to do -------------------------------------------------------------------------------------------------

    async def _act(self, known: Watched) -> None:
        """The call has been in its phase long enough."""
        call, rule, now = known.call, self._rule(known), asyncio.get_running_loop().time()
        if known.phase is Phase.UNCONFIRMED:
            # Nothing to ask about; but the carrier may name it in this very moment.
            await self._end(call, rule.reason, unless=lambda c: bool(c.id))
            return
        if known.limit_at is not None and now >= known.limit_at - 0.01 and known.phase in call_phases.LIMITED:
            await self._hang_up(known, EndReason.MAX_DURATION)
            return
        since, seen = known.since, None
        try:
            seen = await self._carrier(known, lambda provider: provider.fetch_call(call.id))
        except UnsupportedOperation:
            pass
        except AnycarrierError as problem:
            here = not isinstance(problem, CallElsewhere)
            if known.phase is Phase.ENDING and here and not is_gone(problem):  # which it is to be, whatever the answer
                with suppress(AnycarrierError):
                    await self._carrier(known, lambda provider: provider.hang_up(call.id))
            await self._refused(known, problem)
            return
        else:
            call = await self._move(call.reference, lambda c: advance(c, seen, datetime.now(UTC)))
            known.gone = 0
        if call.ended or known.since != since or known.phase is None:
            return  # over, or further than we knew: that phase has its own patience
        stays = now - since
        if rule.at_most is not None and stays >= rule.at_most:
            await self._write_off(known, f"was {known.phase.value} for {stays:.0f} s")
            return
        patience = rule.hang_up_after
        if known.phase is Phase.DIALLING and known.abandoned:
            # Its answer and its stream may have come while no process was there.
            patience = known.ring_time + call_phases.RING_GRACE
        tried = known.phase is Phase.ENDING and known.trouble_since is not None  # to hang it up
        if patience is None or (stays < patience and not tried):
            known.trouble_since = None
            pause = rule.ask_after if known.phase is Phase.TALKING else longer(call_phases.AGAIN, known.tries)
            self._again(known, pause if patience is None else min(pause, patience - stays))
            known.tries += 1
            return
        told_in = call_phases.STILL_UP if seen is not None else self.settle
        if known.hung_up_at is not None and now - known.hung_up_at >= told_in:
            await self._write_off(known, "was hung up, and the carrier has not said that it is over")
        else:
            await self._hang_up(known, rule.reason)

    async def _hang_up(self, known: Watched, reason: EndReason) -> None:
        """Unless the call has moved on meanwhile: a media socket may have come, here or to another process."""
        judged, phase = known.call, known.phase
        trouble = known.trouble_since or asyncio.get_running_loop().time()

        def ending(now: Call) -> Call:
            as_judged = now.status is judged.status and now.owner == judged.owner and known.phase is phase
            return now.model_copy(update={"intent": reason}) if now.intent is None and as_judged else now

        call = await self._board.update(judged.reference, ending)
        if call.ended or call.intent is None or call.handed_on or not self.watches(call.reference):
            return
        known.trouble_since = trouble
        try:
            await self._carrier(known, lambda provider: provider.hang_up(call.id))
        except AnycarrierError as problem:
            await self._refused(known, problem)
            return
        if known.hung_up_at is None:
            known.hung_up_at = asyncio.get_running_loop().time()
        asks = (await self._board.provider(call.credential_id)).supports(Capability.FETCH_CALL)
        self._again(known, longer(call_phases.RETRY, known.tries) if asks else self.settle)
        known.tries += 1

    async def _carrier(self, known: Watched, work: Callable[[Provider], Awaitable[T]]) -> T:
        """Ask the call's carrier. What a plugin raises against the contract is a failure like any other."""
        provider = await self._board.provider(known.call.credential_id)
        try:
            return await work(provider)
        except AnycarrierError:
            raise
        except Exception as bug:
            raise ProviderError(provider.name, "the watch's question", type(bug).__name__) from bug

    async def _refused(self, known: Watched, problem: AnycarrierError) -> None:
        """The carrier has no such call; or it did not answer, or would not take the question from us."""
        now, rule = asyncio.get_running_loop().time(), self._rule(known)
        if is_gone(problem) or isinstance(problem, CallElsewhere):
            known.gone += 1
            if known.phase is Phase.TALKING and known.gone < 2:  # its audio flows: that has to be said twice
                return self._again(known, call_phases.RETRY[1])
            return await self._end(known.call, _lost(known.call) if not is_gone(problem) else EndReason.UNKNOWN)
        if known.trouble_since is None:
            log.warning("call %s on %s: %s", known.call.reference, known.call.provider, problem)
        if rule.write_off_after is None:
            self._again(known, rule.ask_after)
            return
        known.trouble_since = known.trouble_since or now
        if (left := known.trouble_since + rule.write_off_after - now) <= 0:
            await self._write_off(known, f"can be neither asked about nor hung up: {problem}")
            return
        told = (problem.retry_after or 0.0) if isinstance(problem, RateLimited) else 0.0
        self._again(known, min(left, max(longer(call_phases.RETRY, known.tries), min(told, 2 * call_phases.RETRY[1]))))
        known.tries += 1

    async def _write_off(self, known: Watched, why: str) -> None:
        call, transferred = known.call, known.phase is Phase.TRANSFERRED
        log.warning("call %s on %s is written off: it %s", call.reference, call.provider, why)
        await self._end(call, EndReason.TRANSFERRED if transferred else EndReason.PROVIDER_UNAVAILABLE)
        if not transferred:
            self._board.spawn(self._hang_up_later(call, known), "hang up a call that was written off")

    async def _hang_up_later(self, call: Call, known: Watched) -> None:
        """The book has given the call up; at the carrier it may be up, and billed."""
        loop = asyncio.get_running_loop()
        until, tries = loop.time() + call_phases.HANG_UP_LATER, 0
        while loop.time() < until:
            await asyncio.sleep(longer((call_phases.RETRY[1], call_phases.AGAIN[1]), tries))
            tries += 1
            try:
                await self._carrier(known, lambda provider: provider.hang_up(call.id))
                if (await self._carrier(known, lambda provider: provider.fetch_call(call.id))).ended:
                    return
            except UnsupportedOperation:
                return  # it has taken the hang-up, and cannot be asked what came of it
            except AnycarrierError as problem:
                if is_gone(problem) or isinstance(problem, CallElsewhere):
                    return
        log.error("call %s on %s may still be up: it could not be hung up", call.reference, call.provider)

    async def _end(self, call: Call, reason: EndReason, *, unless: Callable[[Call], bool] = lambda c: False) -> None:
        over, now = {"status": CallStatus.ENDED, "reason": reason, "raw": {}}, datetime.now(UTC)
        await self._move(call.reference, lambda c: c if unless(c) else advance(c, c.model_copy(update=over), now))

    async def _move(self, reference: str, change: Callable[[Call], Call]) -> Call:
        """Change the call; observers hear of an end that this causes as they hear of a carrier's."""
        was_over = True

        def noting(before: Call) -> Call:  # may run twice
            nonlocal was_over
            was_over = before.ended
            return change(before)

        call = await self._board.update(reference, noting)
        if call.ended and not was_over:
            told = CallProgress(call=call, call_id=call.id, reference=call.reference)
            await self._board.observe(told, call)
        return call


def _lost(call: Call) -> EndReason:
    """Why a call of ours is over that nobody has on its sockets: the process that had them died."""
    return EndReason.MEDIA_ERROR if call.answered_at is not None else EndReason.PROVIDER_UNAVAILABLE
