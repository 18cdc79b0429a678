"""Where each item is cut: never beyond its audio, and where the ear was."""

from __future__ import annotations

import asyncio
import base64
import random
from typing import Any, cast

import pytest
from agents.realtime.openai_realtime import OpenAIRealtimeWebSocketModel

from anycarrier import PCMU_8K, MediaSession
from anycarrier.agent import SpokenItems, Truncation
from anycarrier.position import PlaybackPosition
from anycarrier_openai_realtime import HeardTracker
from anycarrier_openai_realtime.realtime_call import RealtimeCall

INTERLEAVINGS = 10_000


class Line:
    """As much of a session as a position needs; its time is moved by hand. Keeps what the ear has got of each item."""

    format = PCMU_8K
    ended = False

    def __init__(self) -> None:
        self.now = 0.0
        self.position = PlaybackPosition(carrier_marks=False)
        self.item = ""
        self.queue: list[tuple[str, int]] = []
        self.ear: dict[str, float] = {}

    @property
    def heard(self) -> float:
        return self.position.heard(self.now)

    @property
    def queued(self) -> float:
        return self.position.queued

    def clear_now(self) -> None:
        self.position.clear(self.now)
        self.queue.clear()

    async def flush(self) -> None: ...

    async def send_base64(self, text: str) -> None:
        size = len(base64.b64decode(text))
        self.position.queue(size / 8000, self.now)
        self.queue.append((self.item, size))

    def play(self, size: int) -> None:
        """Let time pass in which ``size`` bytes are played, or silence."""
        self.now += size / 8000
        while size and self.queue:
            item, waiting = self.queue.pop(0)
            played = min(size, waiting)
            self.ear[item] = self.ear.get(item, 0) + played / 8
            size -= played
            if waiting > played:
                self.queue.insert(0, (item, waiting - played))


class Talk:
    """A call under the model's events; every truncation is judged as the API would, and by the ear."""

    def __init__(self) -> None:
        self.line = Line()
        self.truncations: list[Truncation] = []
        self.length: dict[str, int] = {}
        self.call = RealtimeCall(cast(MediaSession, self.line), self.send, cast(Any, None), 0.04)
        sent = self.call.items.sent

        def sending(item: str, *rest: Any) -> None:  # so that the line knows whose each piece is
            self.line.item = item
            sent(item, *rest)

        self.call.items.sent = sending  # type: ignore[method-assign]

    async def send(self, sent: Any) -> None:
        event = dict(sent)
        assert event.pop("type") == "conversation.item.truncate"
        cut = Truncation(**event)
        assert 0 <= cut.audio_end_ms <= self.length[cut.item_id] / 8, "already shorter than"
        self.truncations.append(cut)

    async def delta(self, item: str, size: int, response: str) -> None:
        self.length[item] = self.length.get(item, 0) + size
        audio = base64.b64encode(bytes(size)).decode()
        await self.event("response.output_audio.delta", item, response_id=response, delta=audio)

    async def event(self, kind: str, item: str = "", **fields: Any) -> None:
        await self.call.act_on({"type": kind, "item_id": item, "content_index": 0, **fields})

    async def send_waiting(self) -> None:
        while not self.call.waiting.empty():
            await self.call.speak(self.call.waiting.get_nowait())


async def wander(dice: random.Random, talk: Talk) -> None:
    """Deltas of any size, items, responses done, pauses, late deltas, interruptions, and clears by somebody else."""
    items, responses = 1, 1
    await talk.event("response.created", response={"id": "resp_1"})
    for _ in range(dice.randint(5, 25)):
        step = dice.random()
        item = f"resp_{responses}/{items}"
        if step < 0.45:
            await talk.delta(item, dice.choice([1, 100, 160, 333, 800, 4001]), f"resp_{responses}")
        elif step < 0.55:
            await talk.event("response.output_audio.done", item)
            items += 1
        elif step < 0.62:
            await talk.event("response.done")
            responses += 1
            items += 1
            await talk.event("response.created", response={"id": f"resp_{responses}"})
        elif step < 0.82:
            if dice.random() < 0.8:
                await talk.send_waiting()
            talk.line.play(dice.choice([0, 1, 90, 160, 1234, 9000]))
        elif step < 0.94:
            await talk.event("input_audio_buffer.speech_started")
            for cut in talk.truncations[-items:]:
                assert cut.audio_end_ms <= talk.line.ear.get(cut.item_id, 0) + 1e-6
            if dice.random() < 0.5:
                await talk.delta(item, 160, f"resp_{responses}")  # it was on its way
        else:
            talk.line.clear_now()


async def test_no_item_is_cut_beyond_its_audio_nor_beyond_the_ear() -> None:
    cuts = 0
    for seed in range(INTERLEAVINGS):
        talk = Talk()
        await wander(random.Random(seed), talk)
        per_item = [cut.item_id for cut in talk.truncations]
        assert len(per_item) == len(set(per_item)), f"{seed}: an item was cut twice"
        cuts += len(per_item)
    assert cuts > INTERLEAVINGS / 2


