"""Each verb of TwiML, on calls over a carrier's sandbox; what differs between carriers, over all of them."""

from __future__ import annotations

import asyncio
import random

import pytest
from starlette.responses import Response

from anycarrier import AudioFormat, Call, EndReason, Policy
from anycarrier.audio import pcmu_to_pcm16
from anycarrier.calls import TransferStatus
from anycarrier.errors import AnycarrierError, ConfigurationError
from anycarrier.speech import SpeechEngine
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from anycarrier.wav import wav_bytes
from anycarrier_twilio.carrier_side.twiml import Instructions
from anycarrier_twilio_front import TwilioFront
from contrib.twilio_front.fronted import ACCOUNT, CALLEE, DESK, OTHERS, open_fronted, stream, twiml
from fake_speech import SPEECH, FakeEngine
from sandbox_platform import Webhook

NUMBERS = {outcome: number for number, outcome in OUTCOMES.items()}
SPARE = "+14155550103"
EVERY_CARRIER = pytest.mark.parametrize("carrier", ["telnyx", "acme", "twilio"])


# --- Reject, Hangup, Redirect, Pause ----------------------------------------------------------------------------------


@EVERY_CARRIER
@pytest.mark.parametrize(("reason", "expected"), [("busy", EndReason.BUSY), ("rejected", EndReason.REJECTED)])
async def test_a_document_that_rejects_declines_the_call_before_it_is_answered(
    carrier: str, reason: str, expected: EndReason
) -> None:
    async with open_fronted(carrier) as house:
        house.bot.replies["/voice"] = twiml(f'<Reject reason="{reason}"/>')
        over = await house.over(await house.ring())
        assert over.reason is expected
        assert over.answered_at is None
        assert len(house.bot.told("/voice")) == 1


async def test_the_call_ends_where_the_document_does_and_a_reject_later_on_hangs_up() -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml('<Pause length="2"/>', "<Reject/>", "<Redirect>/never</Redirect>")
        clock = asyncio.get_running_loop().time
        began = clock()
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
        assert clock() - began >= 2
        house.bot.replies["/voice"] = twiml()
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
        assert not house.bot.told("/never")


async def test_a_redirect_goes_on_at_a_relative_url_and_cookies_are_the_calls_own() -> None:
    async with open_fronted("telnyx") as house:
        first = Response(twiml('<Redirect method="GET">../next?step=2&amp;of=3</Redirect>'), media_type="text/xml")
        first.set_cookie("session", "of this call")
        house.bot.replies["/deep/voice"] = first
        house.bot.replies["/voice"] = twiml('<Redirect>deep/voice</Redirect><Redirect>/never</Redirect>')
        house.bot.replies["/next"] = twiml("<Hangup/>")
        await house.over(await house.ring())
        [asked] = house.bot.told("/next")
        assert (asked.method, asked.genuine) == ("GET", True)
        assert (asked.params["step"], asked.params["of"], asked.params["CallStatus"]) == ("2", "3", "in-progress")
        assert asked.headers["cookie"] == 'session="of this call"'
        await house.over(await house.ring())
        assert "cookie" not in house.bot.told("/voice")[1].headers
        assert not house.bot.told("/never")


# --- Say, Play --------------------------------------------------------------------------------------------------------


async def test_what_is_said_is_heard_to_the_end_as_often_as_the_loop_says() -> None:
    engine = FakeEngine()
    async with open_fronted("telnyx", speech=engine) as house:
        house.bot.replies["/voice"] = twiml('<Say loop="2">One <emphasis>two</emphasis> three.</Say>', "<Hangup/>")
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        assert engine.spoken == ["One two three."] * 2
        assert engine.closed.count("voice") == 1
        word = round(0.06 * 8000)
        assert far_end.heard == (b"\x01" * word + b"\x02" * word + b"\x03" * word) * 2


async def test_a_voice_or_language_that_the_engine_lacks_becomes_its_default() -> None:
    class English(FakeEngine):
        def knows_language(self, ability: str, language: str) -> bool:
            return language.startswith("en")

    engine = English()
    engine.unknown = {"Google.en-US-Chirp3-HD-Aoede", "tlh"}
    async with open_fronted("telnyx", speech=engine) as house:
        house.bot.replies["/voice"] = twiml(
            '<Say voice="Google.en-US-Chirp3-HD-Aoede" language="tlh">Hello.</Say>', '<Say voice="alice">Bye.</Say>'
        )
        await house.over(await house.ring())
        assert engine.spoken == ["Hello.", "Bye."]
        assert [style.voice for style in engine.styles if style] == ["Google.en-US-Chirp3-HD-Aoede", "", "alice"]


