"""The Twilio sandbox's REST face: every answer held against the vendor's OpenAPI document."""

from __future__ import annotations

import io
import wave
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from anycarrier.testing.live_server import serve_sandbox
from anycarrier_twilio.sandbox import OPERATIONS, TwilioSandbox
from openapi import Spec

OURS = "+14155550100"
THEIRS = "+12125550123"
HOLD = "<Response><Pause length='30'/></Response>"


class Api:
    """Requests to a sandbox that check their answers: against the document, and key for key."""

    def __init__(self, sandbox: TwilioSandbox, spec: Spec) -> None:
        self.sandbox = sandbox
        self.spec = spec
        self.root = f"/2010-04-01/Accounts/{sandbox.account.sid}"
        login = (sandbox.account.sid, sandbox.account.token)
        self.http = httpx.AsyncClient(base_url=sandbox.base_url, auth=login, trust_env=False)

    async def __call__(self, method: str, path: str, status: int, params: Any = None, **form: Any) -> Any:
        response = await self.http.request(method, self.root + path, params=params, data=form or None)
        assert response.status_code == status, response.text
        body = response.json() if response.content else None
        bare = (self.root + path).partition("?")[0]
        if status >= 400:
            assert set(body) <= {"code", "message", "more_info", "status", "detail"} and body["status"] == status
            return body
        assert self.spec.response_problems(method, bare, status, body) == []
        if body is not None:
            template = self.spec.find(method, bare)
            assert template is not None
            documented = self._keys(method, template[0], status)
            assert set(body) == set(documented), "keys that the document has not, or lacks"
            for name, items in body.items():
                if isinstance(items, list) and items:
                    of_items = self._schema(documented[name])["items"]
                    assert set(items[0]) == set(self._schema(of_items)["properties"])
        return body

    def _keys(self, method: str, template: str, status: int) -> dict[str, Any]:
        answer = self.spec.document["paths"][template][method.lower()]["responses"][str(status)]
        found: dict[str, Any] = self._schema(answer["content"]["application/json"]["schema"])["properties"]
        return found

    def _schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            node: Any = self.spec.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                node = node[part]
            schema = node
        return schema

    async def dial(self, to: str = THEIRS, **form: Any) -> Any:
        return await self("POST", "/Calls.json", 201, To=to, From=OURS, **{"Twiml": HOLD, **form})


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    spec = Spec.load("twilio_api_v2010.trimmed.json")
    async with serve_sandbox(TwilioSandbox) as sandbox:
        sandbox.add_number(OURS)
        api = Api(sandbox, spec)
        async with api.http:
            yield api


async def test_the_account_can_be_read_and_nobody_elses(api: Api) -> None:
    account = await api("GET", ".json", 200)
    assert account["sid"] == api.sandbox.account.sid and account["status"] == "active"
    api.root = "/2010-04-01/Accounts/AC" + "0" * 32
    assert (await api("GET", ".json", 404))["code"] == 20404


async def test_search_honours_the_filters(api: Api) -> None:
    found = await api("GET", "/AvailablePhoneNumbers/US/Local.json?AreaCode=415&VoiceEnabled=true&PageSize=5", 200)
    numbers = [offer["phone_number"] for offer in found["available_phone_numbers"]]
    assert len(numbers) == 5 and all(number.startswith("+14155550") for number in numbers)
    assert OURS not in numbers, "a number somebody owns is not on offer"
    assert set(found["available_phone_numbers"][0]["capabilities"]) == {"voice", "SMS", "MMS", "fax"}

    async def some(query: str) -> list[Any]:
        page = await api("GET", f"/AvailablePhoneNumbers/{query}", 200)
        offers: list[Any] = page["available_phone_numbers"]
        return offers

    assert {offer["region"] for offer in await some("US/Local.json?InRegion=NY")} == {"NY"}
    assert {offer["locality"] for offer in await some("CA/Local.json?InLocality=Toronto")} == {"Toronto"}
    assert all("5550142" in offer["phone_number"] for offer in await some("US/Local.json?Contains=5550142"))
    assert all(o["phone_number"].startswith("+1800555") for o in await some("US/TollFree.json?AreaCode=800"))
    assert await some("US/Local.json?FaxEnabled=true") == []


async def test_a_kind_of_number_that_a_country_has_not_is_not_found(api: Api) -> None:
    for kind in ("US/Mobile", "CA/National", "GB/Local"):
        assert (await api("GET", f"/AvailablePhoneNumbers/{kind}.json", 404))["code"] == 20404


