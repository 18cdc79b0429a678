"""Bots that fail: the call ends or goes on, as with Twilio, and the log has the code and none of the bot's secrets."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable

import pytest
from starlette.responses import RedirectResponse, Response

from anycarrier import EndReason
from anycarrier.errors import ConfigurationError
from anycarrier_twilio_front.callbacks import BotError, Hosts, shown
from contrib.twilio_front.fronted import Fronted, open_fronted, stream, twiml
from sandbox_platform import Webhook

XML = "text/xml"


async def hang(webhook: Webhook) -> Response:
    await asyncio.sleep(3600)
    return Response()


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Response("boom", status_code=500), 11200),
        (Response("moved", status_code=404), 11200),
        (Response("<Response><Pause>", media_type=XML), 12100),
        (Response("", media_type=XML), 12100),
        (Response("<html/>", media_type=XML), 12100),
        (Response('<!DOCTYPE x [<!ENTITY a "a">]><Response>&a;</Response>', media_type=XML), 12100),
        (Response("<Response><Hangup/></Response>", media_type="application/json"), 12300),
        (Response("<Response>" + " " * 70_000 + "</Response>", media_type=XML), 11750),
        (Response(twiml("<Record/>"), media_type=XML), 12200),
        (Response(twiml("<Frobnicate/>"), media_type=XML), 12200),
        (Response(twiml("<Dial><Conference>room</Conference></Dial>"), media_type=XML), 12200),
        (Response(twiml("<Connect><VirtualAgent/></Connect>"), media_type=XML), 12200),
        (Response(twiml("<Pause length='soon'/>"), media_type=XML), 12200),
        (RedirectResponse("https://elsewhere.example/voice"), 11200),
        (RedirectResponse("/voice?again=1", status_code=307), 11200),
        (hang, 11205),
    ],
    ids=lambda reply: None if isinstance(reply, int) else getattr(reply, "body", b"hangs")[:24].decode() or "-",
)
async def test_a_call_whose_document_cannot_be_run_is_declined(
    reply: Response | Callable[[Webhook], object], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fronted("telnyx", voice_url="{bot}/voice?key=s3cret") as house:
        house.bot.replies["/voice"] = reply
        over = await house.over(await house.ring())
        assert (over.reason, over.answered_at) == (EndReason.AGENT_ERROR, None)
        assert f": {code}: " in caplog.text
        assert "s3cret" not in caplog.text
        assert all(asked.genuine for asked in house.bot.told("/voice"))


async def test_unknown_attributes_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = '<Response version="2"><Pause length="1" mood="calm"/></Response>'
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
        assert "12200: attribute 'mood' is not allowed on <Pause>: ignored" in caplog.text


@pytest.mark.parametrize("verb", ["Redirect", 'Connect action="/broken"'])
async def test_a_document_that_fails_later_ends_the_call_with_agent_error(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fronted("telnyx") as house:
        first = "<Redirect>/broken</Redirect>" if verb == "Redirect" else stream(house.bot.socket_url)
        house.bot.replies["/voice"] = twiml(first.replace("<Connect>", f"<{verb}>"))
        house.bot.replies["/broken"] = Response("no", status_code=503)
        far_end = await house.ring()
        if verb != "Redirect":
            await (await house.bot.socket()).connection.close()
        over = await house.over(far_end)
        assert over.reason is EndReason.AGENT_ERROR
        assert over.answered_at is not None
        assert "11200: HTTP retrieval failure: status 503" in caplog.text
        await quiet(house)


async def test_the_fallback_url_takes_over_and_is_told_why() -> None:
    async with open_fronted("telnyx", fallback_url="{bot}/fallback") as house:
        house.bot.replies["/voice"] = Response("no", status_code=500)
        house.bot.replies["/fallback"] = twiml('<Reject reason="busy"/>')
        assert (await house.over(await house.ring())).reason is EndReason.BUSY
        [asked] = house.bot.told("/fallback")
        assert asked.genuine
        assert (asked.params["ErrorCode"], asked.params["ErrorUrl"]) == ("11200", f"{house.bot.url}/voice")


@pytest.mark.parametrize(
    ("verbs", "code", "url"),
    [
        ("<Redirect>/broken?of=1</Redirect>", "11200", "/broken?of=1"),
        ("<Redirect>/unknown</Redirect>", "12200", "/unknown"),
        ("<Play>/broken</Play>", "11200", "/voice"),
        ('<Gather timeout="0" actionOnEmptyResult="true" action="/broken"/>', "11200", "/broken"),
        ('<Dial action="/broken">not a number</Dial>', "11200", "/broken"),
    ],
)
async def test_the_fallback_url_takes_over_also_in_the_middle_of_a_call(verbs: str, code: str, url: str) -> None:
    async with open_fronted("telnyx", fallback_url="{bot}/fallback", status_callback="{bot}/status") as house:
        house.bot.replies["/voice"] = twiml(verbs)
        house.bot.replies["/broken"] = Response("no", status_code=500)
        house.bot.replies["/unknown"] = twiml("<Frobnicate/>")
        house.bot.replies["/fallback"] = twiml('<Pause length="1"/>')
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
        [asked] = house.bot.told("/fallback")
        assert asked.genuine and asked.params["CallStatus"] == "in-progress"
        assert (asked.params["ErrorCode"], asked.params["ErrorUrl"]) == (code, f"{house.bot.url}{url}")
        [told] = await house.bot.wait_told("/status")
        assert "ErrorCode" not in told.params, "the call was saved"


async def test_a_fallback_that_fails_itself_ends_the_call(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx", fallback_url="{bot}/fallback", status_callback="{bot}/status") as house:
        house.bot.replies["/voice"] = twiml("<Redirect>/broken</Redirect>")
        house.bot.replies["/broken"] = Response("no", status_code=500)
        house.bot.replies["/fallback"] = Response("no", status_code=503)
        over = await house.over(await house.ring())
        assert over.reason is EndReason.AGENT_ERROR and over.answered_at is not None
        assert len(house.bot.told("/fallback")) == 1
        [told] = await house.bot.wait_told("/status")
        assert told.params["ErrorMessage"].startswith("HTTP retrieval failure: status 503")
    assert "11200: HTTP retrieval failure: status 500" in caplog.text


async def test_a_number_in_the_path_of_a_url_is_masked_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx", voice_url="{bot}/calls/%2B13105550130") as house:
        house.bot.replies["/calls/+13105550130"] = twiml("<Redirect>/to/13105550131/now</Redirect>")
        house.bot.replies["/to/13105550131/now"] = Response("no", status_code=500)
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
        house.bot.replies["/calls/+13105550130"] = Response("no", status_code=500)
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
        house.bot.replies["/calls/+13105550130"] = twiml("<Pause length='13105550132' of='13105550133'/>")
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
    assert "/to/13105…31/now" in caplog.text and "/calls/%2B13…30" in caplog.text and ": 12200: length=" in caplog.text
    assert "555013" not in caplog.text


async def test_an_endless_redirect_ends_the_call(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml("<Redirect/>".replace("/>", ">/voice</Redirect>"))
        over = await house.over(await house.ring())
        assert over.reason is EndReason.AGENT_ERROR
        assert len(house.bot.told("/voice")) < 30
        assert "11200: 20 documents one after the other" in caplog.text


async def test_an_http_redirect_is_followed_and_signed_anew() -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = RedirectResponse("/voice/", status_code=308)
        house.bot.replies["/voice/"] = twiml('<Reject reason="busy"/>')
        assert (await house.over(await house.ring())).reason is EndReason.BUSY
        [asked] = house.bot.told("/voice/")
        assert (asked.method, asked.genuine, asked.params["CallStatus"]) == ("POST", True, "ringing")


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_an_older_http_redirect_is_followed_by_a_get(status: int) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = RedirectResponse("/moved?to=here", status_code=status)
        house.bot.replies["/moved"] = twiml('<Reject reason="busy"/>')
        assert (await house.over(await house.ring())).reason is EndReason.BUSY
        [asked] = house.bot.told("/moved")
        assert (asked.method, asked.genuine, asked.params["CallStatus"]) == ("GET", True, "ringing")


async def test_a_proxy_of_the_machines_environment_gets_no_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_fronted("telnyx") as house:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        house.bot.replies["/voice"] = twiml('<Reject reason="busy"/>')
        assert (await house.over(await house.ring())).reason is EndReason.BUSY


async def test_a_password_in_the_voice_url_is_sent_as_basic_authentication_and_not_signed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_fronted("telnyx") as house:
        house.front.voice = type(house.front.voice)(house.front.voice.url.replace("http://", "http://ann:hunter2@"))
        house.bot.replies["/voice"] = Response("no", status_code=500)
        await house.over(await house.ring())
        [asked] = house.bot.told("/voice")
        assert asked.genuine
        assert asked.headers["authorization"] == "Basic YW5uOmh1bnRlcjI="
        assert "hunter2" not in caplog.text
        assert f"status 500: {house.bot.url}/voice" in caplog.text


# --- sockets ----------------------------------------------------------------------------------------------------------


async def test_a_socket_that_refuses_is_a_complaint_and_the_next_verb_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_fronted("telnyx") as house:
        status = f'statusCallback="{house.bot.url}/stream"'
        house.bot.replies["/voice"] = twiml(
            f'<Connect><Stream url="{house.bot.url.replace("http", "ws")}/nothing" {status}/></Connect>',
            '<Redirect method="GET">/next</Redirect>',
        )
        house.bot.replies["/next"] = twiml("<Hangup/>")
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
        assert house.bot.told("/next")
        assert "31920: Stream - WebSocket - Handshake Error" in caplog.text
        [told] = await house.bot.wait_told("/stream")
        assert (told.params["StreamEvent"], told.params["StreamError"][:6]) == ("stream-error", "31920:")


async def test_a_machine_that_refuses_the_connection_is_a_complaint_and_the_next_verb_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    async with open_fronted("telnyx", hosts=[nobody]) as house:
        house.bot.replies["/voice"] = twiml(stream(f"ws://{nobody}/media?key=s3cret"), "<Redirect>/next</Redirect>")
        house.bot.replies["/next"] = twiml("<Hangup/>")
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
        assert house.bot.told("/next")
    assert "31920: Stream - WebSocket - Handshake Error: ConnectionRefusedError: ws://" in caplog.text
    assert "s3cret" not in caplog.text and "Traceback" not in caplog.text


async def test_a_socket_that_hangs_is_given_up_and_a_caller_who_leaves_meanwhile_ends_the_call_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        async with open_fronted("telnyx", hosts=[address]) as house:
            house.bot.replies["/voice"] = twiml(stream(f"ws://{address}/media"))
            assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
            assert "31901: Stream - WebSocket - Connection Timeout" in caplog.text
            far_end = await house.ring()
            await far_end.wait_for("streaming")
            await far_end.hang_up()
            assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
            await quiet(house)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_socket_that_closes_at_once_ends_its_verb(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(stream(house.bot.socket_url))
        far_end = await house.ring()
        socket = await house.bot.socket()
        if how == "close":
            await socket.connection.close(1011)
        else:
            socket.connection.transport.abort()
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        told = "code 1011" if how == "close" else "the connection was lost"
        assert f"31921: Stream - WebSocket - Close Error: {told}" in caplog.text
        await quiet(house)


async def test_a_stream_to_a_host_that_nobody_named_is_not_opened(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(stream("ws://127.0.0.1:1/media?token=s3cret"))
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
        assert "31920: 127.0.0.1:1 is not one of the front's hosts" in caplog.text
        assert "s3cret" not in caplog.text


# --- hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://bot.example.com/any", True),
        ("wss://bot.example.com/media", True),
        ("https://BOT.example.com/any", True),
        ("https://bot.example.com:8443/any", True),
        ("https://media.example.com/file.wav", True),
        ("https://bot.example.com:9000/", False),
        ("https://media.example.com:8443/", False),
        ("https://evil.example/", False),
        ("https://bot.example.com.evil.example/", False),
        ("https://bot.example.com@evil.example/", False),
        ("http://bot.example.com/", False),
        ("ws://bot.example.com/", False),
        ("file:///etc/passwd", False),
        ("https://[::1", False),
        ("https://bot.example.com:99999/", False),
        ("/relative", False),
    ],
)
def test_only_named_hosts_are_asked(url: str, allowed: bool) -> None:
    hosts = Hosts("https://bot.example.com:8443/voice", ["media.example.com"])
    if allowed:
        hosts.check(url)
    else:
        with pytest.raises(BotError):
            hosts.check(url)


@pytest.mark.parametrize("voice_url", ["bot.example.com/voice", "ftp://bot.example.com/", "https:///voice"])
def test_a_voice_url_that_is_none_is_refused(voice_url: str) -> None:
    with pytest.raises(ConfigurationError, match="voice_url must be like"):
        Hosts(voice_url)


@pytest.mark.parametrize("host", ["https://x/", "x.example/media", "ann@x.example", ""])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"hosts are like bot\.example\.com"):
        Hosts("https://bot.example/", [host])


def test_what_a_log_shows_of_a_url_holds_no_secret() -> None:
    assert shown("https://ann:pw@bot.example.com:1/voice?key=1#rc=2") == "https://bot.example.com:1/voice"
    assert shown("https://[::1") == "a URL that cannot be read"


async def quiet(house: Fronted) -> None:
    """Nothing of the call is left."""
    await house.until(lambda: not house.exchange.switchboard.sessions)
    await house.until(lambda: not any("Program" in repr(t) or "BotStream" in repr(t) for t in asyncio.all_tasks()))
