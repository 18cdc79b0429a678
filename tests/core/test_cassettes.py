"""Cassettes: nothing of anybody's gets into one, each says where it is from, and one plays for any call of its kind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from vcr.errors import CannotOverwriteExistingCassetteException
from vcr.request import Request

from anycarrier import plugins
from anycarrier.credentials import Credential
from anycarrier.errors import UnknownProvider
from anycarrier.testing.cassettes import (
    Scrubber,
    find,
    findings,
    load_stream,
    load_webhook,
    provenance_of,
    scan,
    written,
)
from anycarrier.testing.live_server import serve
from anycarrier.testing.replay import differences, recorder

# Not in one piece: no test holds a number that somebody may answer.
DIGITS = "1415555" + "2671"
REAL = f"+{DIGITS}"
ANOTHER = REAL[:-1] + "2"
ABROAD = "+4420" + "79460000"


class Card(Credential):
    provider: str = "brook"
    key: SecretStr = SecretStr("s3cret-of-brook")

    @property
    def account(self) -> str:
        return "acct-77aa88"


@pytest.mark.parametrize(
    "text",
    [
        f"call {REAL} now",
        f"From=%2B{ABROAD[1:]}&To=x",
        f'"friendly_name": "(415) 555-{REAL[-4:]}"',
        "Authorization: Bearer abcdef0123456789",
        "KEY0123456789ABCDEF0123_x",
        "SK" + "0123456789abcdef" * 2,
        "AC" + "0123456789abcdef" * 2,
        '"auth_token": "0123456789abcdef0123"',
        "https://files.example.com/x.wav?token=0123456789abcdef",
        "https://files.example.com/x.wav?a=1&X-Amz-Signature=0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2ln",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_the_scan_finds_what_looks_real(text: str) -> None:
    found = findings(text)
    assert found
    assert text not in str(found)


@pytest.mark.parametrize(
    "text",
    [
        "+14155550123",
        "%2B15005550101",
        "(415) 555-0123",
        "AC" + "0" * 32,
        "2026-03-02T09:15:00Z",
        "1684641123236054244",
        '"api_key": null',
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_the_scan_lets_the_fictional_pass(text: str) -> None:
    assert findings(text) == []


def test_a_number_gets_the_same_stand_in_in_every_form_and_another_one_another() -> None:
    scrub = Scrubber()
    first = scrub.text(REAL)
    assert first.startswith("+1415555015")
    assert scrub.text(f"From=%2B{DIGITS}") == f"From=%2B{first[1:]}"
    assert scrub.text(f"(415) 555-{DIGITS[-4:]}") == f"({first[2:5]}) {first[5:8]}-{first[8:]}"
    assert scrub.text(f"sip:{DIGITS[1:]}@10.0.0.1") == f"sip:{first[2:]}@10.0.0.1"
    assert scrub.text(ANOTHER) != first
    assert scrub.text("+14155550123") == "+14155550123"


def test_secrets_and_accounts_are_cut_and_what_is_left_is_clean() -> None:
    scrub = Scrubber(Card(), {"http://127.0.0.1:8000": "https://api.brook.example"})
    text = scrub.text(
        "http://127.0.0.1:8000/acct-77aa88 key s3cret-of-brook "
        f'from {ABROAD} ?token=abcdef0123456 "to":"{REAL}"'
    )
    assert findings(text) == []
    for gone in ("s3cret", "77aa88", ABROAD[1:], "127.0.0.1", DIGITS, "abcdef0123456"):
        assert gone not in text


CALL = "https://api.x.example/v1/calls/CA0123456789abcdef"


def request(method: str = "POST", url: str = CALL, body: str = "") -> Request:
    return Request(method, url, body.encode(), {})


@pytest.mark.parametrize(
    ("live", "kept"),
    [
        (request(), request()),
        (request(url="http://127.0.0.1:80/sandbox/v1/calls/CA0123456789abcdef"), request()),
        (request(url="https://api.x.example/v1/calls/CAfedcba9876543210"), request()),
        (request(url="https://a.x/n?number=%2B14155550100"), request(url="https://a.x/n?number=%2B14155550177")),
        (request(body='{"to":"+14155550100","n":{"a":1}}'), request(body='{"n":{"a":2},"to":"x"}')),
        (request(body="To=1&From=2"), request(body="From=3&To=4")),
    ],
)
def test_ids_numbers_and_hosts_do_not_matter(live: Request, kept: Request) -> None:
    assert differences(live, kept) == []


@pytest.mark.parametrize(
    ("live", "kept", "difference"),
    [
        (request("GET"), request("POST"), "the method is GET, not POST"),
        (
            request(url="https://api.x.example/v1/calls/CA0123456789abcdef/hangup"),
            request(url="https://api.x.example/v1/calls/CA0123456789abcdef"),
            "the path is /v1/calls/CA0123456789abcdef/hangup, not /v1/calls/CA0123456789abcdef",
        ),
        (
            request(url="https://api.x.example/v2/numbers"),
            request(url="https://api.x.example/v2/calls"),
            "the path is /v2/numbers, not /v2/calls",
        ),
        (
            request(url="https://a.x/n?area=415"),
            request(url="https://a.x/n?area=212"),
            "the query has area=415, not 212",
        ),
        (
            request(url="https://a.x/n?area=415"),
            request(url="https://a.x/n"),
            "the query has area, which the cassette does not have",
        ),
        (
            request(body='{"to":"x"}'),
            request(body='{"to":"x","from":"y"}'),
            "the body lacks from, which the cassette has",
        ),
        (
            request(body='{"n":{"a":1}}'),
            request(body='{"n":{"b":1}}'),
            "the body has n.a, which the cassette does not have and lacks n.b, which the cassette has",
        ),
        (
            request(body="To=1"),
            request(body="To=1&Record=true"),
            "the body lacks Record, which the cassette has",
        ),
    ],
)
def test_operations_and_fields_do_matter_and_the_difference_is_named(
    live: Request, kept: Request, difference: str
) -> None:
    assert differences(live, kept) == [difference]


async def test_what_is_recorded_is_scrubbed_before_it_is_written_and_plays_again(tmp_path: Path) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request as Asked
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def answer(asked: Asked) -> Response:
        headers = {"x-signature": "sig-of-brook", "retry-after": "3", "set-cookie": "session=abc"}
        return JSONResponse({"number": REAL, "key": "s3cret-of-brook"}, headers=headers)

    path = tmp_path / "rest" / "dial.yaml"
    body = {"to": ABROAD}
    async with serve(Starlette(routes=[Route("/calls", answer, methods=["POST"])]), lifespan="off") as base:
        scrub = Scrubber(Card(), {base: "https://api.brook.example"})
        made = recorder("all", provenance="sandbox", source="this test", scrubber=scrub, only=(base, "https://api.brook"))
        with made.use_cassette(str(path)):
            async with httpx.AsyncClient(headers={"authorization": "Bearer s3cret-of-brook"}) as client:
                await client.post(f"{base}/calls", json=body)
    text = path.read_text()
    assert provenance_of(path) == ("sandbox", "this test")
    for gone in ("s3cret", "sig-of-brook", "session=", ABROAD[1:], DIGITS, "127.0.0.1", "uthorization"):
        assert gone not in text
    assert "retry-after" in text
    assert scan(tmp_path) == []
    with recorder().use_cassette(str(path)):
        async with httpx.AsyncClient() as client:
            replayed = await client.post("https://anywhere.example/calls", json={"to": "+14155550199"})
            assert replayed.json()["number"].startswith("+1415555015")
            with pytest.raises(CannotOverwriteExistingCassetteException):
                await client.post("https://anywhere.example/calls", json={"to": "x", "from": "y"})


def test_a_webhook_cassette_may_be_a_form_json_text_or_a_get(tmp_path: Path) -> None:
    path = tmp_path / "x.json"

    def load(**asked: object) -> tuple[str, bytes]:
        kept = {"request": {"method": "POST", "url": "https://v.example/x?ref=1", **asked}, "event": {"type": "X"}}
        path.write_text(json.dumps(kept))
        loaded = load_webhook(path).request
        return loaded.url, loaded.body

    assert load(form={"a": "1", "b": ""}) == ("https://v.example/x?ref=1", b"a=1&b=")
    assert load(json={"a": "é"}) == ("https://v.example/x?ref=1", b'{"a":"\\u00e9"}')
    assert load(body="raw") == ("https://v.example/x?ref=1", b"raw")
    assert load(method="GET", form={"a": "+1"}) == ("https://v.example/x?ref=1&a=%2B1", b"")


def test_a_stream_cassette_keeps_text_and_binary_frames_and_what_we_say(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [{"provenance": "documented", "source": "s"}, {"frame": "not json{", "events": []},
             {"frame": {"binary": "AP8="}, "events": []}, {"frame": {"a": 1}, "events": []},
             {"encode_mark": "m", "frames": [{"mark": "m"}]}]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    kept = load_stream(path)
    told = [(line.frame, line.say, line.argument) for line in kept.lines]
    assert told == [
        ("not json{", "", None), (b"\x00\xff", "", None), ('{"a":1}', "", None), ("", "encode_mark", "m")
    ]  # fmt: skip
    assert [written(line.frame) for line in kept.lines[:3]] == ["not json{", {"binary": "AP8="}, {"a": 1}]


PLUGIN = """
from anycarrier import hookspecs
from fake_carriers import InlineProvider

