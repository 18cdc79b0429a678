"""linecard: bring your own carrier to a voice agent.

One interface over every carrier: an :class:`Exchange` holds numbers and calls, a handler talks on a
:class:`MediaSession`. What is listed in ``__all__`` is public; so are the modules those names come from.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from linecard.audio import PCMA_8K, PCMU_8K, AudioFormat
from linecard.calls import Call, CallStatus, DialRequest, Direction, EndReason, MachineDetection, StreamTarget
from linecard.credentials import Credential, CredentialSource
from linecard.errors import LinecardError, ProviderError, WireError
from linecard.events import (
    AudioReceived,
    CallEvent,
    CallProgress,
    DigitPressed,
    DigitReported,
    IncomingCall,
    MachineDetected,
    MarkReached,
    MediaEvent,
    NumberOrderProgress,
    RecordingProgress,
    RoutingFailed,
    RoutingFailure,
    StreamError,
    StreamProgress,
    StreamStarted,
    StreamStopped,
    TransferProgress,
    UnknownEvent,
)
from linecard.hookspecs import hookimpl, hookspec
from linecard.listener import Desk, Listener, MediaTransport
from linecard.numbers import (
    AvailableNumber,
    NumberFeature,
    NumberQuery,
    NumberType,
    OwnedNumber,
    PendingOrder,
    PhoneNumber,
    SyncResult,
)
from linecard.provider import CONTRACT, Capability, Provider
from linecard.registry import Line, MemoryNumberRegistry, NumberRegistry
from linecard.serializer import MediaSerializer
from linecard.webhooks import WebhookReply, WebhookRequest

if TYPE_CHECKING:
    from linecard.exchange import Exchange
    from linecard.plugins import get_provider, open_provider, provider_names
    from linecard.policy import Policy
    from linecard.position import Playback
    from linecard.routing import Answer, Forward, LeaveRinging, Reject
    from linecard.session import MediaSession
    from linecard.sip_address import SipAddress

# Names whose modules bring asyncio along are fetched on first use: a plugin author or a script that only needs the
# vocabulary does not pay for them.
_LAZY = {
    "Exchange": "exchange",
    "MediaSession": "session",
    "Playback": "position",
    "Policy": "policy",
    "Answer": "routing",
    "Forward": "routing",
    "LeaveRinging": "routing",
    "Reject": "routing",
    "SipAddress": "sip_address",
    "get_provider": "plugins",
    "open_provider": "plugins",
    "provider_names": "plugins",
}


def __getattr__(name: str) -> Any:
    try:
        module = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'linecard' has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(f"linecard.{module}"), name)
    return value


__all__ = [
    "CONTRACT",
    "PCMA_8K",
    "PCMU_8K",
    "Answer",
    "AudioFormat",
    "AudioReceived",
    "AvailableNumber",
    "Call",
    "CallEvent",
    "CallProgress",
    "CallStatus",
    "Capability",
    "Credential",
    "CredentialSource",
    "Desk",
    "DialRequest",
    "DigitPressed",
    "DigitReported",
    "Direction",
    "EndReason",
    "Exchange",
    "Forward",
    "IncomingCall",
    "LeaveRinging",
    "Line",
    "LinecardError",
    "Listener",
    "MachineDetected",
    "MachineDetection",
    "MarkReached",
    "MediaEvent",
    "MediaSerializer",
    "MediaSession",
    "MediaTransport",
    "MemoryNumberRegistry",
    "NumberFeature",
    "NumberOrderProgress",
    "NumberQuery",
    "NumberRegistry",
    "NumberType",
    "OwnedNumber",
    "PendingOrder",
    "PhoneNumber",
    "Playback",
    "Policy",
    "Provider",
    "ProviderError",
    "RecordingProgress",
    "Reject",
    "RoutingFailed",
    "RoutingFailure",
    "SipAddress",
    "StreamError",
    "StreamProgress",
    "StreamStarted",
    "StreamStopped",
    "StreamTarget",
    "SyncResult",
    "TransferProgress",
    "UnknownEvent",
    "WebhookReply",
    "WebhookRequest",
    "WireError",
    "get_provider",
    "hookimpl",
    "hookspec",
    "open_provider",
    "provider_names",
]