async def test_a_voice_that_the_engine_says_it_lacks_is_not_asked_of_it() -> None:
    class Alice(FakeEngine):
        def knows_voice(self, voice: str) -> bool:
            return voice == "alice"

    engine = Alice()
    async with open_fronted("telnyx", speech=engine) as house:
        house.bot.replies["/voice"] = twiml('<Say voice="Polly.Joanna">Hello.</Say>', '<Say voice="alice">Bye.</Say>')
        await house.over(await house.ring())
        assert [style.voice for style in engine.styles if style] == ["", "alice"]


async def test_without_a_speech_engine_a_bot_that_says_is_declined_and_the_log_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml("<Gather><Say>Hello</Say></Gather>")
        over = await house.over(await house.ring())
        assert (over.reason, over.answered_at) == (EndReason.AGENT_ERROR, None)
        assert "12200: <Say> needs a speech engine: give TwilioFront(speech=...) one" in caplog.text


async def test_an_engine_that_cannot_speak_is_refused_when_the_front_is_made() -> None:
    class Listener(SpeechEngine):
        recognizer = FakeEngine.recognizer

    async with open_fronted("telnyx") as house:
        with pytest.raises(ConfigurationError, match="cannot speak"):
            TwilioFront(
                house.exchange, account_sid=ACCOUNT, auth_token="t", voice_url="https://bot.example/", agent_id="x",
                speech=Listener(),
            )  # fmt: skip


NOISE = random.Random(3).randbytes(8000)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (NOISE, "audio/basic"),
        (wav_bytes(pcmu_to_pcm16(NOISE), AudioFormat("PCM16", 8000)), "audio/wav"),
        (wav_bytes(b"".join(pcmu_to_pcm16(NOISE)[i : i + 2] * 2 for i in range(0, 16000, 2)),
                   AudioFormat("PCM16", 8000, 2)), "audio/x-wav"),
    ],
    ids=["mulaw", "wav", "stereo"],
)  # fmt: skip
async def test_a_file_is_fetched_and_played(body: bytes, kind: str) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml("<Play>/hello.wav</Play>", "<Hangup/>")
        house.bot.replies["/hello.wav"] = Response(body, media_type=kind)
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        assert far_end.heard.replace(b"\x7f", b"\xff") == NOISE.replace(b"\x7f", b"\xff")  # the two zeros of mu-law
        assert house.bot.told("/hello.wav")[0].method == "GET"


