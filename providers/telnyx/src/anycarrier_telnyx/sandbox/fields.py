"""Every parameter of the call commands the sandbox plays, as the carrier's OpenAPI document lists them.

The rule language is ``rules``. ``unsupported`` marks what the carrier knows but the sandbox cannot act out:
such a request is refused rather than half obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rules = Mapping[str, Any]

CODECS = "PCMU|PCMA|G722|OPUS|AMR-WB|L16"
HEADERS = [{"name!": "str", "value!": "str"}]
COMMAND: Rules = {"client_state": "state", "command_id": "str 1.."}

WEBHOOK: Rules = {
    "webhook_url": "url",
    "webhook_url_method": "enum POST",  # GET exists, but whether and how it is signed is not known
    "webhook_urls": "obj",
    "webhook_urls_method": "enum POST",
    "webhook_retries_policies": "obj",
}
STREAM_ON_ANSWER: Rules = {
    "stream_url": "ws",
    "stream_track": "enum inbound_track|outbound_track|both_tracks",
    "stream_codec": f"enum {CODECS}|default",
    "stream_bidirectional_mode": "enum mp3|rtp",
    "stream_bidirectional_codec": f"enum {CODECS}",
    "stream_bidirectional_target_legs": "enum both|self|opposite",
}
STREAM: Rules = {
    **STREAM_ON_ANSWER,
    "stream_bidirectional_sampling_rate": "enum 8000|16000|22050|24000|48000",
    "stream_auth_token": "str ..4000",
}
RECORD: Rules = {
    "record": "enum record-from-answer",
    "record_channels": "enum single|dual",
    "record_custom_file_name": "str 1..40",
    "record_format": "enum wav|mp3",
    "record_max_length": "int 0..",
    "record_timeout_secs": "int 0..",
    "record_track": "enum both|inbound|outbound",
    "record_trim": "enum trim-silence",
}
UNPLAYED_ON_ANSWER: Rules = dict.fromkeys(
    ("assistant", "conversation_relay_config", "deepfake_detection", "transcription", "transcription_config"),
    "unsupported",
)
SIP: Rules = {"custom_headers": HEADERS, "sip_headers": [{"name!": "enum User-to-User", "value!": "str"}]}
OUTGOING: Rules = {
    **COMMAND,
    **WEBHOOK,
    **RECORD,
    **SIP,
    "answering_machine_detection": "enum premium|detect|detect_beep|detect_words|greeting_end|disabled",
    "answering_machine_detection_config": "obj",
    "from_display_name": "str ..128",
    "media_encryption": "enum disabled|SRTP|DTLS",
    "preferred_codecs": "str",
    "privacy": "enum id|none",
    "send_digits_on_answer": "digits",
    "sip_auth_password": "str",
    "sip_auth_username": "str",
    "sip_region": "enum US|Europe|Canada|Australia|Middle East",
    "sip_transport_protocol": "enum UDP|TCP|TLS",
    "sound_modifications": "obj",
    "time_limit_secs": "int 30..14400",
    "timeout_secs": "int 5..600",
    "audio_url": "unsupported",
    "media_name": "unsupported",
    "park_after_unbridge": "enum self",
}
DIAL: Rules = {
    **OUTGOING,
    **STREAM,
    **UNPLAYED_ON_ANSWER,
    **dict.fromkeys(
        ("conference_config", "dialogflow_config", "enable_dialogflow", "supervise_call_control_id",
         "supervisor_role", "stream_establish_before_call_originate"),
        "unsupported",
    ),
    "connection_id!": "str",
    "to!": "any",
    "from!": "e164",
    "billing_group_id": "str",
    "bridge_intent": "bool",
    "bridge_on_answer": "bool",
    "link_to": "str",
    "prevent_double_bridge": "bool",
    "retry_on_timeout": "bool",
    "send_silence_when_idle": "bool",
}
STREAMING_START: Rules = {
    **COMMAND,
    **STREAM,
    "custom_parameters": [{"name": "str", "value": "str"}],
    "dialogflow_config": "unsupported",
    "enable_dialogflow": "unsupported",
}
RECORDING_ID: Rules = {**COMMAND, "recording_id": "str"}
ACTIONS: Mapping[str, Rules] = {
    "answer": {
        **COMMAND,
        **WEBHOOK,
        **STREAM_ON_ANSWER,
        **RECORD,
        **SIP,
        **UNPLAYED_ON_ANSWER,
        "billing_group_id": "str",
        "preferred_codecs": "str",
        "send_silence_when_idle": "bool",
        "sound_modifications": "obj",
    },
    "reject": {**COMMAND, "cause!": "enum CALL_REJECTED|USER_BUSY"},
    "hangup": {**COMMAND, "custom_headers": HEADERS},
    "bridge": {
        **COMMAND,
        "call_control_id!": "str",
        "park_after_unbridge": "enum self",
        "play_ringtone": "bool",
        "prevent_double_bridge": "bool",
        "mute_dtmf": "enum none|both|self|opposite",
    },
    "transfer": {
        **OUTGOING,
        "to!": "dialled",
        "from": "e164",
        "early_media": "bool",
        "mute_dtmf": "enum none|both|self|opposite",
        "target_leg_client_state": "state",
    },
    "refer": {
        **COMMAND,
        **SIP,
        "sip_address!": "str",
        "sip_auth_password": "str",
        "sip_auth_username": "str",
    },
    "send_dtmf": {**COMMAND, "digits!": "digits", "duration_millis": "int 100..500"},
    "speak": {
        **COMMAND,
        "payload!": "str ..3000",
        "voice!": "str",
        "payload_type": "enum text|ssml",
        "service_level": "enum basic|premium",
        "language": "str",
        "target_legs": "enum self|opposite|both",
        "loop": "any",
        "stop": "enum current|all",
        "voice_settings": "obj",
    },
    "record_start": {
        **COMMAND,
        "format!": "enum wav|mp3",
        "channels!": "enum single|dual",
        "custom_file_name": "str 1..40",
        "max_length": "int 0..",
        "play_beep": "bool",
        "recording_track": "enum both|inbound|outbound",
        "timeout_secs": "int 0..",
        "trim": "enum trim-silence",
        "transcription": "unsupported",
    },
    "record_stop": RECORDING_ID,
    "record_pause": RECORDING_ID,
    "record_resume": RECORDING_ID,
    "streaming_start": STREAMING_START,
    "streaming_stop": {**COMMAND, "stream_id": "str"},
    "client_state_update": {"client_state!": "state"},
}
