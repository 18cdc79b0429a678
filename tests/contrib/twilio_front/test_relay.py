"""ConversationRelay: one session with a bot of ours over fake speech, in virtual time."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection

from anycarrier import EndReason
from anycarrier_twilio.carrier_side.twiml import Instructions, Verb
from anycarrier_twilio_front import relay as relay_module
from anycarrier_twilio_front import relay_session as session_module
from anycarrier_twilio_front.callbacks import BotError, BotRequests, Hosts, Reply
from anycarrier_twilio_front.calls import FrontCall
from anycarrier_twilio_front.relay import RelayEnd
from anycarrier_twilio_front.relay_messages import read
from anycarrier_twilio_front.relay_session import RelaySession
from anycarrier_twilio_front.speech import Speech
from contrib.twilio_front.relay_bot import Talk, relay_bot
from fake_speech import WORD, FakeEngine, Line

SOUND = b"\x11" * 8000
ACCOUNT = f"AC{'0f' * 16}"


class Requests(BotRequests):
    """Finds every file but the missing ones."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def send(self, url: str, *args: Any, **more: Any) -> Reply:
        self.asked.append(url)
        if "hangs" in url:
            await asyncio.Event().wait()
        if "missing" in url:
            raise BotError(11200, "HTTP retrieval failure: status 404")
        return Reply(url, "audio/basic", SOUND)


class Session:
    """One call with the bot; a front that only a relay session can do with."""

    account_sid, auth_token = ACCOUNT, "token"

    def __init__(self, *words: str) -> None:
        self.engine = FakeEngine(*words)
        self.speech = Speech(self.engine)
        self.requests: BotRequests = Requests()
        self.complaints: list[BotError] = []

    def complain(self, call: FrontCall, problem: BotError) -> None:
        self.complaints.append(problem)

    async def run(
        self,
        talk: Callable[[Talk], Awaitable[None]],
        far_end: Callable[[Line], Awaitable[None]] | None = None,
        *,
        time_limit: float | None = None,
        **attributes: str,
    ) -> tuple[RelayEnd, Talk, Line]:
        line = Line()
        line.session.call = line.session.call.model_copy(update={"time_limit": time_limit})
        await line.session.stream.wait_started(30)
        german = Verb("Language", {"code": "de-DE", "voice": "anna"})
        nouns = (Verb("Parameter", {"name": "case", "value": "7"}), german)
        async with relay_bot(talk) as bot:
            self.hosts = Hosts(bot.url.replace("ws", "http", 1))
            call = FrontCall(ACCOUNT, line.session.call, Instructions())
            noun = Verb("ConversationRelay", {"url": bot.url, **attributes}, "", nouns)
            self.relay = RelaySession(self, call, line.session, noun, "https://bot.example.com/sounds/")
            relaying = asyncio.ensure_future(self.relay.converse(self.speech.engines, line.session))
            ringing = asyncio.ensure_future((far_end or breathe)(line))
            try:
                async with asyncio.timeout(1000):
                    end = await relaying
            finally:
                ringing.cancel()
                await asyncio.gather(ringing, return_exceptions=True)
            await bot.talks[0].closed.wait()
            self.bot = bot
        assert not line.session.ended or end.status == "completed", "the call goes on"
        await line.aclose()
        return end, bot.talks[0], line


async def breathe(line: Line) -> None:
    await line.breathe(100)


async def test_a_session_from_setup_to_the_hand_over_and_the_call_goes_on() -> None:
    async def talk(talk: Talk) -> None:
        await talk.wait_for("setup")
        prompt = await talk.wait_for("prompt")
        await talk.say(f"You said {prompt['voicePrompt']}.")
        await talk.send("end", handoffData='{"reason":"human"}')

    async def caller(line: Line) -> None:
        await line.breathe(0.5)
        await line.utter()
        await line.breathe(60)

    session = Session("one two")
    end, heard, line = await session.run(talk, caller, welcomeGreeting="Hello there.")
    setup, prompt = heard.received
    assert setup == {
        "type": "setup", "sessionId": session.relay.id, "accountSid": ACCOUNT, "parentCallSid": "",
        "callSid": f"CA{1:032x}",
        "from": "+12125550123", "to": "+14155550101", "forwardedFrom": "", "callType": "PSTN", "callerName": "",
        "direction": "inbound", "callStatus": "IN-PROGRESS", "customParameters": {"case": "7"},
    }  # fmt: skip
    assert re.fullmatch("VX[0-9a-f]{32}", session.relay.id)
    signature = RequestValidator("token").compute_signature(session.bot.url, {})
    assert heard.headers["X-Twilio-Signature"] == signature, "over the URL as the document has it"
    assert prompt == {"type": "prompt", "voicePrompt": "one two", "lang": "en-US", "last": True}
    assert session.engine.spoken == ["Hello there.", "You said one two."]
    assert len(line.heard()) == round(6 * WORD * 8000), "all that was said before the end was heard"
    assert (end.status, end.handoff_data, end.error) == ("ended", '{"reason":"human"}', None)
    form = session.relay.form(end)
    assert form == {
        "SessionId": session.relay.id, "SessionStatus": "ended", "HandoffData": '{"reason":"human"}',
        "SessionDuration": form["SessionDuration"],
    }  # fmt: skip
    assert 0 <= int(form["SessionDuration"]) < 600
    assert line.hang_ups == [] and session.bot.close_code == 1000