def test_every_documented_operation_and_filter_is_played_or_named() -> None:
    sid = "AC" + "0" * 32
    for path, item in Spec.load("twilio_api_v2010.trimmed.json").document["paths"].items():
        here = path.replace("{AccountSid}", sid).replace("{Sid}", sid).replace("Numbers/AC", "Numbers/PN")
        for method in item.keys() & {"get", "post", "delete"}:
            found = [one for one in OPERATIONS if one.method == method.upper() and one.match(here) is not None]
            assert found, f"{method} {path}"
            asked = item.get("parameters", []) + item[method].get("parameters", [])
            query = {one["name"] for one in asked if one["in"] == "query"}
            takes = found[0].takes
            assert takes is None or query <= set(takes), f"{path}: {query - set(takes or ())}"


async def test_what_is_not_played_is_named(api: Api) -> None:
    for path in ("/Balance", "/OutgoingCallerIds", "/Conferences", "/Applications", "/AvailablePhoneNumbers"):
        refused = await api("GET", f"{path}.json", 404)
        assert refused["code"] == 20404 and "is not simulated by this sandbox" in refused["message"], path
    for query in ("/Recordings.json?IncludeSoftDeleted=true", "/AvailablePhoneNumbers/US/Local.json?NearNumber=1"):
        assert "is not simulated by this sandbox" in (await api("GET", query, 400))["message"]
    assert "not simulated" not in (await api("GET", "/Ballance.json", 404))["message"]


async def test_numbers_are_bought_and_listed_by_their_kind(api: Api) -> None:
    offer = (await api("GET", "/AvailablePhoneNumbers/US/Local.json?PageSize=1", 200))["available_phone_numbers"][0]
    number = offer["phone_number"]
    assert (await api("POST", "/IncomingPhoneNumbers/TollFree.json", 400, PhoneNumber=number))["code"] == 21422
    bought = await api("POST", "/IncomingPhoneNumbers/Local.json", 201, PhoneNumber=number)
    assert bought["phone_number"] == number
    for kind, held in (("Local", True), ("TollFree", False), ("Mobile", False)):
        rows = (await api("GET", f"/IncomingPhoneNumbers/{kind}.json", 200))["incoming_phone_numbers"]
        assert (number in [row["phone_number"] for row in rows]) is held
    assert (await api("POST", "/IncomingPhoneNumbers/National.json", 404, PhoneNumber=number))["code"] == 20404


async def test_recordings_are_listed_by_day(api: Api) -> None:
    call = await api("POST", "/Calls.json", 201, To=THEIRS, From=OURS, Twiml=HOLD)
    await (await api.sandbox.far_end(call["sid"])).wait_for("answered")
    made = await api("POST", f"/Calls/{call['sid']}/Recordings.json", 201)
    for path in ("/Recordings.json", f"/Calls/{call['sid']}/Recordings.json"):
        for day, found in (("DateCreated>=2020-01-01", True), ("DateCreated<=2020-01-01", False)):
            rows = (await api("GET", f"{path}?{day.replace('>', '%3E').replace('<', '%3C')}", 200))["recordings"]
            assert [row["sid"] for row in rows] == ([made["sid"]] if found else [])


async def test_lists_are_paged_by_links(api: Api) -> None:
    first = await api("GET", "/AvailablePhoneNumbers/US/Local.json?AreaCode=415&PageSize=60", 200)
    assert (first["start"], first["end"], first["page"], first["previous_page_uri"]) == (0, 59, 0, None)
    link = first["next_page_uri"].removeprefix(api.root)
    second = await api("GET", link, 200)
    assert (second["start"], second["page"], second["next_page_uri"]) == (60, 1, None)
    both = [offer["phone_number"] for page in (first, second) for offer in page["available_phone_numbers"]]
    assert len(set(both)) == len(both) == 99  # all of the area's hundred but the one we own


