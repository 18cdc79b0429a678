"""The carrier-neutral half of the sandboxes: far ends, voices, webhooks on their way, inventory, magic numbers."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from anycarrier.testing.far_end import CallRecorder, FarEnd
from anycarrier.testing.far_end_audio import SILENCE, Microphone, beep, fax, greeting, key_tone, keys_heard, tone
from anycarrier.testing.sandbox import Delivery, WebhookSender, may_stream_to
from anycarrier.testing.sandbox_numbers import GONE_NUMBER, Login, NumberInventory, Outcome, login_of, outcome_of


async def _nothing(*_: Any) -> None:
    return None


def telephone(**options: Any) -> FarEnd:
    return FarEnd("c1", "+12125550123", "+14155550100", press=_nothing, hang_up=_nothing, **options)


async def test_a_voice_speaks_every_20_ms_by_absolute_deadlines() -> None:
    voice = Microphone()
    clock = asyncio.get_running_loop().time
    times: list[float] = []
    speaking = asyncio.create_task(voice.speak(lambda frame: times.append(clock())))
    await voice.say(b"\x01" * 160 * 20)
    speaking.cancel()
    # 20 frames span 19 intervals: never faster than real time, and lateness of one does not delay the rest.
    assert len(times) >= 20 and times[19] - times[0] >= 19 * 0.02 - 0.015


async def test_between_speech_a_voice_sends_silence_or_nothing_when_asked_to() -> None:
    for silent in (False, True):
        voice, frames = Microphone(silent=silent), list[bytes]()
        speaking = asyncio.create_task(voice.speak(frames.append))
        await voice.say(b"\x01" * 100)
        await voice.say(b"\x02" * 160)
        speaking.cancel()
        spoken = [frame for frame in frames if frame != SILENCE]
        assert spoken == [b"\x01" * 100 + b"\xff" * 60, b"\x02" * 160]
        assert not silent or frames == spoken


async def test_what_is_said_in_turn_waits_until_the_greeting_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FarEnd.wait_greeted, "__defaults__", (5.0, 0.1))
    far_end = telephone()
    spoken: list[tuple[float, bytes]] = []  # how much had been heard when it was said, and what
    far_end.microphone.taps.append(lambda _, frame: spoken.append((far_end.heard_seconds(), frame[:1])))
    for what in (b"\x01", b"\x02"):
        saying = asyncio.create_task(far_end.say_in_turn(what * 160))
        await asyncio.sleep(0)
    far_end.answered()
    far_end.stream_opened()
    speaking = asyncio.create_task(far_end.microphone.speak(lambda frame: None))
    for _ in range(2):  # two sentences, with less than the end of a greeting between them
        far_end.playback.play(b"\x20" * 800)
        await far_end.playback.drained()
        await asyncio.sleep(0.03)
    await saying
    first = next(said for said in spoken if said[1] == b"\x01")
    assert first[0] == pytest.approx(0.2)
    assert [what for _, what in spoken if what != b"\xff"] == [b"\x01", b"\x02"], "in turn"
    speaking.cancel()


async def test_an_agent_that_does_not_greet_is_spoken_to_after_a_while_and_one_that_hung_up_is_not() -> None:
    far_end = telephone()
    far_end.answered()
    far_end.stream_opened()
    await asyncio.wait_for(far_end.wait_greeted(patience=0.1, quiet=0.05), 5)
    await asyncio.wait_for(far_end.wait_greeted(patience=60), 5)
    gone = telephone()
    saying = asyncio.create_task(gone.say_in_turn(b"\x01" * 160))
    await asyncio.sleep(0)
    gone.ended("normal")
    await asyncio.wait_for(saying, 5)
    assert not gone.microphone.said


async def test_what_is_said_before_the_stream_is_open_waits_for_it() -> None:
    far_end = telephone()
    saying = asyncio.create_task(far_end.say(b"\x01" * 160))
    await asyncio.sleep(0.05)
    assert not saying.done()
    frames: list[bytes] = []
    speaking = asyncio.create_task(far_end.microphone.speak(frames.append))
    await saying
    speaking.cancel()
    assert b"\x01" * 160 in frames


async def test_speech_is_released_when_the_call_ends_and_refused_after() -> None:
    far_end = telephone()
    saying = asyncio.create_task(far_end.say(b"\x01" * 160))
    await asyncio.sleep(0)
    far_end.ended("busy")
    await asyncio.wait_for(saying, 1)
    with pytest.raises(RuntimeError):
        await far_end.say(b"\x01")


async def test_waiting_for_a_state_that_cannot_come_any_more_says_why() -> None:
    far_end = telephone()
    waiting = asyncio.create_task(far_end.wait_for("answered"))
    await asyncio.sleep(0)
    far_end.ended("busy")
    with pytest.raises(RuntimeError, match="busy"):
        await waiting
    await far_end.wait_for("ended")
    with pytest.raises(ValueError, match="sleeping"):
        await far_end.wait_for("sleeping")


async def test_waiting_for_a_state_that_does_not_come_times_out() -> None:
    with pytest.raises(TimeoutError):
        await telephone().wait_for("answered", timeout=0.02)


async def test_a_recording_lays_both_sides_on_one_time_line() -> None:
    far_end = telephone()
    recorder = CallRecorder(far_end)
    speaking = asyncio.create_task(far_end.microphone.speak(lambda frame: None))
    far_end.playback.play(tone(0.1, 500))
    await far_end.say(tone(0.1, 1000))
    await far_end.wait_heard(0.1)
    await far_end.say(SILENCE * 2)  # the last frame has begun when say returns; let it sound to its end
    recorder.stop()
    speaking.cancel()
    with wave.open(io.BytesIO(recorder.wav())) as file:
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
        assert abs(file.getnframes() / 8000 - recorder.seconds) < 0.001
    for side in (samples[0::2], samples[1::2]):
        loud = [index for index, sample in enumerate(side) if abs(sample) > 100]
        assert 790 <= loud[-1] - loud[0] <= 800, "each side sounds for a tenth of a second"
    with wave.open(io.BytesIO(recorder.wav(1))) as file:
        assert file.getnchannels() == 1


def starter() -> tuple[set[asyncio.Task[None]], Any]:
    tasks: set[asyncio.Task[None]] = set()

    def start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        tasks.add(task)
        return task

    return tasks, start


async def delivered(quirks: set[str], count: int, reply: Any = None) -> list[str]:
    seen: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.content.decode())
        await asyncio.sleep(0.01 if len(seen) == 1 else 0)  # the first is the slowest: order must not come from luck
        return reply or httpx.Response(204)

    tasks, start = starter()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        sender = WebhookSender(http, start, quirks)
        for number in range(count):
            sender.notify(Delivery("status", "c1", "POST", "https://us.example/hook", {}, str(number).encode()))
        while tasks:
            await asyncio.gather(*[tasks.pop() for _ in range(len(tasks))])
    return seen


async def test_notifications_of_one_call_leave_in_order() -> None:
    assert await delivered(set(), 4) == ["0", "1", "2", "3"]


async def test_quirks_double_and_reorder_and_lose_none() -> None:
    assert await delivered({"duplicate"}, 2) == ["0", "0", "1", "1"]
    assert await delivered({"reorder"}, 4) == ["1", "0", "3", "2"]
    assert await delivered({"reorder"}, 3) == ["1", "0", "2"], "the last one has nothing to overtake it"


async def test_a_webhook_nobody_answers_is_logged_with_its_failure() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    _, start = starter()
    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http:
        sender = WebhookSender(http, start, set())
        delivery = await sender.post(Delivery("voice", "c1", "POST", "https://us.example/hook"))
    assert delivery.status is None and delivery.failure == "ConnectError: no" and sender.log == [delivery]


def test_the_stock_sells_a_number_once_and_takes_it_back() -> None:
    inventory = NumberInventory()
    number = "+14155550107"
    assert inventory.sell(number) and not inventory.sell(number)
    assert number not in [offer.number for offer in inventory.search(area_code="415")]
    inventory.take_back(number)
    assert inventory.sell(number)
    assert inventory.find(GONE_NUMBER) is not None and not inventory.sell(GONE_NUMBER)


def test_the_stock_holds_fictional_numbers_only() -> None:
    inventory = NumberInventory()
    offers = [*inventory.search(), *inventory.search(country="CA"), *inventory.search(type="toll_free")]
    assert len(offers) > 500
    assert all(len(offer.number) == 12 and offer.number[5:10] == "55501" for offer in offers)


def test_letters_and_stars_search_like_a_keypad() -> None:
    inventory = NumberInventory()
    assert {offer.number[2:5] for offer in inventory.search(contains="415*****42")} == {"415"}
    assert all("0142" in offer.number for offer in inventory.search(contains="01GA"))
    assert inventory.search(contains="999999") == []


def test_magic_numbers_and_secrets() -> None:
    assert outcome_of("+15005550101") is Outcome.BUSY and outcome_of("+14155550199") is Outcome.ANSWERS
    assert login_of("a wrong one") is Login.WRONG and login_of("s3cret") is Login.GOOD and login_of("") is Login.WRONG
    assert login_of("broke") is Login.BROKE


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("wss://voice.example.com/media/x", True),
        ("ws://127.0.0.1:8000/media/x", True),
        ("ws://localhost/x", True),
        ("ws://voice.example.com/x", False),
        ("https://voice.example.com/x", False),
        ("wss:///x", False),
        ("ws://127.0.0.1.example.com/x", False),
    ],
)
def test_streams_go_unencrypted_on_this_machine_only(url: str, allowed: bool) -> None:
    assert may_stream_to(url) is allowed


def test_keys_are_heard_in_tones_and_not_in_other_sounds() -> None:
    pressed = "1234567890*#ABCD"
    assert keys_heard(b"".join(key_tone(digit) + tone(0.06) for digit in pressed)) == pressed
    assert keys_heard(key_tone("5") + tone(0.06) + key_tone("5", 0.3)) == "55"
    assert keys_heard(b"\xff" * 30 + key_tone("7", 0.08)) == "7", "tones need not begin with a window"
    assert keys_heard(greeting() + beep() + fax() + SILENCE) == ""