async def test_an_interruption_tells_the_words_that_were_heard_and_how_long_they_took() -> None:
    async def talk(talk: Talk) -> None:
        for sentence in ("one two three four five.", " six seven eight nine ten eleven twelve thirteen fourteen."):
            await talk.send("text", token=sentence, last=False)
        await talk.wait_for("interrupt")
        await talk.send("text", token="these words are late ", last=False)
        await talk.wait_for("prompt")
        await talk.say("fine.")
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.until(lambda: len(line.heard()) > 0)
        await line.say(0.6)
        await line.breathe(60)

    session = Session("stop it")
    end, bot, line = await session.run(talk, caller)
    interrupt, prompt = bot.received[1:]
    words = interrupt["utteranceUntilInterrupt"].split()
    assert words and words == "one two three four five. six seven eight nine ten".split()[: len(words)]
    assert abs(interrupt["durationUntilInterruptMs"] - len(words) * WORD * 1000) <= WORD * 1000
    assert isinstance(interrupt["durationUntilInterruptMs"], int)
    assert (prompt["type"], prompt["voicePrompt"]) == ("prompt", "stop it"), "the interruption is told first"
    assert len(line.frames("clear")) == 1 and session.engine.spoken[-1] == "fine."
    assert "these words are late" not in " ".join(session.engine.spoken)
    assert end.status == "ended" and end.handoff_data is None and "HandoffData" not in end.fields()


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [({"interruptible": "none"}, {}), ({}, {"interruptible": False}), ({"interruptible": "dtmf"}, {})],
)
async def test_what_may_not_be_interrupted_by_speech_is_said_to_the_end_and_the_speech_is_not_reported(
    attributes: dict[str, str], fields: dict[str, Any]
) -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve thirteen fourteen.", **fields)
        await talk.wait_for("prompt")
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.until(lambda: len(line.heard()) > 0)
        await line.utter(0.2)  # while the bot speaks
        await line.breathe(0.5)
        await line.utter()
        await line.breathe(60)

    end, bot, line = await Session("not now", "now").run(talk, caller, partialPrompts="true", **attributes)
    assert bot.of("interrupt") == [] and {p["voicePrompt"] for p in bot.of("prompt")} == {"now"}
    assert line.frames("clear") == [] and end.status == "ended"


async def test_speech_over_the_bot_is_reported_where_that_is_asked_for() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve thirteen fourteen.")
        await talk.wait_for("prompt")
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.until(lambda: len(line.heard()) > 0)
        await line.utter(0.2)
        await line.breathe(60)

    attributes = {"interruptible": "none", "reportInputDuringAgentSpeech": "speech"}
    _, bot, _ = await Session("right now").run(talk, caller, **attributes)
    assert [p["voicePrompt"] for p in bot.of("prompt")] == ["right now"] and bot.of("interrupt") == []


async def test_keys_are_told_only_with_dtmf_detection_and_interrupt_what_they_may() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve thirteen fourteen.")
        await talk.wait_for("dtmf", 2)
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.until(lambda: len(line.heard()) > 0)
        await line.breathe(0.3)
        line.press("5")
        await line.breathe(0.1)
        line.press("#")
        await line.breathe(60)

    _, bot, line = await Session().run(talk, caller, dtmfDetection="true", interruptible="dtmf")
    assert [m["type"] for m in bot.received] == ["setup", "interrupt", "dtmf", "dtmf"]
    assert [m["digit"] for m in bot.of("dtmf")] == ["5", "#"] and len(line.frames("clear")) == 1
    assert bot.of("interrupt")[0]["utteranceUntilInterrupt"].startswith("one two three")

    async def silent(talk: Talk) -> None:
        await asyncio.sleep(2)
        await talk.send("end")

    _, bot, _ = await Session().run(silent, caller_presses)
    assert [m["type"] for m in bot.received] == ["setup"]