async def test_a_number_is_bought_configured_found_and_released(api: Api) -> None:
    bought = await api("POST", "/IncomingPhoneNumbers.json", 201, PhoneNumber="+12125550107")
    assert set(bought["capabilities"]) == {"voice", "sms", "mms", "fax"}
    path = f"/IncomingPhoneNumbers/{bought['sid']}.json"
    url = "https://voice.example.com/twilio/main"
    await api("POST", path, 200, VoiceUrl=url, VoiceMethod="POST", VoiceApplicationSid="", TrunkSid="")
    found = await api("GET", "/IncomingPhoneNumbers.json", 200, {"PhoneNumber": "+12125550107"})
    (number,) = found["incoming_phone_numbers"]
    assert (number["voice_url"], number["voice_application_sid"], number["trunk_sid"]) == (url, None, None)
    assert (await api("POST", "/IncomingPhoneNumbers.json", 400, PhoneNumber="+12125550107"))["code"] == 21422
    assert (await api("POST", path, 200, VoiceUrl="", StatusCallback=""))["voice_url"] == ""
    await api("DELETE", path, 204)
    assert (await api("GET", path, 404))["code"] == 20404
    await api("POST", "/IncomingPhoneNumbers.json", 201, PhoneNumber="+12125550107")


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"PhoneNumber": "33"}, 21421),
        ({"PhoneNumber": "+15005550120"}, 21422),
        ({"AreaCode": "999"}, 21452),
        ({}, 21421),
    ],
)
async def test_numbers_that_cannot_be_bought(api: Api, form: dict[str, str], code: int) -> None:
    assert (await api("POST", "/IncomingPhoneNumbers.json", 400, **form))["code"] == code


async def test_calls_are_created_read_and_listed_as_documented(api: Api) -> None:
    call = await api.dial()
    assert (call["status"], call["to"], call["from"], call["duration"]) == ("queued", THEIRS, OURS, None)
    far_end = await api.sandbox.far_end(call["sid"])
    await far_end.wait_for("answered")
    other = await api.dial("+13125550144")
    listed = await api("GET", "/Calls.json", 200, {"To": THEIRS})
    assert [found["sid"] for found in listed["calls"]] == [call["sid"]]
    newest = await api("GET", "/Calls.json", 200, {"PageSize": "1"})
    assert newest["calls"][0]["sid"] == other["sid"]
    day = (await api("GET", "/Calls.json", 200, {"StartTime>": "2999-01-01"}))["calls"]
    assert day == []
    done = await api("POST", f"/Calls/{call['sid']}.json", 200, Status="completed")
    leg = api.sandbox.account.calls[call["sid"]]
    assert leg.answered_at is not None and leg.ended_at is not None
    lasted = (leg.ended_at - leg.answered_at).total_seconds()
    assert done["status"] == "completed" and 0 <= int(done["duration"]) - lasted < 1, "seconds begun are whole ones"
    assert (await api("GET", f"/Calls/{call['sid']}.json", 200))["end_time"] is not None
    assert (await api("POST", f"/Calls/{call['sid']}.json", 400, Twiml=HOLD))["code"] == 21220
    assert (await api("GET", f"/Calls/CA{'0' * 32}.json", 404))["code"] == 20404


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"From": OURS, "Twiml": HOLD}, 21201),
        ({"To": THEIRS, "Twiml": HOLD}, 21213),
        ({"To": THEIRS, "From": OURS}, 21205),
        ({"To": THEIRS, "From": OURS, "Url": "nonsense"}, 21205),
        ({"To": THEIRS, "From": "+13125550199", "Twiml": HOLD}, 21210),
        ({"To": THEIRS, "From": "me", "Twiml": HOLD}, 21212),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "CallerId": "+13125550199"}, 21210),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "Tiemout": "30"}, 20001),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "Timeout": "soon"}, 20001),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "Timeout": "601"}, 20001),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "SendDigits": "hello"}, 20001),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "StatusCallbackEvent": "hung-up"}, 21626),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "MachineDetection": "yes"}, 20001),
        ({"To": THEIRS, "From": OURS, "Twiml": HOLD, "StatusCallbackMethod": "PUT"}, 20001),
        ({"To": [THEIRS, THEIRS], "From": OURS, "Twiml": HOLD}, 20001),
        ({"To": THEIRS, "From": OURS, "ApplicationSid": "AP" + "0" * 32}, 20001),
    ],
)
async def test_a_dial_request_with_something_wrong_is_refused_and_rings_nobody(
    api: Api, form: dict[str, Any], code: int
) -> None:
    assert (await api("POST", "/Calls.json", 400, **form))["code"] == code
    assert api.sandbox.far_ends == {}


async def test_parameters_in_the_wrong_place_are_refused(api: Api) -> None:
    response = await api.http.post(f"{api.root}/Calls.json", json={"To": THEIRS})
    assert response.status_code == 415
    assert (await api("POST", "/Calls.json", 400, {"To": THEIRS}, From=OURS))["code"] == 20001
    assert (await api("GET", "/Calls.json", 400, {"Too": THEIRS}))["code"] == 20001
    assert (await api("DELETE", "/Calls.json", 405))["code"] == 20004


