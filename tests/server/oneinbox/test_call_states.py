"""A call's status, whatever clients and callers do in whatever order: it only goes forward, and an end is the end."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from house import House, Receiver, open_house, webhook_receiver
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

FORWARD = {
    "queued": {"queued", "initiated", "in_progress", "completed", "failed"},
    "initiated": {"initiated", "in_progress", "completed", "failed"},
    "in_progress": {"in_progress", "completed"},
    "completed": {"completed"},
    "failed": {"failed"},
}
OVER = {"completed", "failed"}
AFTER_ANSWER = {"agent_hangup", "user_hangup", "api_stop", "end_call_phrase", "silence_timeout", "max_duration",
                "voicemail", "transferred"}  # fmt: skip
CALLEES = ("+12125550142", "+15005550101", "+15005550102", "+15005550103", "+15005550112", "+15005550114")
"""Answers; busy; rings on; declines; answers and hangs up; is no number."""


class Stage:
    """A house that runs beside the test, which is not asynchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.house: House = None  # type: ignore[assignment]
        self.receiver: Receiver = None  # type: ignore[assignment]
        self.provider = ""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def open(self, folder: Path, provider: str) -> None:
        self.closing, closed = asyncio.Event(), asyncio.Event()
        ready = asyncio.Event()

        async def live() -> None:
            async with webhook_receiver() as self.receiver, open_house(folder) as self.house:
                self.house.agent_id = await self.house.agent()
                await self.house.number(provider, self.house.agent_id)
                ready.set()
                await self.closing.wait()
            closed.set()

        self.living = asyncio.create_task(live())
        await asyncio.wait({asyncio.create_task(ready.wait()), self.living}, return_when=asyncio.FIRST_COMPLETED)
        if self.living.done():
            self.living.result()

    async def close(self) -> None:
        self.closing.set()
        await self.living

    def end(self) -> None:
        self.run(self.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def machine(stage: Stage) -> type[RuleBasedStateMachine]:
    house = stage.house

    class Calls(RuleBasedStateMachine):
        calls = Bundle("calls")

        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[str, dict[str, Any]] = {}

        def look(self, call: dict[str, Any]) -> None:
            """One more look at a call, against the last one."""
            before = self.seen.get(call["id"])
            if before is not None:
                assert call["status"] in FORWARD[before["status"]], (before["status"], call["status"])
                if before["status"] in OVER:
                    for name in ("status", "end_reason", "ended_at", "answered_at", "duration_seconds"):
                        assert call[name] == before[name], f"{name} of a call that is over has changed"
            if call["status"] in OVER:
                assert call["end_reason"] and call["ended_at"]
                assert (call["status"] == "completed") == (call["answered_at"] is not None)
                if call["status"] == "failed":
                    assert call["duration_seconds"] == 0 and call["end_reason"] not in AFTER_ANSWER
            else:
                assert (call["messages"], call["analysis"]) == ([], None)
                assert call["end_reason"] is None
            self.seen[call["id"]] = call

        def ask(self, method: str, path: str, *good: int, **request: Any) -> dict[str, Any]:
            response = stage.run(house.client.request(method, path, **request))
            assert response.status_code in good, f"{method} {path}: {response.status_code} {response.text}"
            found: dict[str, Any] = response.json()
            return found

        @rule(target=calls, to=st.sampled_from(CALLEES), later=st.booleans())
        def ring(self, to: str, later: bool) -> str:
            body = {"agent_id": house.agent_id, "from_number": "+14155550100", "to_number": to}
            body["webhook_url"] = stage.receiver.url + "/own"
            if later:
                body["scheduled_at"] = (datetime.now(UTC) + timedelta(days=30)).isoformat()
            call = self.ask("POST", "/v1/calls", 201, json=body)
            assert call["status"] == ("queued" if later else "initiated")
            self.look(call)
            return str(call["id"])

        @rule(call=calls)
        def stop(self, call: str) -> None:
            self.look(self.ask("POST", f"/v1/calls/{call}/stop", 200))

        @rule(call=calls)
        def press(self, call: str) -> None:
            answer = self.ask("POST", f"/v1/calls/{call}/dtmf", 200, 409, json={"digits": "1"})
            assert "id" in answer or answer["code"] == "call_not_active"

        @rule(call=calls)
        def callee_hangs_up(self, call: str) -> None:
            row = stage.run(house.service.store.calls.find(call))
            if row.carrier_id:
                stage.run(stage.run(house.far_end({"id": call})).hang_up())

        @rule(call=calls)
        def answered(self, call: str) -> None:
            """Wait a moment, so that calls are not all cut off before they begin."""
            if self.seen[call]["status"] == "initiated":
                stage.run(asyncio.sleep(0.1))

        @invariant()
        def every_call_goes_forward(self) -> None:
            for call in self.seen:
                self.look(self.ask("GET", f"/v1/calls/{call}", 200))

        def teardown(self) -> None:
            for call in self.seen:
                self.look(self.ask("POST", f"/v1/calls/{call}/stop", 200))
                self.look(stage.run(house.until(call, *OVER)))
            ours = set(self.seen)
            stage.run(stage.receiver.until(lambda: ours <= {body["call_id"] for body in self.ends()}))
            for call in ours:
                (end,) = [body for body in self.ends() if body["call_id"] == call]
                assert end["status"] == self.seen[call]["status"]
                assert end["end_reason"] == self.seen[call]["end_reason"]

        def ends(self) -> list[dict[str, Any]]:
            """What our receiver was told of ends."""
            return [body for _, body in stage.receiver.got if body["event"] in ("call.ended", "call.failed")]

    return Calls


def play(provider: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage()
        try:
            stage.run(stage.open(Path(folder), provider))
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                machine(stage),
                settings=settings(
                    max_examples=12,
                    stateful_step_count=12,
                    derandomize=True,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            stage.end()


def test_a_calls_status_only_goes_forward_when_answers_come_in_the_reply() -> None:
    play("twilio")


def test_a_calls_status_only_goes_forward_when_answers_come_by_request() -> None:
    play("telnyx")