async def caller_presses(line: Line) -> None:
    await line.breathe(0.5)
    line.press("5")
    await line.breathe(60)


async def test_what_began_over_such_speech_is_not_reported_though_it_ends_later() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five.", interruptible=False)
        await talk.wait_for("prompt")
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.until(lambda: len(line.heard()) > 0)
        await line.breathe(0.1)
        await line.utter()
        await line.breathe(0.5)
        await line.utter()
        await line.breathe(60)

    _, bot, _ = await Session("not now", "now").run(talk, caller)
    assert [p["voicePrompt"] for p in bot.of("prompt")] == ["now"]


async def test_an_interrupt_tells_of_what_was_cut_alone_and_a_new_cycle_may_follow_at_once() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("heard before.")
        await asyncio.sleep(1)
        await talk.say("one two three four five six seven eight nine ten eleven twelve thirteen fourteen.")
        await talk.wait_for("interrupt")
        await talk.say("sorry.")
        await talk.wait_for("prompt")
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.breathe(1.2)
        await line.say(0.5)
        await line.breathe(60)

    session = Session("stop it")
    _, bot, _ = await session.run(talk, caller)
    assert bot.of("interrupt")[0]["utteranceUntilInterrupt"].startswith("one two")
    assert "sorry." in session.engine.spoken


async def test_keys_over_speech_that_they_may_not_interrupt_are_told_only_where_that_is_asked_for() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve.")
        await asyncio.sleep(2)
        await talk.send("end")

    for reported, told in (("none", []), ("dtmf", ["5"])):
        attributes = {"dtmfDetection": "true", "interruptible": "speech", "reportInputDuringAgentSpeech": reported}
        _, bot, line = await Session().run(talk, caller_presses, **attributes)
        assert [m["digit"] for m in bot.of("dtmf")] == told and line.frames("clear") == []


async def test_partial_prompts_come_only_when_asked_for_and_are_not_the_last() -> None:
    async def talk(talk: Talk) -> None:
        while not any(prompt["last"] for prompt in talk.of("prompt")):
            await talk.wait_for("prompt", len(talk.of("prompt")) + 1)
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.utter()
        await line.breathe(60)

    _, bot, _ = await Session("one two").run(talk, caller, partialPrompts="true")
    assert [(p["voicePrompt"], p["last"]) for p in bot.of("prompt")] == [("one", False), ("one two", True)]
    _, bot, _ = await Session("one two").run(talk, caller)
    assert [(p["voicePrompt"], p["last"]) for p in bot.of("prompt")] == [("one two", True)]


async def test_a_talk_cycle_that_is_preemptible_gives_way_to_the_next() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve.", preemptible=True)
        await asyncio.sleep(0.3)
        await talk.say("that was wrong.")
        await talk.say("but this is queued.")
        await talk.send("end")

    session = Session()
    _, _, line = await session.run(talk)
    assert session.engine.spoken[-2:] == ["that was wrong.", "but this is queued."]
    assert len(line.frames("clear")) == 1, "what was at the carrier is not heard"


async def test_what_has_begun_to_be_sent_behind_something_else_is_said_though_it_is_preemptible() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten.")
        await talk.say(" ".join(["and", "so", "on"] * 200), preemptible=True)
        await asyncio.sleep(0.3)
        await talk.say("at last.")
        await talk.send("end")

    _, bot, line = await Session().run(talk)
    assert line.frames("clear") == [] and len(line.heard()) == round(612 * WORD * 8000)


async def test_all_that_was_said_is_heard_before_the_end() -> None:
    words = [f"word{number}" for number in range(600)]

    async def talk(talk: Talk) -> None:
        await talk.say(" ".join(words))
        await talk.send("end")

    end, _, line = await Session().run(talk)
    assert end.status == "ended" and len(line.heard()) == round(600 * WORD * 8000)


async def test_sounds_are_played_in_their_place_and_as_often_as_asked() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("before.")
        await talk.send("play", source="https://bot.example.com/beep.wav", loop=2)
        await talk.send("play", source="missing.wav")
        await talk.say("after.")
        await talk.send("sendDigits", digits="9ww42#")
        await talk.send("end")

    session = Session()
    _, bot, line = await session.run(talk)
    assert line.heard() == b"\x01" * round(WORD * 8000) + SOUND * 2 + b"\x01" * round(WORD * 8000)
    assert isinstance(session.requests, Requests)
    assert session.requests.asked == [
        "https://bot.example.com/beep.wav", "https://bot.example.com/sounds/missing.wav",
    ]  # fmt: skip
    assert [error["description"] for error in bot.of("error")] == [
        "missing.wav cannot be played: 11200: HTTP retrieval failure: status 404"
    ]
    assert line.asked == [("digits", "9ww42#")]