class Brook(InlineProvider):
    name = "brook"

@hookspecs.hookimpl
def anycarrier_providers():
    return [Brook]
"""


@pytest.fixture
def brook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cassette folder of an installed plugin."""
    package = tmp_path / "site" / "anycarrier_brook"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(import_module("anycarrier_brook"))
    yield package / "cassettes"
    plugins.reset()
    del sys.modules["anycarrier_brook"]


def test_a_plugin_ships_its_cassettes_in_its_package_and_those_beside_the_test_come_first(
    brook: Path, tmp_path: Path
) -> None:
    own = tmp_path / "cassettes/brook/rest/dial.yaml"
    for path in (brook / "rest/dial.yaml", own):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    assert find("brook/rest/dial", ".yaml", tmp_path / "elsewhere") == brook / "rest/dial.yaml"
    assert find("brook/rest/dial.yaml", ".yaml", tmp_path) == own


def test_an_absent_cassette_is_named_with_the_places_where_it_was_sought(brook: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no cassette brook/rest/dial\.yaml") as failure:
        find("brook/rest/dial", ".yaml", tmp_path)
    assert str(tmp_path / "cassettes/brook/rest/dial.yaml") in str(failure.value)
    assert str(brook / "rest/dial.yaml") in str(failure.value)
    with pytest.raises(UnknownProvider, match="nobody"):
        find("nobody/rest/nothing", ".yaml", tmp_path)


def test_the_plugin_itself_imports_nothing_of_anycarrier() -> None:
    code = "import sys, anycarrier.testing.plugin; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"vcr", "yaml", "starlette", "httpx", "anycarrier.exchange", "anycarrier.plugins"}
    assert {name for name in loaded if name.startswith("anycarrier.testing.")} == {"anycarrier.testing.plugin"}
