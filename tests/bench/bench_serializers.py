"""What a 20 ms media frame costs each carrier's serializer, beside json.loads and json.dumps of the same frame.

Ours does more than the JSON it is held against: it also takes the audio out of base64 and puts it in. CPU time,
interleaved rounds, each on a fresh stream of numbered frames; the minimum is the fairer figure.
"""

from __future__ import annotations

import base64
import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from result import Result, parser

from anycarrier.events import AudioReceived, StreamStarted
from anycarrier.plugins import get_provider, provider_names
from anycarrier.serializer import MediaSerializer

BOUND = 3.0
EXAMPLES = {"acme"}  # written to be read, not to be fast: shown, not held to the bound
Frame = dict[str, Any]


def _twilio(number: int, audio: str) -> Frame:
    stream = "MZ" + "0123456789abcdef" * 2
    if number == 0:
        start = {"accountSid": "AC" + "0" * 32, "streamSid": stream, "callSid": "CA" + "0" * 32, "tracks": ["inbound"],
                 "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                 "customParameters": {}}  # fmt: skip
        return {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream}
    media = {"track": "inbound", "chunk": str(number), "timestamp": str(20 * number), "payload": audio}
    return {"event": "media", "sequenceNumber": str(number + 1), "media": media, "streamSid": stream}


def _telnyx(number: int, audio: str) -> Frame:
    stream = "00000000-0000-4000-8000-000000000000"
    if number == 0:
        start = {"user_id": stream, "call_control_id": "v2:" + "A" * 54, "call_session_id": stream,
                 "from": "+12125550155", "to": "+12125550147", "tags": [], "client_state": "",
                 "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}}  # fmt: skip
        return {"event": "start", "sequence_number": "1", "start": start, "stream_id": stream}
    media = {"track": "inbound", "chunk": str(number), "timestamp": str(20 * number), "payload": audio}
    return {"event": "media", "sequence_number": str(number + 1), "media": media, "stream_id": stream}


def _acme(number: int, audio: str) -> Frame:
    return {"type": "audio", "data": audio, "ms": 20 * number} if number else {"type": "start", "call": "call-1"}


CARRIERS: dict[str, Callable[[int, str], Frame]] = {"twilio": _twilio, "telnyx": _telnyx, "acme": _acme}
CREDENTIALS: dict[str, dict[str, str]] = {
    "twilio": {"account_sid": "AC" + "0" * 32, "auth_token": "0" * 32},
    "telnyx": {"api_key": "KEY0"},
    "acme": {"api_key": "key"},
}


def started(name: str) -> MediaSerializer:
    """The carrier's serializer, its stream open."""
    provider = get_provider(name)
    serializer = provider(provider.credential_type.model_validate(CREDENTIALS[name])).serializer()
    (event,) = serializer.decode(json.dumps(CARRIERS[name](0, "")))
    if not isinstance(event, StreamStarted):
        raise SystemExit(f"{name}: the start frame of this bench was read as {event}")
    return serializer


def per_frame(work: Callable[[Any], Any], items: Iterable[Any]) -> float:
    """CPU nanoseconds of ``work`` for one item."""
    listed = list(items)
    gc.collect()
    gc.disable()
    start = time.process_time_ns()
    for item in listed:
        work(item)
    spent = time.process_time_ns() - start
    gc.enable()
    return spent / len(listed)


def measure(name: str, rounds: int, frames: int) -> dict[str, list[float]]:
    """Nanoseconds per frame of the four: decode, json.loads, encode, json.dumps."""
    audio = random.Random(20).randbytes(160)
    texts = [json.dumps(CARRIERS[name](n, base64.b64encode(audio).decode()), separators=(",", ":"))
             for n in range(1, frames + 1)]  # fmt: skip
    (event,) = started(name).decode(texts[0])
    assert isinstance(event, AudioReceived) and event.payload == audio, f"{name}: {event}"
    (outbound,) = started(name).encode_audio(audio)
    same = json.loads(outbound)
    found: dict[str, list[float]] = {key: [] for key in ("decode", "loads", "encode", "dumps")}
    for number in range(rounds + 1):
        one = {
            "decode": per_frame(started(name).decode, texts),
            "loads": per_frame(json.loads, texts),
            "encode": per_frame(started(name).encode_audio, [audio] * frames),
            "dumps": per_frame(json.dumps, [same] * frames),
        }
        if number:  # the first warms up
            for key, value in one.items():
                found[key].append(value)
    return found


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--frames", type=int, default=5000)
    chosen = options.parse_args()
    names = [name for name in provider_names() if name in CARRIERS]
    rows, ratios = [], {}
    for name in names:
        found = measure(name, chosen.rounds, chosen.frames)
        for ours, theirs, call in (("decode", "loads", "json.loads"), ("encode", "dumps", "json.dumps")):
            ratio = min(found[theirs]) / min(found[ours])
            if name not in EXAMPLES:
                ratios[f"{name} {ours}"] = round(ratio, 2)
            rows.append([f"{name} {ours}", f"{min(found[ours]):.0f}", f"{statistics.median(found[ours]):.0f}", call,
                         f"{min(found[theirs]):.0f}", f"{statistics.median(found[theirs]):.0f}",
                         f"{ratio:.1f}"])  # fmt: skip
    silent = sorted(set(provider_names()) - set(CARRIERS))
    Result(
        name="serializers",
        bound=f"each but the example ({', '.join(EXAMPLES)}) at least {BOUND:g} times cheaper by the minimum",
        kept=bool(ratios) and min(ratios.values()) >= BOUND,
        columns=["", "min ns", "median ns", "beside", "min ns ", "median ns ", "times cheaper"],
        rows=rows,
        figures={"ratios": ratios, "rounds": chosen.rounds, "frames": chosen.frames},
        notes=[f"Not measured, since this bench has no frames of theirs: {', '.join(silent)}."] if silent else [],
    ).report(chosen)


if __name__ == "__main__":
    main()