async def test_a_sound_without_end_is_played_for_the_longest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(talk: Talk) -> None:
        await talk.send("play", source="beep.wav", loop=0)
        await talk.send("end")

    monkeypatch.setattr(relay_module, "LONGEST_PLAY", 1)
    _, _, line = await Session().run(talk)
    assert line.heard() == SOUND * (8000 // len(SOUND))


async def test_languages_change_for_both_sides_or_for_one_talk_cycle() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("guten Tag.", lang="de-DE")
        await talk.say("hello.")
        await talk.send("language", ttsLanguage="es-ES", transcriptionLanguage="es-MX")
        await talk.say("hola.")
        prompt = await talk.wait_for("prompt")
        assert prompt["lang"] == "es-MX"
        await talk.send("language", transcriptionLanguage="tlh")
        await talk.wait_for("error")
        await talk.send("end")

    async def caller(line: Line) -> None:
        await line.breathe(2)
        await line.utter()
        await line.breathe(60)

    session = Session("si")
    session.engine.foreign.add("tlh")
    end, bot, _ = await session.run(talk, caller, voice="Google.en-US-Chirp3-HD-Aoede", ttsProvider="Google")
    styles = [(style.language, style.voice) for style in session.engine.styles if style]
    usual = "Google.en-US-Chirp3-HD-Aoede"
    assert styles == [("en-US", usual), ("de-DE", "anna"), ("es-ES", usual)]
    assert [h.language for h in session.engine.hearings if h][:2] == ["en-US", "es-MX"]
    assert end.status == "ended" and "tlh" in bot.of("error")[0]["description"]


async def test_a_voice_and_a_language_that_nobody_has_never_fail_a_session() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("hello.")
        await talk.send("end")

    session = Session()
    session.engine.unknown.add("en-US-Journey-O")
    end, bot, line = await session.run(talk, voice="en-US-Journey-O", hints="Paris, London", speechModel="nova-3")
    assert end.status == "ended" and session.engine.spoken == ["hello."] and line.heard()
    assert session.engine.hearings[0] is not None and session.engine.hearings[0].phrases == ("Paris", "London")


async def test_a_language_that_nobody_understands_is_replaced_by_twilios_default() -> None:
    class English(FakeEngine):
        def knows_language(self, ability: str, language: str) -> bool:
            return language.startswith("en")

    async def talk(talk: Talk) -> None:
        await talk.say("hello.")
        await talk.send("end")

    session = Session()
    session.engine = English()
    session.speech = Speech(session.engine)
    end, bot, _ = await session.run(talk, language="tlh")
    assert end.status == "ended" and session.engine.spoken == ["hello."]
    assert [h.language for h in session.engine.hearings if h] == ["en-US"]


NONSENSE = [
    "{",
    "[]",
    '{"foo": "bar"}',
    '{"type": "shout", "token": "x"}',
    '{"type": "text"}',
    '{"type": "text", "token": 7}',
    '{"type": "play"}',
    '{"type": "sendDigits", "digits": 5}',
]


async def test_nonsense_is_answered_with_errors_and_the_session_goes_on() -> None:
    async def talk(talk: Talk) -> None:
        for frame in NONSENSE:
            await talk.connection.send(frame)
        await talk.connection.send(b"\xff\xfe")
        await talk.wait_for("error", len(NONSENSE) + 1)
        await talk.send("text", token="still here.", last="true")
        await talk.send("end", handoffData={"a": 1})

    session = Session()
    end, bot, _ = await session.run(talk)
    errors = [error["description"] for error in bot.of("error")]
    assert len(errors) == len(NONSENSE) + 1 and all(e.startswith("Invalid message received: ") for e in errors)
    assert '{"foo": "bar"}' in errors[2]
    assert session.engine.spoken == ["still here."] and end.handoff_data == '{"a": 1}'


async def test_a_bot_that_sends_nothing_but_nonsense_is_disconnected() -> None:
    async def talk(talk: Talk) -> None:
        for _ in range(101):
            await talk.connection.send("?")

    end, _, _ = await Session().run(talk)
    assert (end.status, end.error and end.error.code) == ("failed", 64107)


async def test_a_bot_that_does_not_read_its_socket_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    open_socket = session_module.open_socket

    async def to_a_bot_that_does_not_read(url: str, auth_token: str) -> ClientConnection:
        async def send(message: str) -> None:
            await asyncio.Event().wait()

        socket = await open_socket(url, auth_token)
        monkeypatch.setattr(socket, "send", send)
        return socket

    async def talk(talk: Talk) -> None:
        await talk.closed.wait()

    monkeypatch.setattr(session_module, "open_socket", to_a_bot_that_does_not_read)
    session = Session()
    end, _, line = await session.run(talk)
    assert (end.status, end.error and end.error.code) == ("failed", 64105) and line.hang_ups == []
    assert "does not read" in str(end.error) and session.relay.form(end)["SessionDuration"] == "10"


async def test_a_bot_that_is_gone_ends_its_session_and_what_it_said_is_cut() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve thirteen fourteen.")
        await asyncio.sleep(0.2)
        await talk.connection.close()

    end, _, line = await Session().run(talk)
    assert (end.status, end.fields()["ErrorCode"]) == ("failed", "64105") and line.hang_ups == []
    assert line.frames("clear")


async def test_a_bot_that_cannot_be_reached_or_may_not_be_ends_the_session_and_nothing_else() -> None:
    async def talk(talk: Talk) -> None:
        await talk.send("end")

    session = Session()
    await session.run(talk)  # the port is nobody's afterwards
    line = Line()
    await line.session.stream.wait_started(30)
    call = FrontCall(ACCOUNT, line.session.call, Instructions())
    for url in (session.bot.url, "wss://elsewhere.example.com/relay", "https://bot.example.com/", ""):
        noun = Verb("ConversationRelay", {"url": url})
        relay = RelaySession(session, call, line.session, noun, "https://bot.example.com/voice")
        end = await relay.converse(session.speech.engines, line.session)
        assert (end.status, end.error and end.error.code) == ("failed", 64102)
    assert len(session.complaints) == 4 and not line.session.ended and line.hang_ups == []
    async with relay_bot(talk) as bot:  # alive, and on no host of the front's
        session.hosts = Hosts("http://bot.example.com")
        noun = Verb("ConversationRelay", {"url": bot.url})
        end = await RelaySession(session, call, line.session, noun, "").converse(session.speech.engines, line.session)
        assert end.status == "failed" and bot.talks == []
    await line.aclose()


async def test_a_caller_who_hangs_up_completes_the_session() -> None:
    async def talk(talk: Talk) -> None:
        await talk.say("one two three four five six seven eight nine ten eleven twelve thirteen fourteen.")
        await talk.closed.wait()

    async def caller(line: Line) -> None:
        await line.breathe(0.4)
        line.end()

    session = Session()
    end, _, _ = await session.run(talk, caller)
    assert end.status == "completed" and end.error is None and session.bot.close_code == 1000


@pytest.mark.parametrize("limit", [None, 700.0, 20.0])
async def test_a_session_lasts_as_long_as_its_call_may(limit: float | None) -> None:
    async def talk(talk: Talk) -> None:
        await asyncio.sleep(650)
        await talk.send("end")

    async def silent(line: Line) -> None:
        await asyncio.sleep(900)

    session = Session()
    end, _, line = await session.run(talk, silent, time_limit=limit)
    if limit == 20:
        assert (end.status, line.hang_ups) == ("completed", [EndReason.MAX_DURATION])
        assert session.relay.form(end)["SessionDuration"] == "20"
    else:
        assert (end.status, line.hang_ups) == ("ended", [])
        assert session.relay.form(end)["SessionDuration"] == "650"


async def test_a_bot_does_not_have_files_without_number_fetched_at_once_nor_from_a_url_that_is_none() -> None:
    async def talk(talk: Talk) -> None:
        await talk.send("play", source="http://[::1")
        assert "11100: Invalid URL format" in (await talk.wait_for("error"))["description"]
        for _ in range(30):
            await talk.send("play", source="hangs.wav")
        await talk.wait_for("error", 11)
        await talk.connection.close()

    session = Session()
    assert isinstance(session.requests, Requests)
    _, bot, _ = await session.run(talk)
    assert session.requests.asked == ["https://bot.example.com/sounds/hangs.wav"] * 20
    assert all("too much waits" in error["description"] for error in bot.of("error")[1:])


async def test_too_much_text_is_refused_aloud() -> None:
    async def talk(talk: Talk) -> None:
        for _ in range(40):
            await talk.send("text", token="word " * 1000, last=False)
        await talk.wait_for("error")
        await talk.connection.close()

    _, bot, _ = await Session().run(talk)
    assert "Too much text" in bot.of("error")[0]["description"]


def test_messages_are_read_as_bots_write_them() -> None:
    said = read(json.dumps({"type": "text", "token": "a", "last": "true", "lang": None, "more": 1}))
    assert (said.token, said.last) == ("a", True)  # type: ignore[union-attr]
