"""The sandbox's REST face: every answer held against the vendor's OpenAPI document, keys and all."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from anycarrier.testing.live_server import serve_sandbox
from anycarrier.testing.sandbox_numbers import GONE_NUMBER
from anycarrier_signalwire.sandbox import OPERATIONS, SignalWireSandbox
from openapi import Spec

OURS, THEIRS = "+14155550100", "+12125550123"
NOWHERE = "http://127.0.0.1:9/x"


class Api:
    """Requests to a sandbox that check their answers: against the document, and key for key."""

    def __init__(self, sandbox: SignalWireSandbox, spec: Spec) -> None:
        self.sandbox = sandbox
        self.spec = spec
        self.root = sandbox.project.path
        login = (sandbox.project.sid, "PTany")
        self.http = httpx.AsyncClient(base_url=sandbox.base_url, auth=login, trust_env=False)

    async def __call__(self, method: str, path: str, status: int, params: Any = None, **form: Any) -> Any:
        response = await self.http.request(method, self.root + path, params=params, data=form or None)
        assert response.status_code == status, response.text
        body = response.json() if response.content else None
        bare = (self.root + path).partition("?")[0].removesuffix(".json")
        assert self.spec.response_problems(method, bare, status, body) == []
        if status < 300 and isinstance(body, dict):
            self._same_keys(self._answer(method, bare, status), body)
        return body

    def _answer(self, method: str, path: str, status: int) -> dict[str, Any]:
        found = self.spec.find(method, path)
        assert found is not None
        answer = self.spec.document["paths"][found[0]][method.lower()]["responses"][str(status)]
        return self._schema(answer["content"]["application/json"]["schema"])

    def _same_keys(self, schema: dict[str, Any], body: dict[str, Any]) -> None:
        documented = schema["properties"]
        # Only a toll-free number has the last one.
        assert set(documented) - {"verification_status"} == set(body), "keys that the document has not, or lacks"
        for name, value in body.items():
            inner = self._schema(documented[name])
            if inner.get("type") == "array" and value:
                self._same_keys(self._schema(inner["items"]), value[0])

    def _schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            node: Any = self.spec.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                node = node[part]
            schema = node
        return schema

    async def dial(self, to: str = THEIRS, status: int = 200, **form: Any) -> Any:
        return await self("POST", "/Calls", status, To=to, From=OURS, **{"Url": NOWHERE, **form})


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    spec = Spec.load("signalwire_compat.trimmed.json")
    async with serve_sandbox(SignalWireSandbox) as sandbox:
        sandbox.add_number(OURS)
        api = Api(sandbox, spec)
        async with api.http:
            yield api


async def test_every_operation_of_ours_is_in_the_document(api: Api) -> None:
    for operation in OPERATIONS:
        path = operation.path.replace("{Kind}", "Local").replace("/Accounts/{AccountSid}", f"/Accounts/{'0' * 8}")
        path = path.replace("{", "").replace("}", "")
        found = api.spec.find(operation.method, path)
        assert found is not None, f"{operation.method} {operation.path}"
        fields = operation.takes or {}
        documented = self_documented(api.spec, operation.method, found[0])
        assert set(fields) - documented <= {"PageSize"}, f"{operation.method} {operation.path}"


def self_documented(spec: Spec, method: str, template: str) -> set[str]:
    """The names of parameters and form fields of an operation."""
    where = ["paths", template, method.lower()]
    names = {parameter["name"] for _, parameter in spec._parameters(where)}
    body = spec.document["paths"][template][method.lower()].get("requestBody")
    form = [*where, "requestBody", "content", "application/x-www-form-urlencoded", "schema"]
    return names | set(spec._properties(form)) if body else names


async def test_the_project_can_be_read_and_nobody_elses(api: Api) -> None:
    body = await api("GET", "", 200)
    assert (body["sid"], body["auth_token"], body["signing_key"]) == (api.sandbox.project.sid, "redacted", None)
    other = await api.http.get(api.root.replace(api.sandbox.project.sid, "0" * 8 + api.sandbox.project.sid[8:]))
    assert (other.status_code, other.content) == (404, b""), "another project is a bare 404, no 401"


@pytest.mark.parametrize("login", [None, ("AC0", "x"), ("user", ""), "wrong", "suspended"])
async def test_a_login_that_is_none_is_401(api: Api, login: Any) -> None:
    auth = (api.sandbox.project.sid, login) if isinstance(login, str) else login
    async with httpx.AsyncClient(auth=auth, trust_env=False) as http:
        response = await http.get(api.sandbox.base_url + api.root)
    assert response.status_code == 401 and response.json()["code"] == 20003


async def test_numbers_are_searched_bought_set_and_released(api: Api) -> None:
    found = await api("GET", "/AvailablePhoneNumbers/US/Local", 200, {"AreaCode": "415", "SmsEnabled": "false"})
    offers = found["available_phone_numbers"]
    assert len(offers) == 50 and offers[0]["capabilities"]["SMS"] is True, "the feature was ignored"
    number = offers[0]["phone_number"]
    bought = await api("POST", "/IncomingPhoneNumbers", 201, PhoneNumber=number)
    path = f"/IncomingPhoneNumbers/{bought['sid']}"
    assert (await api("GET", path, 200))["voice_url"] is None
    settings = {"VoiceUrl": "https://a.example/x", "VoiceReceiveMode": "voice", "StatusCallback": "https://a.example/y"}
    assert (await api("POST", path, 200, **settings))["voice_url"] == "https://a.example/x"
    assert (await api("POST", path, 200, VoiceUrl=""))["voice_url"] is None
    listed = await api("GET", "/IncomingPhoneNumbers", 200, {"PhoneNumber": number[6:]})
    assert [each["phone_number"] for each in listed["incoming_phone_numbers"]] == [number], "a part of it matches"
    api.sandbox.release_after = 3600.0
    assert (await api("DELETE", path, 409))["code"] == 22121
    api.sandbox.release_after = 0.0
    await api("DELETE", path, 204)
    await api("GET", path, 404)


async def test_a_number_that_is_gone_or_too_dear_is_not_sold(api: Api) -> None:
    assert (await api("POST", "/IncomingPhoneNumbers", 422, PhoneNumber=GONE_NUMBER))["code"] == 21422
    assert (await api("POST", "/IncomingPhoneNumbers", 400, PhoneNumber="415"))["code"] == 21401
    api.http.auth = httpx.BasicAuth(api.sandbox.project.sid, "broke")
    assert (await api("POST", "/IncomingPhoneNumbers", 422, PhoneNumber="+14155550101"))["code"] == 4001


async def test_a_page_after_the_first_needs_the_token_its_link_has(api: Api) -> None:
    for last in range(101, 105):
        api.sandbox.add_number(f"+14155550{last}")
    first = await api("GET", "/IncomingPhoneNumbers", 200, {"PageSize": 2})
    assert first["next_page_uri"].startswith("/api/laml/2010-04-01/Accounts/")
    assert (await api.http.get(api.root + "/IncomingPhoneNumbers?Page=1&PageSize=2")).status_code == 400
    seen = [each["phone_number"] for each in first["incoming_phone_numbers"]]
    page = first
    while page["next_page_uri"]:
        page = await api("GET", page["next_page_uri"].removeprefix(api.root), 200)
        seen += [each["phone_number"] for each in page["incoming_phone_numbers"]]
    assert len(seen) == len(set(seen)) == 5 and page["previous_page_uri"]


async def test_what_a_dial_is_refused_for_is_a_list_with_the_code_as_text(api: Api) -> None:
    refusals = {
        "21217": {"to": "415"}, "21205": {"Url": ""}, "21210": {"From": "+14155550199"}, "21212": {"From": "415"},
        "21262": {"AsyncAmd": "true"}, "21234": {"MachineDetection": "maybe"},
    }  # fmt: skip
    for code, change in refusals.items():
        fields = {"To": THEIRS, "From": OURS, "Url": NOWHERE, **change}
        to = fields.pop("to", fields.pop("To"))
        body = await api("POST", "/Calls", 400, To=to, **fields)
        assert [error["code"] for error in body["errors"]] == [code]
    for unknown in ("Twiml", "Laml", "TimeLimit", "Misspelt"):
        body = await api.dial(status=400, **{unknown: "x"})
        assert body["errors"][0]["code"] == "10000" and unknown in body["errors"][0]["message"]


async def test_the_stages_of_a_call_decide_which_word_ends_it(api: Api) -> None:
    ringing = await api.dial("+15005550102")
    path = f"/Calls/{ringing['sid']}"
    assert (await api("POST", path, 400, Status="completed"))["code"] == 21220
    assert (await api("DELETE", path, 400))["code"] == 20009
    assert (await api("POST", path, 200, Status="canceled"))["status"] == "canceled"
    assert (await api("POST", path, 400, Status="completed"))["code"] == 10000
    over = await api("GET", path, 200)
    assert (over["status"], over["duration"], over["sip_result_code"]) == ("canceled", 0, "487")
    assert over["direction"] == "outbound" and isinstance(over["duration"], int)
    answered = await api.dial("+15005550115", FallbackUrl="")
    far_end = await api.sandbox.far_end(answered["sid"])
    await far_end.wait_for("answered")
    path = f"/Calls/{answered['sid']}"
    assert (await api("POST", path, 400, Status="canceled"))["code"] == 10000


async def test_calls_are_listed_and_forgotten(api: Api) -> None:
    call = await api.dial("+15005550101")
    await (await api.sandbox.far_end(call["sid"])).wait_for("ended")
    listed = await api("GET", "/Calls", 200, {"To": "+15005550101"})
    assert [each["status"] for each in listed["calls"]] == ["busy"]
    await api("DELETE", f"/Calls/{call['sid']}", 204)
    await api("GET", f"/Calls/{call['sid']}", 404)


async def test_a_recording_is_public_to_whoever_knows_its_id(api: Api) -> None:
    call = await api.dial(Record="true", RecordingChannels="dual")
    far_end = await api.sandbox.far_end(call["sid"])
    await far_end.wait_for("ended")
    (recording,) = (await api("GET", "/Recordings", 200, {"CallSid": call["sid"]}))["recordings"]
    assert (recording["channels"], recording["trim"], recording["source"]) == ("2", "trim-silence", "OutBoundApi")
    path = f"/Recordings/{recording['sid']}"
    assert (await api("GET", path + ".json", 200))["sid"] == recording["sid"]
    for url in (path, path + ".wav"):
        async with httpx.AsyncClient(trust_env=False) as stranger:
            fetched = await stranger.get(api.sandbox.base_url + api.root + url)
        with wave.open(io.BytesIO(fetched.content)) as file:
            assert (file.getnchannels(), file.getframerate()) == (2, 8000)
    await api("DELETE", path, 204)
    assert (await api.http.get(api.root + path + ".wav")).status_code == 404


async def test_events_of_a_recording_are_one_value_and_those_of_a_call_a_list(api: Api) -> None:
    form = "To=%2B12125550123&From=%2B14155550100&Url=http%3A%2F%2F127.0.0.1%3A9&Record=true&RecordingStatusCallback="
    events = "&RecordingStatusCallbackEvent=completed&RecordingStatusCallbackEvent=absent"
    kind = {"content-type": "application/x-www-form-urlencoded"}
    refused = await api.http.post(api.root + "/Calls", content=form + NOWHERE + events, headers=kind)
    assert refused.status_code == 400
    await api.dial(StatusCallback=NOWHERE, StatusCallbackEvent=["initiated", "answered"])
    await api.dial(status=400, StatusCallback=NOWHERE, StatusCallbackEvent=["odd"])
