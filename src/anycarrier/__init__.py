"""anycarrier: bring your own carrier to a voice agent.

One interface over every carrier: an :class:`Exchange` holds numbers and calls, a handler talks on a
:class:`MediaSession`. What is listed in ``__all__`` is public; so are the modules those names come from.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anycarrier.audio import PCMA_8K, PCMU_8K, AudioFormat
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, MachineDetection, StreamTarget
from anycarrier.credentials import Credential, CredentialSource
from anycarrier.errors import AnycarrierError, ProviderError, WireError
from anycarrier.events import (
    AudioReceived,
    CallEvent,
    CallProgress,
    DigitPressed,
    DigitReported,
    HoldChanged,
    IncomingCall,
    MachineDetected,
    MarkDropped,
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
from anycarrier.hookspecs import hookimpl, hookspec
from anycarrier.listener import Desk, Listener, MediaTransport
from anycarrier.numbers import (
    AvailableNumber,
    NumberFeature,
    NumberQuery,
    NumberType,
    OwnedNumber,
    PendingOrder,
    PhoneNumber,
    SyncResult,
)
from anycarrier.provider import CONTRACT, Capability, Provider, TicketPlace
from anycarrier.serializer import MediaSerializer
from anycarrier.webhooks import WebhookReply, WebhookRequest

if TYPE_CHECKING:
    from anycarrier.callbook import CallBook, MemoryCallBook, MemoryOnce, OnceStore
    from anycarrier.caller_audio import CallerAudio
    from anycarrier.exchange import Exchange
    from anycarrier.paced_voice import PacedVoice
    from anycarrier.plugins import get_provider, open_provider, provider_names
    from anycarrier.policy import Policy
    from anycarrier.position import Playback
    from anycarrier.routing import (
        Answer,
        Forward,
        LeaveRinging,
        Line,
        MemoryNumberRegistry,
        NumberRegistry,
        Reject,
        Route,
        Router,
    )
    from anycarrier.session import MediaSession
    from anycarrier.sip import SipAddress
    from anycarrier.subscriptions import Subscription
    from anycarrier.switchboard import Handler, Switchboard
    from anycarrier.tickets import Ticket

# Imported on first use, so that a plugin author, or a script that only needs the vocabulary, does not pay for the parts
# that serve calls.
_LAZY = {
    "CallBook": "callbook",
    "MemoryCallBook": "callbook",
    "MemoryOnce": "callbook",
    "OnceStore": "callbook",
    "Exchange": "exchange",
    "MediaSession": "session",
    "CallerAudio": "caller_audio",
    "PacedVoice": "paced_voice",
    "Answer": "routing",
    "Forward": "routing",
    "LeaveRinging": "routing",
    "Line": "routing",
    "MemoryNumberRegistry": "routing",
    "NumberRegistry": "routing",
    "Reject": "routing",
    "Route": "routing",
    "Router": "routing",
    "Playback": "position",
    "Policy": "policy",
    "SipAddress": "sip",
    "Subscription": "subscriptions",
    "Handler": "switchboard",
    "Switchboard": "switchboard",
    "Ticket": "tickets",
    "get_provider": "plugins",
    "open_provider": "plugins",
    "provider_names": "plugins",
}


def __getattr__(name: str) -> Any:
    try:
        module = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'anycarrier' has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(f"anycarrier.{module}"), name)
    return value


__all__ = [
    "CONTRACT",
    "PCMA_8K",
    "PCMU_8K",
    "Answer",
    "AnycarrierError",
    "AudioFormat",
    "AudioReceived",
    "AvailableNumber",
    "Call",
    "CallBook",
    "CallEvent",
    "CallProgress",
    "CallStatus",
    "CallerAudio",
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
    "Handler",
    "HoldChanged",
    "IncomingCall",
    "LeaveRinging",
    "Line",
    "Listener",
    "MachineDetected",
    "MachineDetection",
    "MarkDropped",
    "MarkReached",
    "MediaEvent",
    "MediaSerializer",
    "MediaSession",
    "MediaTransport",
    "MemoryCallBook",
    "MemoryNumberRegistry",
    "MemoryOnce",
    "NumberFeature",
    "NumberOrderProgress",
    "NumberQuery",
    "NumberRegistry",
    "NumberType",
    "OnceStore",
    "OwnedNumber",
    "PacedVoice",
    "PendingOrder",
    "PhoneNumber",
    "Playback",
    "Policy",
    "Provider",
    "ProviderError",
    "RecordingProgress",
    "Reject",
    "Route",
    "Router",
    "RoutingFailed",
    "RoutingFailure",
    "SipAddress",
    "StreamError",
    "StreamProgress",
    "StreamStarted",
    "StreamStopped",
    "StreamTarget",
    "Subscription",
    "Switchboard",
    "SyncResult",
    "Ticket",
    "TicketPlace",
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