async def test_a_file_that_cannot_be_played_ends_the_call_with_twilios_code(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx", status_callback="{bot}/status") as house:
        house.bot.replies["/voice"] = twiml("<Play>/hello.mp3</Play>", "<Redirect>/never</Redirect>")
        house.bot.replies["/hello.mp3"] = Response(b"ID3 and so on", media_type="audio/mpeg")
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
        assert "12300: Invalid Content-Type: <Play> takes WAV and mu-law, not 'audio/mpeg'" in caplog.text
        [told] = await house.bot.wait_told("/status")
        assert (told.params["CallStatus"], told.params["ErrorCode"]) == ("completed", "12300")


@EVERY_CARRIER
async def test_digits_are_pressed(carrier: str) -> None:
    async with open_fronted(carrier) as house:
        house.bot.replies["/voice"] = twiml('<Play digits="42#"/>', '<Pause length="3"/>')
        far_end = await house.ring()
        await house.until(lambda: "42#" in far_end.digits + far_end.keys_heard())
        await far_end.hang_up()
        await house.over(far_end)


async def test_of_a_long_file_no_more_than_ten_seconds_are_sent_ahead() -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml("<Play>/long</Play>")
        house.bot.replies["/long"] = Response(NOISE * 60, media_type="audio/basic")
        far_end = await house.ring()
        await far_end.wait_heard(2)
        [session] = house.exchange.switchboard.sessions.values()
        assert 5 < session.ahead < 12
        await far_end.hang_up()
        await house.over(far_end)


async def test_documents_that_take_their_time_may_follow_each_other_for_ever() -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml('<Pause length="1"/>', "<Redirect>/voice</Redirect>")
        far_end = await house.ring()
        await house.bot.wait_told("/voice", 25)
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


async def test_a_gather_in_a_document_without_a_url_has_nowhere_to_go() -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml('<Pause length="100"/>')
        far_end = await house.ring()
        await house.until(lambda: bool(house.exchange.switchboard.sessions))
        gather = '<Gather timeout="1" actionOnEmptyResult="true"/>'
        house.front.calls[0].redirect(Instructions(twiml=twiml(gather)))
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP


# --- Gather -----------------------------------------------------------------------------------------------------------


@EVERY_CARRIER
async def test_keys_are_gathered_until_the_finish_key_and_posted_to_the_action(carrier: str) -> None:
    engine = FakeEngine()
    async with open_fronted(carrier, speech=engine) as house:
        house.bot.replies["/voice"] = twiml(
            '<Gather action="/keys"><Say>One two three four five six seven.</Say></Gather>',
            "<Redirect>/never</Redirect>",
        )
        house.bot.replies["/keys"] = twiml("<Hangup/>")
        far_end = await house.ring()
        await far_end.wait_heard(0.12)
        await far_end.press("#42#7")
        await house.over(far_end)
        [asked] = house.bot.told("/keys")
        assert (asked.genuine, asked.params["Digits"], asked.params["FinishedOnKey"]) == (True, "42", "#")
        assert far_end.heard_seconds() < 0.42, "the first key stops the prompt"
        assert not house.bot.told("/never")


@pytest.mark.parametrize(
    ("attributes", "keys", "digits"),
    [
        ('numDigits="2"', "4711", "47"),
        ('finishOnKey="*"', "4#*", "4#"),
        ('finishOnKey="" numDigits="3"', "1#*", "1#*"),
        ('timeout="2"', "12", "12"),
    ],
)
async def test_a_gather_is_complete_by_number_by_key_or_by_silence(attributes: str, keys: str, digits: str) -> None:
    async with open_fronted("telnyx") as house:

        async def answer(webhook: Webhook) -> str:
            return twiml("<Hangup/>") if "Digits" in webhook.params else twiml(f"<Gather {attributes}/>")

        house.bot.replies["/voice"] = answer
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.press(keys)
        await house.over(far_end)
        assert [asked.params.get("Digits") for asked in house.bot.told("/voice")] == [None, digits]


@EVERY_CARRIER
async def test_keys_pressed_as_soon_as_the_caller_is_connected_are_gathered(carrier: str) -> None:
    async with open_fronted(carrier) as house:
        house.bot.replies["/voice"] = twiml('<Redirect>/menu</Redirect>')
        house.bot.replies["/keys"] = twiml('<Gather action="/again" timeout="1"/>')
        pressed = asyncio.Event()

        async def menu(_: Webhook) -> str:
            await pressed.wait()
            return twiml('<Gather action="/keys" numDigits="3"/>')

        house.bot.replies["/menu"] = menu
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.press("47")
        pressed.set()
        await asyncio.sleep(0.5)
        await far_end.press("1")
        await house.over(far_end)
        assert house.bot.told("/keys")[0].params["Digits"] == "471"
        assert not house.bot.told("/again"), "they count once"


@pytest.mark.parametrize("before", ['<Pause length="2"/>', "<Say>one two three four five.</Say>"])
async def test_keys_pressed_over_a_verb_that_does_not_gather_go_nowhere(before: str) -> None:
    async with open_fronted("telnyx", speech=FakeEngine()) as house:
        house.bot.replies["/voice"] = twiml(before, '<Gather action="/keys" timeout="2"/>')
        house.bot.replies["/keys"] = twiml("<Hangup/>")
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.press("1")
        await house.over(far_end)
        assert not house.bot.told("/keys")


async def test_a_gather_without_input_goes_on_unless_it_wants_to_know() -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(
            '<Gather timeout="1" action="/first"/>',
            '<Gather timeout="1" action="/second" actionOnEmptyResult="true"/>',
        )
        house.bot.replies["/second"] = twiml("<Hangup/>")
        await house.over(await house.ring())
        assert not house.bot.told("/first")
        assert "Digits" not in house.bot.told("/second")[0].params


async def test_words_are_gathered_where_an_engine_listens_and_stop_the_prompt() -> None:
    engine = FakeEngine("a table for two")
    async with open_fronted("telnyx", speech=engine) as house:
        house.bot.replies["/voice"] = twiml(
            '<Gather input="dtmf speech" speechTimeout="auto" action="/words" hints="table, chair" language="en-GB">'
            f"<Say>{'word ' * 200}</Say></Gather>"
        )
        house.bot.replies["/words"] = twiml("<Hangup/>")
        far_end = await house.ring()
        await far_end.wait_heard(0.3)
        await far_end.say(SPEECH * 8000)
        await house.over(far_end)
        [asked] = house.bot.told("/words")
        assert asked.params["SpeechResult"] == "a table for two"
        assert float(asked.params["Confidence"]) == 1.0
        assert far_end.heard_seconds() < 5
        hearing = engine.hearings[0]
        assert hearing is not None
        assert (hearing.phrases, hearing.language) == (("table", "chair"), "en-GB")
        assert engine.closed.count("recognizer") == 1


# --- Dial -------------------------------------------------------------------------------------------------------------


@EVERY_CARRIER
@pytest.mark.parametrize("target", [f"<Number>{DESK}</Number>", DESK])
async def test_a_dial_hands_the_call_on_and_its_action_hears_of_the_end(carrier: str, target: str) -> None:
    async with open_fronted(carrier) as house:
        house.bot.replies["/voice"] = twiml(f'<Dial action="/dialled" timeout="20">{target}</Dial>')
        far_end = await house.ring()
        await house.until(lambda: far_end.transferred_to == DESK)
        call = await house.exchange.wait_until(
            far_end.call_id, lambda c: c.transfer is TransferStatus.ANSWERED, timeout=30
        )
        await asyncio.sleep(1)
        assert not (await house.exchange.switchboard.known(call.reference)).ended, "the two talk"
        await far_end.hang_up()
        over = await house.over(far_end)
        assert over.reason is EndReason.TRANSFERRED
        [asked] = await house.bot.wait_told("/dialled")
        assert asked.genuine
        assert (asked.params["DialCallStatus"], asked.params["DialBridged"]) == ("completed", "true")


async def test_how_long_a_dial_is_to_ring_is_not_the_bots_to_say_and_the_log_tells(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(f'<Dial timeout="20" timeLimit="600">{DESK}</Dial>')
        far_end = await house.ring()
        await house.until(lambda: far_end.transferred_to == DESK)
        await far_end.hang_up()
        await house.over(far_end)
    for name in ("timeout", "timeLimit"):
        assert f"12200: attribute '{name}' is not allowed on <Dial>: ignored" in caplog.text


async def test_a_sip_address_is_dialled_where_the_policy_lets_it() -> None:
    async with open_fronted("telnyx", policy=Policy(allow=["US", "sip:pbx.example.com"])) as house:
        house.bot.replies["/voice"] = twiml("<Dial><Sip>sip:desk@pbx.example.com</Sip></Dial>")
        far_end = await house.ring()
        await house.until(lambda: far_end.transferred_to == "sip:desk@pbx.example.com")
        await far_end.hang_up()
        await house.over(far_end)


@pytest.mark.parametrize(
    ("dial", "code"),
    [
        ('<Dial action="/dialled">+442071838750</Dial>', 13224),
        ('<Dial action="/dialled">+19005550100</Dial>', 13224),
        ('<Dial action="/dialled"><Sip>sip:a@elsewhere.example</Sip></Dial>', 13224),
        ('<Dial action="/dialled">not a number</Dial>', 13224),
        (f'<Dial action="/dialled" callerId="{DESK}">{CALLEE}</Dial>', 13214),
    ],
)
async def test_what_the_policy_refuses_is_not_dialled_and_the_bot_goes_on(
    dial: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(dial)
        house.bot.replies["/dialled"] = twiml(stream(house.bot.socket_url))
        far_end = await house.ring()
        await house.bot.socket()
        assert far_end.transferred_to is None
        assert house.bot.told("/dialled")[0].params["DialCallStatus"] == "failed"
        assert f"{code}: Dial: " in caplog.text
        await far_end.hang_up()
        await house.over(far_end)


@pytest.mark.parametrize(
    ("credential", "agent", "shown"),
    [("main", "twilio-bot", True), ("another tenant's", "twilio-bot", False), ("main", "another bot's", False)],
)
async def test_a_caller_id_is_a_line_of_the_same_agent_and_carrier_account(
    credential: str, agent: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fronted("telnyx") as house:
        line = (await house.exchange.switchboard.registry.lookup(OTHERS)).model_copy(
            update={"credential_id": credential, "agent_id": agent, "number": SPARE}
        )
        await house.exchange.switchboard.registry.assign(line)
        asked: list[object] = []

        async def transfer(call: Call, to: str, **options: object) -> None:
            asked.append(options["caller_id"])
            raise AnycarrierError("scripted")

        monkeypatch.setattr(house.exchange, "transfer", transfer)
        house.bot.replies["/voice"] = twiml(f'<Dial callerId="{SPARE}">{DESK}</Dial>', "<Hangup/>")
        await house.over(await house.ring())
        assert asked == ([SPARE] if shown else [])


async def test_a_dial_that_is_not_taken_tells_the_action_how_and_the_call_is_the_bots_again() -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(f'<Dial action="/dialled">{NUMBERS[Outcome.BUSY]}</Dial>')
        house.bot.replies["/dialled"] = twiml(stream(house.bot.socket_url))
        far_end = await house.ring()
        await house.bot.socket()
        assert house.bot.told("/dialled")[0].params["DialCallStatus"] == "busy"
        await far_end.hang_up()
        await house.over(far_end)
        await asyncio.sleep(1)
        assert len(house.bot.told("/dialled")) == 1, "not again at the end of the call"


# --- status callbacks -------------------------------------------------------------------------------------------------


@EVERY_CARRIER
async def test_an_outbound_calls_progress_is_told_in_order_and_signed(carrier: str) -> None:
    async with open_fronted(carrier, status_callback="{bot}/status") as house:
        house.bot.replies["/voice"] = twiml('<Pause length="1"/>')
        far_end = await house.dial()
        await house.over(far_end)
        told = await house.bot.wait_told("/status", 3, timeout=30)
        await house.bot.wait_told("/status", CallStatus="completed")
        told = house.bot.told("/status")
        words = [webhook.params["CallStatus"] for webhook in told]
        assert [word for word in words if word != "ringing"] == ["initiated", "in-progress", "completed"]
        assert [int(webhook.params["SequenceNumber"]) for webhook in told] == list(range(len(told)))
        assert all(webhook.genuine and webhook.params["Direction"] == "outbound-api" for webhook in told)
        assert int(told[-1].params["CallDuration"]) >= 1


@EVERY_CARRIER
async def test_an_inbound_call_tells_its_end_alone(carrier: str) -> None:
    async with open_fronted(carrier, status_callback="{bot}/status") as house:
        house.bot.replies["/voice"] = twiml('<Pause length="1"/>')
        await house.over(await house.ring())
        [told] = await house.bot.wait_told("/status")
        assert (told.params["CallStatus"], told.params["Direction"]) == ("completed", "inbound")


@pytest.mark.parametrize(
    ("outcome", "word"), [(Outcome.BUSY, "busy"), (Outcome.NO_ANSWER, "no-answer"), (Outcome.NOT_FOUND, "failed")]
)
async def test_a_call_that_nobody_takes_is_told_in_twilios_word(outcome: Outcome, word: str) -> None:
    async with open_fronted("telnyx", status_callback="{bot}/status") as house:
        await house.over(await house.dial(NUMBERS[outcome], timeout=5))
        [told] = await house.bot.wait_told("/status", CallStatus=word)
        assert "ErrorCode" not in told.params
        assert not house.bot.told("/voice")


async def test_a_status_callback_that_hangs_or_fails_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx", status_callback="{bot}/status") as house:
        held = asyncio.Event()

        async def hang(webhook: Webhook) -> Response:
            await held.wait()
            return Response(status_code=500)

        house.bot.replies["/status"] = hang
        house.bot.replies["/voice"] = twiml('<Pause length="1"/>')
        assert (await house.over(await house.dial())).reason is EndReason.AGENT_HANGUP
        assert len(house.bot.told("/status")) == 1, "the next one waits for it"
        held.set()
        await house.bot.wait_told("/status", CallStatus="completed")
        await house.until(lambda: "11200: HTTP retrieval failure: status 500" in caplog.text)
