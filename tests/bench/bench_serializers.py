"""What a 20 ms media frame costs each carrier's serializer, beside the plain way of doing it.

Of a carrier of JSON frames the plain way is json.loads and json.dumps of the same frame; ours does more: it also takes
the audio out of base64 and puts it in. Of a carrier of binary frames it is what one writes by hand: an event of a
copy of the frame; the audio put behind what was left over, and sliced into frames. CPU time, interleaved rounds, each
on a fresh stream of numbered frames; the minimum is the fairer figure. Every installed carrier is measured.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from frames import FRAMES
from result import Result, parser

from anycarrier.events import AudioReceived, StreamStarted
from anycarrier.plugins import get_provider, provider_names
from anycarrier.serializer import MediaSerializer

BOUND = 3.0
"""Times cheaper than the plain way, for JSON frames."""
BINARY = 1.2
"""Times the cost of the plain way, at most, for binary frames."""


class ByHand:
    """Binary frames as one writes them: nothing is checked, nothing is shared with ours."""

    def __init__(self, size: int) -> None:
        self.size, self.left = size, bytearray()

    def decode(self, frame: bytes) -> list[AudioReceived]:
        return [AudioReceived(bytes(memoryview(frame)))]

    def encode(self, audio: bytes) -> list[bytes]:
        self.left += audio
        frames = []
        while len(self.left) >= self.size:
            frames.append(bytes(self.left[: self.size]))
            del self.left[: self.size]
        return frames


def sent(frame: Mapping[str, Any] | bytes) -> str | bytes:
    return frame if isinstance(frame, bytes) else json.dumps(frame, separators=(",", ":"))


def started(name: str) -> MediaSerializer:
    """The carrier's serializer, its stream open."""
    provider = get_provider(name)
    serializer = provider(provider.credential_type.model_validate(FRAMES[name].credential)).serializer()
    (event,) = serializer.decode(sent(FRAMES[name].start))
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


def measure(name: str, rounds: int, count: int) -> tuple[bool, dict[str, list[float]]]:
    """Whether its audio is binary, and nanoseconds per frame of the four: decode, encode, and the plain way of each."""
    audio = random.Random(20).randbytes(FRAMES[name].size)
    frames = [sent(FRAMES[name].media(number, audio)) for number in range(1, count + 1)]
    (event,) = started(name).decode(frames[0])
    assert isinstance(event, AudioReceived) and event.payload == audio, f"{name}: {event}"
    (outbound,) = started(name).encode_audio(audio)
    binary = isinstance(outbound, bytes)
    same = None if binary else json.loads(outbound)
    found: dict[str, list[float]] = {key: [] for key in ("decode", "plain decode", "encode", "plain encode")}
    for number in range(rounds + 1):
        hand = ByHand(FRAMES[name].size)
        one = {
            "decode": per_frame(started(name).decode, frames),
            "plain decode": per_frame(hand.decode if binary else json.loads, frames),
            "encode": per_frame(started(name).encode_audio, [audio] * count),
            "plain encode": per_frame(*((hand.encode, [audio] * count) if binary else (json.dumps, [same] * count))),
        }
        if number:  # the first warms up
            for key, value in one.items():
                found[key].append(value)
    return binary, found


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--frames", type=int, default=5000)
    options.add_argument("--carriers", nargs="+", metavar="NAME", help="only these")
    chosen = options.parse_args()
    names = [name for name in provider_names() if name in FRAMES and name in (chosen.carriers or FRAMES)]
    rows, ratios, kept = [], {}, []
    for name in names:
        binary, found = measure(name, chosen.rounds, chosen.frames)
        for way, call in (("decode", "json.loads"), ("encode", "json.dumps")):
            ours, plain = found[way], found[f"plain {way}"]
            ratio = min(plain) / min(ours)
            bound = f"{1 / BINARY:.2f}" if binary else f"{BOUND:g}"
            if not FRAMES[name].example:
                ratios[f"{name} {way}"] = round(ratio, 2)
                kept.append(ratio >= (1 / BINARY if binary else BOUND))
            rows.append([f"{name} {way}", f"{min(ours):.0f}", f"{statistics.median(ours):.0f}",
                         "by hand" if binary else call, f"{min(plain):.0f}", f"{statistics.median(plain):.0f}",
                         f"{ratio:.2f}", "-" if FRAMES[name].example else bound])  # fmt: skip
    silent = sorted(set(provider_names()) - set(FRAMES))
    examples = [name for name in FRAMES if FRAMES[name].example]
    Result(
        name="serializers",
        bound=f"by the minimum, and not of the example ({', '.join(examples)}): JSON at least {BOUND:g} times cheaper, "
        f"binary at most {BINARY:g} times as dear; every installed carrier is measured",
        kept=bool(kept) and all(kept) and not silent,
        columns=["", "min ns", "median ns", "beside", "min ns ", "median ns ", "times cheaper", "at least"],
        rows=rows,
        figures={"ratios": ratios, "rounds": chosen.rounds, "frames": chosen.frames, "not_measured": silent},
        notes=[f"Not measured, since tests/bench/frames.py lacks them: {', '.join(silent)}."] if silent else [],
    ).report(chosen)


if __name__ == "__main__":
    main()
