"""Channels and bridges as ARI describes them, and what happens to a channel from its birth to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import CallRecorder, FarEnd

if TYPE_CHECKING:
    from anycarrier_asterisk.sandbox.media import MediaSocket
    from anycarrier_asterisk.sandbox.server import AsteriskSandbox

CAUSES = {
    0: "Unknown", 1: "Unallocated (unassigned) number", 3: "No route to destination", 16: "Normal Clearing",
    17: "User busy", 18: "No user responding", 19: "User alerting, no answer", 21: "Call Rejected",
    27: "Destination out of order", 34: "Circuit/channel congestion", 38: "Network out of order",
    41: "Temporary failure", 127: "Interworking, unspecified",
}  # fmt: skip
HANGUP_REASONS = {
    "normal": 16, "busy": 17, "congestion": 34, "no_answer": 19, "timeout": 18, "rejected": 21, "unallocated": 1,
    "normal_unspecified": 31, "number_incomplete": 28, "codec_mismatch": 58, "interworking": 127, "failure": 38,
    "answered_elsewhere": 26,
}  # fmt: skip


def moment() -> str:
    """A timestamp as ARI writes it: milliseconds, and an offset without a colon."""
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}+0000"


@dataclass(eq=False)
class Channel:
    """One channel. ``app`` is whose events tell of it; ``stasis`` the arguments with which it is in Stasis."""

    server: AsteriskSandbox
    id: str
    name: str
    app: str
    state: str = "Down"
    caller: str = ""
    connected: str = ""
    context: str = "default"
    exten: str = "s"
    stasis: list[str] | None = None
    variables: dict[str, str] = field(default_factory=dict)
    far_end: FarEnd | None = None
    media: MediaSocket | None = None
    number: str = ""
    """The telephone's own."""
    dialstring: str = ""
    dialled: bool = False
    """Asterisk dials it, so Dial events tell of it."""
    bridge: Bridge | None = None
    recorder: CallRecorder | None = None
    over: bool = False
    created: str = field(default_factory=moment)
    limit: asyncio.TimerHandle | None = None

    def json(self) -> dict[str, Any]:
        """ARI's model Channel."""
        in_stasis = self.stasis is not None
        data = ",".join([self.app, *(self.stasis or [])])
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "protocol_id": "",
            "caller": {"name": "", "number": self.caller},
            "connected": {"name": "", "number": self.connected},
            "accountcode": "",
            "dialplan": {
                "context": self.context,
                "exten": self.exten,
                "priority": 1,
                "app_name": "Stasis" if in_stasis else "AppDial2" if self.dialled else "",
                "app_data": data if in_stasis else "(Outgoing Line)" if self.dialled else "",
            },
            "creationtime": self.created,
            "language": "en",
            "channelvars": {},
        }

    # --- its life -------------------------------------------------------------------------------------------------

    def tell(self, kind: str, **fields: Any) -> None:
        self.server.tell(self.app, kind, **fields, channel=self.json())

    def becomes(self, state: str) -> None:
        if self.state != state and not self.over:
            self.state = state
            self.tell("ChannelStateChange")

    def dial_status(self, status: str) -> None:
        self.server.tell(
            self.app, "Dial", dialstatus=status, forward="", dialstring=self.dialstring, peer=self.json()
        )

    def enters_stasis(self, args: list[str]) -> None:
        """Without a socket of its application it goes on past Stasis(), to a Hangup()."""
        if self.over:
            return
        if self.app not in self.server.sockets:
            self.hang_up(34)
            return
        self.stasis = args
        self.tell("StasisStart", args=args)

    def answers(self) -> None:
        """Whoever is rung picks up."""
        if self.over or self.state == "Up":
            return
        self.becomes("Up")
        if self.far_end is not None:
            self.far_end.answered()
        if self.dialled:
            self.dial_status("ANSWER")

    def hang_up(
        self, cause: int, *, tech_cause: int | None = None, asked: bool = False, status: str = "", quietly: bool = False
    ) -> None:
        """It is over. ``asked``: by ARI; ``quietly``: without a ChannelDestroyed, as Local channels may."""
        if self.over:
            return
        if self.state == "Up" or asked:
            self.tell("ChannelHangupRequest", cause=32 if asked else cause, **({"soft": True} if asked else {}))
        if self.dialled and self.state != "Up":
            self.dial_status(status or ("CANCEL" if asked else "CHANUNAVAIL"))
        self.over = True
        if self.limit is not None:
            self.limit.cancel()
        if self.bridge is not None:
            self.bridge.remove(self)
        if self.stasis is not None:
            self.tell("StasisEnd")
            self.stasis = None
        if not quietly:
            told: dict[str, Any] = {"cause": cause, "cause_txt": CAUSES.get(cause, "Unknown")}
            if tech_cause is not None:
                told["tech_cause"] = tech_cause
            self.tell("ChannelDestroyed", **told)
        self.server.channels.pop(self.id, None)
        if self.media is not None:
            self.media.stop()
        if self.far_end is not None:
            self.far_end.ended(CAUSES.get(cause, str(cause)))

    def lasts(self, seconds: float) -> None:
        """TIMEOUT(absolute): it ends by itself."""
        if self.limit is not None:
            self.limit.cancel()
        self.limit = asyncio.get_running_loop().call_later(seconds, self.hang_up, 16)

    async def press(self, digit: str) -> None:
        """Its telephone presses a key: both sockets tell it."""
        self.tell("ChannelDtmfReceived", digit=digit, duration_ms=100)
        for other in self.bridge.channels if self.bridge is not None else ():
            if other.media is not None:
                other.media.event("DTMF_END", digit=digit)


@dataclass(eq=False)
class Bridge:
    """A mixing bridge: a telephone and the media socket hear each other, and so do two telephones."""

    server: AsteriskSandbox
    id: str
    app: str
    channels: list[Channel] = field(default_factory=list)
    created: str = field(default_factory=moment)

    def json(self) -> dict[str, Any]:
        """ARI's model Bridge."""
        return {
            "id": self.id,
            "technology": "simple_bridge",
            "bridge_type": "mixing",
            "bridge_class": "stasis",
            "creator": "Stasis",
            "name": "",
            "channels": [channel.id for channel in self.channels],
            "creationtime": self.created,
            "video_mode": "talker",
        }

    def add(self, channel: Channel) -> None:
        if channel in self.channels:
            return
        if channel.bridge is not None:
            channel.bridge.remove(channel)
        self.channels.append(channel)
        channel.bridge = self
        channel.tell("ChannelEnteredBridge", bridge=self.json())
        self._connect()

    def remove(self, channel: Channel) -> None:
        if channel in self.channels:
            self.channels.remove(channel)
            channel.bridge = None
            channel.tell("ChannelLeftBridge", bridge=self.json())
            if channel.media is not None:
                channel.media.listens_to(None)
            self._connect()

    def destroy(self) -> None:
        for channel in [*self.channels]:
            self.remove(channel)
        self.server.bridges.pop(self.id, None)
        self.server.tell(self.app, "BridgeDestroyed", bridge=self.json())

    def _connect(self) -> None:
        """Who hears whom now."""
        phones = [channel for channel in self.channels if channel.far_end is not None]
        for channel in self.channels:
            if channel.media is not None:
                channel.media.listens_to(phones[0].far_end if phones else None)
        if len(phones) > 1:
            for one, other in ((phones[0], phones[1]), (phones[1], phones[0])):
                assert one.far_end is not None
                one.far_end.transferred_to = other.number
