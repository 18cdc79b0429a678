"""Calls over REST: placed, read, changed and ended; their recordings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from anycarrier.testing.sandbox_numbers import Outcome, outcome_of
from anycarrier_plivo.sandbox.leg import Leg, Options
from anycarrier_plivo.sandbox.recordings import Recording
from anycarrier_plivo.sandbox.rest import Refused, never, not_found, page

if TYPE_CHECKING:
    from anycarrier_plivo.sandbox.app import Account, PlivoSandbox

URLS = ("answer", "ring", "hangup", "fallback", "machine_detection")
DIAL = (
    "from to caller_name time_limit ring_timeout hangup_on_ring send_digits sip_headers machine_detection"
    " error_if_parent_not_found machine_detection_time machine_detection_maximum_speech_length"
    " machine_detection_initial_silence "
    + " ".join(f"{name}_url {name}_method" for name in URLS)
)
LONGEST_CALL = 86_400
SIP_HEADER = re.compile(r"[A-Za-z0-9]+=[A-Za-z0-9%]*")


class Calls:
    def __init__(self, sandbox: PlivoSandbox) -> None:
        self.sandbox = sandbox
        self.table = [
            ("POST", "Call/", self.dial, DIAL),
            ("GET", "Call/", self.ended, "limit offset status call_direction"),
            ("GET", "Call/{call_id}/", self.get, "status"),
            ("POST", "Call/{call_id}/", self.transfer, "legs aleg_url aleg_method bleg_url bleg_method"),
            ("DELETE", "Call/{call_id}/", self.hang_up, ""),
            ("DELETE", "Request/{call_id}/", self.cancel, ""),
            ("POST", "Call/{call_id}/DTMF/", self.digits, "digits leg"),
            ("DELETE", "Call/{call_id}/Stream/", self.stop_stream, ""),
            ("POST", "Call/{call_id}/Record/", self.record,
             "time_limit file_format callback_url callback_method record_channel_type"),
            ("DELETE", "Call/{call_id}/Record/", self.stop_recording, "URL"),
            ("GET", "Recording/", self.recordings, "limit offset call_uuid"),
            ("GET", "Recording/{recording_id}/", self.recording, ""),
            ("DELETE", "Recording/{recording_id}/", self.delete_recording, ""),
        ]  # fmt: skip

    def _live(self, path: dict[str, str]) -> Leg:
        leg = self.sandbox.legs.get(path["call_id"])
        if leg is None or not leg.live:
            raise not_found()
        return leg

    async def dial(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        to, from_, answer_url = str(asked["to"]), str(asked["from"]), str(asked["answer_url"])
        if "<" in to:
            raise Refused(400, "several numbers in to: not simulated by this sandbox")
        if to == from_:
            raise Refused(400, "src and dst cannot be the same")
        if not urlsplit(answer_url).scheme.startswith("http"):
            raise Refused(400, "answer_url parameter is invalid")
        if not re.fullmatch(r"\+?1\d{10}", to):  # a number without its country code is another country's
            raise Refused(403, "Calls to this destination region are barred")
        outcome = outcome_of(f"+{to.lstrip('+')}")
        match outcome:
            case Outcome.INVALID_NUMBER:
                raise Refused(400, "to parameter is invalid")
            case Outcome.FORBIDDEN:
                raise Refused(403, "Calls to this destination region are barred")
            case Outcome.NO_FUNDS:
                raise Refused(402, "the account has no credit left")
            case Outcome.THROTTLED:
                raise Refused(429, "too many requests")
            case Outcome.SERVER_ERROR:
                raise Refused(500, "internal server error")
            case Outcome.TIMEOUT:
                await never(self.sandbox)
        leg = Leg(self.sandbox, account, "outbound", from_, to, _options(asked))
        self.sandbox.start(leg.run())
        return 201, {"message": "call fired", "request_uuid": leg.id}

    async def get(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        """A live call and an ended one are two reads; nothing tells of a call that is just being placed."""
        if asked.get("status") == "live":
            leg = self._live(path)
            return 200, {
                "call_status": leg.status, "call_uuid": leg.id, "caller_name": "", "direction": leg.direction,
                "from": leg.from_, "to": leg.to.lstrip("+"), "session_start": f"{leg.began:%Y-%m-%d %H:%M:%S.%f}",
                "request_uuid": leg.id,
            }  # fmt: skip
        leg_ended = self.sandbox.legs.get(path["call_id"])
        if "status" in asked or leg_ended is None or leg_ended.end_cause is None:
            raise not_found()
        return 200, self._told(leg_ended)

    async def ended(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        if asked.get("status") == "live":
            return 200, {"calls": [leg.id for leg in self.sandbox.legs.values() if leg.live]}
        found = [self._told(leg) for leg in self.sandbox.legs.values() if leg.end_cause is not None]
        return page(asked, found, f"/v1/Account/{account.id}/Call/")

    def _told(self, leg: Leg) -> dict[str, Any]:
        assert leg.end_cause is not None
        when = self.sandbox.zoned_with_offset
        return {
            "answer_time": when(leg.answered_at), "bill_duration": leg.seconds, "billed_duration": leg.seconds,
            "call_direction": leg.direction, "call_duration": leg.seconds, "call_uuid": leg.id,
            "call_state": "ANSWER" if leg.answered_at else leg.end_cause.cause, "end_time": when(leg.ended_at),
            "from_number": leg.from_, "hangup_cause_code": leg.end_cause.code,
            "hangup_cause_name": leg.end_cause.name, "hangup_source": leg.end_cause.source,
            "initiation_time": when(leg.began), "parent_call_uuid": None,
            "resource_uri": f"/v1/Account/{leg.account.id}/Call/{leg.id}/", "to_number": leg.to.lstrip("+"),
            "total_amount": leg.fields("Hangup")["TotalCost"], "total_rate": "0.00550",
        }  # fmt: skip

    async def transfer(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        leg = self._live(path)
        if asked.get("legs", "aleg") != "aleg":
            raise Refused(400, "legs: only aleg is simulated by this sandbox")
        leg.transfer(asked["aleg_url"], asked.get("aleg_method", "POST"))
        return 202, {"message": "call transfered", "call_uuids": [leg.id]}

    async def hang_up(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        self._live(path).hang_up_by_api()
        return 204, None

    async def cancel(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        """A dial that is not a call yet."""
        leg = self.sandbox.legs.get(path["call_id"])
        if leg is None or leg.live or leg.end_cause is not None:
            raise not_found()
        leg.hang_up_by_api()
        return 204, None

    async def digits(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        leg = self._live(path)
        if not re.fullmatch(r"[0-9*#A-DwW]+", asked["digits"]):
            raise Refused(400, "digits parameter is invalid")
        leg.far_end.digits += re.sub("[wW]", "", asked["digits"])
        return 202, {"message": "digits sent"}

    async def stop_stream(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        leg = self._live(path)
        if leg.stream is None:
            raise not_found()
        leg.stream.stopped.set()
        return 204, None

    async def record(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        leg = self._live(path)
        if asked.get("file_format", "mp3") != "wav":
            raise Refused(400, "file_format: only wav is simulated by this sandbox")
        if leg.answered_at is None:
            raise Refused(400, "the call is not answered")
        stereo = asked.get("record_channel_type", "stereo") == "stereo"
        made = Recording(
            leg, url=asked.get("callback_url", ""), method=asked.get("callback_method", "POST"),
            limit=float(asked.get("time_limit", 60)), channels=2 if stereo else 1,
        )  # fmt: skip
        return 202, {"message": "call recording started", "recording_id": made.id, "url": made.url}

    async def stop_recording(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        for recording in self._live(path).recordings:
            recording.stop()
        return 204, None

    def _recording(self, path: dict[str, str]) -> Recording:
        found = self.sandbox.recordings.get(path["recording_id"])
        if found is None or found.running:
            raise not_found()
        return found

    async def recordings(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        wanted = asked.get("call_uuid")
        found = [r.told() for r in self.sandbox.recordings.values() if not r.running and wanted in (None, r.leg.id)]
        return page(asked, found, f"/v1/Account/{account.id}/Recording/")

    async def recording(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        return 200, self._recording(path).told()

    async def delete_recording(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        del self.sandbox.recordings[self._recording(path).id]
        return 204, None


def _options(asked: Any) -> Options:
    given = asked.get("sip_headers", "")
    pairs = given.split(",") if given else []
    if not all(SIP_HEADER.fullmatch(pair) for pair in pairs):
        raise Refused(400, "sip_headers are Name=value of letters, digits and % in the value")
    return Options(
        urls={n: (asked[f"{n}_url"], asked.get(f"{n}_method", "POST")) for n in URLS if asked.get(f"{n}_url")},
        ring_timeout=float(asked.get("ring_timeout", 120)),
        time_limit=min(float(asked.get("time_limit", 14_400)), LONGEST_CALL),
        digits=asked.get("send_digits", ""),
        machine=str(asked.get("machine_detection", "")).lower(),
        headers={name: unquote(value) for name, _, value in (pair.partition("=") for pair in pairs)},
    )
