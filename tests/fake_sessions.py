"""What a media session needs beside its socket: a call, something that acts on it, and a tap."""

from __future__ import annotations

from anycarrier import Call, CallStatus, Direction, EndReason

CALL = Call(
    id="c1",
    provider="p",
    direction=Direction.INBOUND,
    from_="+14155550101",
    to="+14155550100",
    status=CallStatus.ANSWERED,
)


class Control:
    def __init__(self) -> None:
        self.asked: list[object] = []

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        self.asked.append((call, reason))

    async def transfer(self, call: Call | str, to: str = "", *, replaces: Call | str | None = None) -> None:
        self.asked.append((call, to))

    async def send_digits(self, call: Call | str, digits: str) -> None:
        self.asked.append((call, digits))


class Recorder:
    """A tap that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def caller(self, payload: bytes) -> None:
        self.told.append(("caller", payload))

    def agent(self, payload: bytes, starts_in: float) -> None:
        self.told.append(("agent", payload, round(starts_in, 3)))

    def cut(self) -> None:
        self.told.append(("cut",))