def test_what_the_sdk_reads_from_the_tracker_is_never_beyond_the_item() -> None:
    """As the SDK rounds it (openai_realtime.py: ``int(round(elapsed_ms))``), with a loop that is not ours."""
    asked = 0
    for seed in range(INTERLEAVINGS):
        dice, line, length = random.Random(seed), Line(), dict[str, int]()
        tracker = HeardTracker(cast(MediaSession, line))
        item = 0
        for _ in range(dice.randint(5, 25)):
            step, name = dice.random(), f"item_{item}"
            if step < 0.5:
                size = dice.choice([1, 100, 160, 333, 4001])
                length[name] = length.get(name, 0) + size
                tracker.sent(name, 0, line.queued, size / 8000)
                line.position.queue(size / 8000, line.now)
            elif step < 0.6:
                tracker.finished(name, 0)
                item += 1
            elif step < 0.8:
                line.play(dice.choice([1, 90, 1234, 9000]))
            elif step < 0.95:
                state = tracker.get_state()
                if (named := state["current_item_id"]) is not None:
                    asked += 1
                    assert 0 <= round(state["elapsed_ms"] or 0) <= length[named] / 8
                tracker.on_interrupted()
                line.clear_now()
            else:
                line.clear_now()
    assert asked > INTERLEAVINGS / 2


def test_deltas_of_an_item_are_one_span() -> None:
    items = SpokenItems()
    for n in range(20):
        items.sent("a", 0, 5.0 + n * 0.1, 0.1)
    assert items.audible(5.0 + 1.6) == Truncation("a", 0, 1600)


def test_the_audible_item_is_cut_at_heard_and_later_ones_at_0() -> None:
    items = SpokenItems()
    for n, name in enumerate("abcd"):
        items.sent(name, 0, n * 1.0, 1.0)
        items.finished(name, 0)
    assert items.cut(1.25) == [Truncation("b", 0, 250), Truncation("c", 0, 0), Truncation("d", 0, 0)]
    assert items.cut(1.25) == []


def test_an_item_that_was_heard_whole_is_left_alone_once_it_is_finished() -> None:
    items = SpokenItems()
    items.sent("a", 0, 0.0, 0.1)
    assert items.audible(3.0) == Truncation("a", 0, 100), "more of it may come"
    items.finished("a", 0)
    assert items.audible(3.0) is None


def test_half_a_millisecond_is_not_rounded_up() -> None:
    items = SpokenItems()
    items.sent("a", 0, 0.0, 100 / 8000)
    assert items.audible(0.0125) == Truncation("a", 0, 12)


def test_a_clear_by_somebody_else_ends_what_was_not_heard() -> None:
    items = SpokenItems()
    items.sent("a", 0, 0.0, 3.0)
    items.finished("a", 0)
    items.sent("b", 0, 1.0, 1.0)  # cleared at 1.0
    assert items.cut(1.5) == [Truncation("b", 0, 500)]


async def test_items_that_wait_are_cut_at_0_and_late_ones_too() -> None:
    talk = Talk()
    await talk.event("response.created", response={"id": "r"})
    await talk.delta("a", 8000, "r")
    await talk.send_waiting()
    talk.line.play(1600)
    await talk.delta("a", 8000, "r")
    await talk.delta("b", 8000, "r")
    await talk.event("input_audio_buffer.speech_started")
    await talk.delta("a", 80, "r")
    await talk.delta("c", 80, "r")
    await talk.delta("c", 80, "r")
    assert talk.truncations == [Truncation("a", 0, 200), Truncation("b", 0, 0), Truncation("c", 0, 0)]
    await talk.send_waiting()
    assert talk.line.queue == []


async def test_the_next_response_is_spoken_again() -> None:
    talk = Talk()
    await talk.event("response.created", response={"id": "r"})
    await talk.event("input_audio_buffer.speech_started")
    await talk.event("response.done")
    await talk.event("response.created", response={"id": "s"})
    await talk.delta("a", 80, "s")
    assert talk.call.waiting.qsize() == 1


@pytest.mark.parametrize("name", ["response.output_audio", "response.audio"])
async def test_events_of_the_present_api_and_of_its_beta(name: str) -> None:
    talk = Talk()
    talk.length["a"] = 160
    await talk.event(f"{name}.delta", "a", response_id="r", delta=base64.b64encode(bytes(160)).decode())
    await talk.event(f"{name}.done", "a", response_id="r")
    await talk.send_waiting()
    talk.line.play(160)
    assert talk.line.position.queued == 0.02 and not talk.call.items.audible(talk.line.heard)


def test_the_sdk_still_emits_what_we_listen_to() -> None:
    """Each server event reaches the listeners before the SDK acts on it."""
    from agents.realtime.model_events import RealtimeModelRawServerEvent

    seen: list[Any] = []

    class Listener:
        async def on_event(self, event: Any) -> None:
            seen.append(event)

    async def hear() -> None:
        model = OpenAIRealtimeWebSocketModel()
        model.add_listener(cast(Any, Listener()))
        await model._handle_ws_event({"type": "input_audio_buffer.speech_stopped", "event_id": "e", "item_id": "i",
                                      "audio_end_ms": 1})  # fmt: skip

    asyncio.run(hear())
    assert isinstance(seen[0], RealtimeModelRawServerEvent)


async def test_the_carrier_is_told_before_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the transport does not push, a task sends the clear; the SDK takes milliseconds to send one event."""
    talk, told = Talk(), list[str]()

    def clear_now() -> None:
        asyncio.get_running_loop().call_soon(told.append, "carrier")  # as a task begins

    async def send(event: Any) -> None:
        told.append("model")

    await talk.delta("a", 8000, "resp_1")
    await talk.send_waiting()
    monkeypatch.setattr(talk.line, "clear_now", clear_now)
    monkeypatch.setattr(talk.call, "_send", send)
    await talk.event("input_audio_buffer.speech_started")
    assert told == ["carrier", "model"]
