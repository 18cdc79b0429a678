"""Live calls on the carrier's sandbox: what a carrier without REST cannot show on cassettes, it shows here.

For a carrier with sockets of its own that ships a sandbox; all others skip these. Calls are made in real time, through
an exchange, over loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import wave
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from anycarrier.asgi import create_app
from anycarrier.calls import Call, CallStatus, Direction, EndReason, TransferStatus
from anycarrier.errors import AnycarrierError, AuthenticationFailed
from anycarrier.events import AudioReceived, DigitPressed
from anycarrier.exchange import Exchange
from anycarrier.numbers import OwnedNumber
from anycarrier.policy import Policy
from anycarrier.provider import Capability
from anycarrier.routing import Forward, MemoryNumberRegistry, Reject, Route
from anycarrier.session import MediaSession
from anycarrier.testing.conformance.kit import OURS, SECRET, THEIRS, Kit
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import tone
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox, sandbox_type

SAID = tone(0.4, 440)
ELSEWHERE = "+14155550142"


@dataclass
class Line:
    """A number of ours on the carrier's sandbox, whose agent repeats what it hears."""

    exchange: Exchange
    sandbox: Sandbox
    keys: list[str] = field(default_factory=list)

    async def talk(self, session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, AudioReceived):
                await session.send_audio(event.payload)
            elif isinstance(event, DigitPressed):
                self.keys.append(event.digit)

    async def rung(self) -> FarEnd:
        """A caller whose call is answered."""
        far_end = await self.sandbox.ring(OURS, THEIRS)
        await far_end.wait_for("streaming")
        return far_end

    async def over(self, call_id: str) -> Call:
        return await self.exchange.wait_for(call_id, CallStatus.ENDED, 30)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not met():  # noqa: ASYNC110 a far end tells nobody what it hears
            await asyncio.sleep(0.01)