async def test_without_the_json_suffix_errors_are_xml(api: Api) -> None:
    response = await api.http.get(f"{api.root}/Calls/CA{'0' * 32}")
    assert response.status_code == 404 and response.headers["content-type"].startswith("application/xml")
    assert ET.fromstring(response.text).findtext("RestException/Code") == "20404"


@pytest.mark.parametrize(
    ("secret", "status", "code"),
    [("wrong-token", 401, 20003), ("suspended", 401, 20003), ("throttled", 429, 20429), ("", 401, 20003)],
)
async def test_magic_secrets_do_not_log_in(api: Api, secret: str, status: int, code: int) -> None:
    api.http.auth = httpx.BasicAuth(api.sandbox.account.sid, secret)
    response = await api.http.get(f"{api.root}.json")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert ("retry-after" in response.headers) == (status == 429)
    assert api.sandbox.account.token != secret


async def test_a_request_without_a_login_is_refused(api: Api) -> None:
    api.http.auth = None
    body = await api("GET", "/Calls.json", 401)
    assert body["code"] == 20003 and body["detail"]


async def test_an_account_without_money_reads_but_neither_dials_nor_buys(api: Api) -> None:
    api.http.auth = httpx.BasicAuth(api.sandbox.account.sid, "broke")
    await api("GET", "/Calls.json", 200)
    assert (await api("POST", "/Calls.json", 403, To=THEIRS, From=OURS, Twiml=HOLD))["code"] == 20005
    assert (await api("POST", "/IncomingPhoneNumbers.json", 403, PhoneNumber="+12125550107"))["code"] == 20005


async def test_an_api_key_logs_in_and_leaves_the_signing_token_alone(api: Api) -> None:
    api.http.auth = httpx.BasicAuth("SK" + "0" * 32, "key secret")
    token = api.sandbox.account.token
    await api("GET", "/Calls.json", 200)
    assert api.sandbox.account.token == token != "key secret"


async def test_a_recording_has_both_sides_and_is_fetched_as_wav(api: Api) -> None:
    call = await api.dial()
    far_end = await api.sandbox.far_end(call["sid"])
    assert (await api("POST", f"/Calls/{call['sid']}/Recordings.json", 400))["code"] == 21220
    await far_end.wait_for("answered")
    recording = await api("POST", f"/Calls/{call['sid']}/Recordings.json", 201, RecordingChannels="dual")
    assert (recording["status"], recording["channels"]) == ("in-progress", 2)
    far_end.playback.play(b"\x22" * 1600)
    await far_end.wait_heard(0.2)
    stopped = await api("POST", f"/Calls/{call['sid']}/Recordings/Twilio.CURRENT.json", 200, Status="stopped")
    assert stopped["status"] == "completed"
    assert (await api("GET", "/Recordings.json", 200))["recordings"][0]["sid"] == recording["sid"]
    duration = int((await api("GET", f"/Recordings/{recording['sid']}.json", 200))["duration"])
    for suffix in ("", ".wav"):
        response = await api.http.get(f"{api.root}/Recordings/{recording['sid']}{suffix}")
        assert response.headers["content-type"] == "audio/x-wav"
        with wave.open(io.BytesIO(response.content)) as file:
            assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 8000, 2)
            frames = memoryview(file.readframes(file.getnframes())).cast("h")
    assert abs(duration - len(frames) / 2 / 8000) <= 0.5, "the length in whole seconds"
    assert sum(1 for sample in frames[1::2] if sample) == 1600, "what was heard is in the right channel, all of it"
    assert not any(frames[0::2]), "nothing was said"
    assert (await api.http.get(f"{api.root}/Recordings/{recording['sid']}.mp3")).status_code == 404
    await api("DELETE", f"/Recordings/{recording['sid']}.json", 204)


async def test_every_operation_the_tests_used_is_the_vendors(api: Api) -> None:
    """The sandbox has no operation of its own invention."""
    from anycarrier_twilio.sandbox import OPERATIONS

    for operation in OPERATIONS:
        if ".json" not in operation.extensions:
            continue  # recording files are no part of the document
        path = operation.path.replace("{Kind}", "Local").replace("{", "").replace("}", "") + ".json"
        found = api.spec.find(operation.method, path)
        assert found is not None, f"{operation.method} {operation.path}"
        node = api.spec.document["paths"][found[0]][operation.method.lower()]
        named = {parameter["name"] for parameter in node.get("parameters", []) if parameter["in"] == "query"}
        if "requestBody" in node:
            form = node["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
            named |= set(form["properties"])
        unknown = set(operation.takes or ()) - named
        assert not unknown, f"{operation.method} {operation.path} takes what the vendor does not"