class LiveCallChecks(Kit):
    def test_a_caller_is_heard_and_hears_and_presses_keys(self) -> None:
        async def act(line: Line) -> None:
            far_end = await line.rung()
            await far_end.say(SAID)
            await until(lambda: SAID in far_end.heard)
            await far_end.press("1#")
            await until(lambda: line.keys == ["1", "#"])
            await far_end.hang_up()
            call = await line.over(far_end.call_id)
            assert (call.direction, call.from_, call.to) == (Direction.INBOUND, THEIRS, OURS)
            assert (call.reason, call.provider) == (EndReason.USER_HANGUP, self.name)
            assert call.answered_at is not None and call.duration > 0

        self.on_the_line(act)

    def test_a_call_of_ours_is_answered_and_hung_up_once(self) -> None:
        async def act(line: Line) -> None:
            call = await line.exchange.dial(from_=OURS, to=THEIRS, headers={"X-Order": "7"})
            assert (call.direction, call.from_, call.to) == (Direction.OUTBOUND, OURS, THEIRS)
            far_end = await line.sandbox.far_end(call.id)
            await far_end.wait_for("streaming")
            assert {name.lower(): value for name, value in far_end.headers.items()}.get("x-order") == "7"
            await far_end.say(SAID)
            await until(lambda: SAID in far_end.heard)
            provider = await line.exchange.switchboard.provider("kit")
            await line.exchange.hang_up(call)
            await provider.hang_up(call.id)  # again, while it ends
            await line.exchange.hang_up(call)
            await far_end.wait_for("ended")
            ended = await line.over(call.id)
            await provider.hang_up(call.id)  # a call that is over is no error
            assert (ended.reason, ended.reference) == (EndReason.API_STOP, call.reference)
            self.keeps_good_facts(ended)

        self.on_the_line(act)

    def test_a_declared_capability_does_it_on_a_live_call(self, capability: Capability) -> None:
        if capability not in self.provider.capabilities:
            pytest.skip(f"capability {capability.name}: not declared")
        if capability is Capability.LISTEN:
            pytest.skip("capability LISTEN: every live call shows it")
        if capability in DONE:
            self.on_the_line(DONE[capability])
        else:
            self.playable()
            pytest.fail(f"{capability} is declared, and no check shows it: keep rest/{capability}.yaml")

    def test_a_wrong_secret_is_refused_and_shown_nowhere(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither in the error of a call nor in the log."""
        caplog.set_level(logging.DEBUG)

        async def act(line: Line) -> None:
            good = line.sandbox.credential()
            held = type(good).model_fields
            wrong = {name: SecretStr(SECRET) for name in held if isinstance(getattr(good, name), SecretStr)}
            line.exchange.switchboard.credentials.by_id["wrong"] = good.model_copy(update=wrong)  # type: ignore[attr-defined]
            await line.exchange.assign(ELSEWHERE, agent_id="kit", credential_id="wrong", configure=False)
            with contextlib.suppress(AnycarrierError):
                await line.exchange.start_listener("wrong")
            with pytest.raises(AuthenticationFailed) as refused:
                await line.exchange.dial(from_=ELSEWHERE, to=THEIRS)
            assert refused.value.provider == self.name and refused.value.next_step
            shown = f"{refused.value} {refused.value!r} {vars(refused.value)}"
            assert SECRET not in shown and THEIRS not in shown, "the error shows the secret, or a whole number"

        self.on_the_line(act)
        assert SECRET not in caplog.text, "a log line shows the secret"

    # --- helpers ----------------------------------------------------------------------------------------------------

    def playable(self) -> None:
        """Skip for a carrier whose calls its sandbox cannot show, or whose cassettes do."""
        if Capability.LISTEN not in self.provider.capabilities or self.kept("rest", "yaml"):
            pytest.skip("its REST is on cassettes")
        if not self.provider.sandbox:
            pytest.skip("capability LISTEN: this carrier ships no sandbox to make calls on")

    def on_the_line(self, act: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
        """Run ``act`` with a number of ours on the carrier's sandbox."""
        self.playable()

        async def run() -> None:
            async with self._line() as line:
                await act(line)

        asyncio.run(run())

    @contextlib.asynccontextmanager
    async def _line(self) -> AsyncIterator[Line]:
        async with serve_sandbox(sandbox_type(self.name)) as sandbox:
            sandbox.add_number(OURS)
            port = listening()
            exchange = Exchange(
                registry=MemoryNumberRegistry(),
                credentials={"kit": sandbox.credential()},
                public_url=url_of(port),
                secret="x" * 32,
                policy=Policy(allow=["US"]),
            )
            # Events come to the listener; the audio may come to our media socket all the same.
            sandbox.point_webhooks(exchange.switchboard.webhook_url(self.name, "kit"))
            line = Line(exchange, sandbox)
            exchange.switchboard.agents = line.talk
            async with serve(create_app(exchange), port):
                await exchange.assign(OURS, agent_id="kit", credential_id="kit")
                yield line


# --- what each capability does on a live call ------------------------------------------------------------------------


def _routed(line: Line, route: Route) -> None:
    async def router(*_: object) -> Route:
        return route

    line.exchange.switchboard.router = router


async def _reject(line: Line) -> None:
    _routed(line, Reject(EndReason.BUSY))
    far_end = await line.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    call = await line.over(far_end.call_id)
    assert (call.reason, call.answered_at) == (EndReason.BUSY, None)


async def _forward(line: Line) -> None:
    _routed(line, Forward(ELSEWHERE))
    far_end = await line.sandbox.ring(OURS, THEIRS)
    await until(lambda: far_end.transferred_to == ELSEWHERE)
    await far_end.hang_up()
    await line.over(far_end.call_id)


async def _transfer(line: Line) -> None:
    far_end = await line.rung()
    await line.exchange.transfer(far_end.call_id, ELSEWHERE)
    assert await line.exchange.wait_for_transfer(far_end.call_id, 20) is TransferStatus.ANSWERED
    assert far_end.transferred_to == ELSEWHERE
    await far_end.hang_up()
    assert (await line.over(far_end.call_id)).reason is EndReason.TRANSFERRED


async def _send_digits(line: Line) -> None:
    far_end = await line.rung()
    await line.exchange.send_digits(far_end.call_id, "12#")
    await until(lambda: "12#" in (far_end.digits, far_end.keys_heard()))


async def _fetch_call(line: Line) -> None:
    far_end = await line.rung()
    provider = await line.exchange.switchboard.provider("kit")
    call = await provider.fetch_call(far_end.call_id)
    assert (call.id, call.status) == (far_end.call_id, CallStatus.ANSWERED)
    await far_end.hang_up()
    await line.over(far_end.call_id)
    assert (await provider.fetch_call(far_end.call_id)).status is CallStatus.ENDED


async def _record(line: Line) -> None:
    far_end = await line.rung()
    provider = await line.exchange.switchboard.provider("kit")
    recording = await provider.start_recording(far_end.call_id)
    assert recording, "a listener has no webhook that could tell the recording's id later"
    await far_end.say(SAID)
    await until(lambda: SAID in far_end.heard)
    await provider.stop_recording(far_end.call_id, recording)
    audio = await provider.fetch_recording(recording)
    with wave.open(io.BytesIO(audio)) as file:
        assert file.getnframes() / file.getframerate() >= len(SAID) / 8000
    await far_end.hang_up()
    await line.over(far_end.call_id)


async def _list_numbers(line: Line) -> None:
    held = await line.exchange.list_numbers("kit")
    assert all(isinstance(number, OwnedNumber) for number in held)


async def _check_credential(line: Line) -> None:
    provider = await line.exchange.switchboard.provider("kit")
    assert await provider.check_credential()


DONE: Mapping[Capability, Callable[[Line], Coroutine[Any, Any, None]]] = {
    Capability.REJECT: _reject,
    Capability.FORWARD: _forward,
    Capability.TRANSFER: _transfer,
    Capability.SEND_DIGITS: _send_digits,
    Capability.FETCH_CALL: _fetch_call,
    **dict.fromkeys((Capability.START_RECORDING, Capability.STOP_RECORDING, Capability.FETCH_RECORDING), _record),
    Capability.LIST_NUMBERS: _list_numbers,
    Capability.CHECK_CREDENTIAL: _check_credential,
}
"""What a carrier without REST may declare."""
