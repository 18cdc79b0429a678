"""Every parameter of the operations the sandbox simulates, as the carrier's OpenAPI document lists them.

``validation`` explains the rules. ``unsupported`` marks parameters that the carrier has and the sandbox does not act
on: a request with one of them is refused.
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
UNSUPPORTED_ON_ANSWER: Rules = dict.fromkeys(
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
    **UNSUPPORTED_ON_ANSWER,
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
        **UNSUPPORTED_ON_ANSWER,
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


_CALL_DIRECTION: Rules = {"channel_limit": "int 0..?"}
APPLICATION: Rules = {
    "application_name!": "str 1..",
    "webhook_event_url!": "url",
    "active": "bool",
    "anchorsite_override": "str",
    "call_cost_in_webhooks": "bool",
    "dtmf_type": "enum RFC 2833|Inband|SIP INFO",
    "first_command_timeout": "bool",
    "first_command_timeout_secs": "int 0..",
    "inbound": {
        **_CALL_DIRECTION,
        "shaken_stir_enabled": "bool",
        "sip_subdomain": "str?",
        "sip_subdomain_receive_settings": "enum only_my_connections|from_anyone",
    },
    "outbound": {**_CALL_DIRECTION, "outbound_voice_profile_id": "str?"},
    "redact_dtmf_debug_logging": "bool",
    "webhook_api_version": "enum 1|2",
    "webhook_event_failover_url": "any",
    "webhook_timeout_secs": "int 0..30?",
}
APPLICATION_PATCH: Rules = {**APPLICATION, "tags": ["str"]}

PAGE: Rules = {"page[number]": "int 1..", "page[size]": "int 1..250"}
ORDER: Rules = {
    "phone_numbers!": [{"phone_number!": "e164", "requirement_group_id": "str", "bundle_id": "str"}],
    "connection_id": "str",
    "billing_group_id": "str",
    "customer_reference": "str",
    "messaging_profile_id": "str",
}
ORDERS: Rules = {
    **PAGE,
    **dict.fromkeys(
        (f"filter[{name}]" for name in ("status", "customer_reference", "phone_numbers_count", "created_at][gt",
                                        "created_at][lt")),
        "str",
    ),
    "filter[requirements_met]": "bool",
}
CURSOR: Rules = {**PAGE, **dict.fromkeys(("page[after]", "page[before]", "page[limit]"), "unsupported")}
NUMBER_PATCH: Rules = {
    **dict.fromkeys(("id", "address_id", "billing_group_id", "connection_id", "customer_reference"), "str"),
    "external_pin": "str",
    "hd_voice_enabled": "bool",
    "tags": ["str"],
}
VOICE_PATCH: Rules = {
    "call_forwarding": {
        "call_forwarding_enabled": "bool",
        "forwarding_type": "enum always|on-failure",
        "forwards_to": "str",
    },
    "call_recording": {
        "inbound_call_recording_enabled": "bool",
        "inbound_call_recording_channels": "enum single|dual",
        "inbound_call_recording_format": "enum wav|mp3",
    },
    "caller_id_name_enabled": "bool",
    "cnam_listing": {"cnam_listing_details": "str", "cnam_listing_enabled": "bool"},
    "inbound_call_screening": "enum disabled|reject_calls|flag_calls",
    "media_features": "obj",
    "tech_prefix_enabled": "bool",
    "translated_number": "str",
    "usage_payment_method": "enum pay-per-minute|channel",
}
SEARCH: Rules = {
    "filter[country_code]": "str 2..2",
    **dict.fromkeys(
        (f"filter[{name}]" for name in ("administrative_area", "locality", "national_destination_code", "rate_center")),
        "str",
    ),
    **dict.fromkeys(
        (f"filter[{name}]" for name in ("best_effort", "exclude_held_numbers", "quickship", "reservable")), "bool"
    ),
    **dict.fromkeys((f"filter[phone_number][{name}]" for name in ("contains", "ends_with", "starts_with")), "str"),
    "filter[features]": ["enum sms|mms|voice|fax|emergency|hd_voice|international_sms|local_calling"],
    "filter[phone_number_type]": "enum local|toll_free|mobile|national|shared_cost",
    "filter[limit]": "int 1..",
}
_NAME_FILTERS = ("contains", "ends_with", "eq", "starts_with")
OWN_NUMBERS: Rules = {
    **PAGE,
    **dict.fromkeys(
        (f"filter[{name}]" for name in ("phone_number", "connection_id", "customer_reference", "tag", "status",
                                        "billing_group_id", "emergency_address_id")), "str"
    ),
    **dict.fromkeys((f"filter[voice.connection_name][{name}]" for name in _NAME_FILTERS), "str"),
    "filter[country_iso_alpha2]": ["str"],
    "filter[number_type][eq]": "enum local|national|toll_free|mobile|shared_cost",
    "filter[without_tags]": "enum true|false",
    "filter[source]": "unsupported",
    "filter[voice.usage_payment_method]": "unsupported",
    "sort": "enum purchased_at|phone_number|connection_name|usage_payment_method",
    "handle_messaging_profile_error": "enum true|false",
}
# The document gives this list the filters of call events too.
APPLICATIONS: Rules = {
    **CURSOR,
    **dict.fromkeys(
        (f"filter[{name}]" for name in ("application_session_id", "connection_id", "failed", "from", "leg_id", "name",
                                        "occurred_at][eq", "occurred_at][gt", "occurred_at][gte", "occurred_at][lt",
                                        "occurred_at][lte", "outbound.outbound_voice_profile_id", "product", "status",
                                        "to", "type")),
        "unsupported",
    ),
    "filter[application_name][contains]": "str",
    "sort": "enum created_at|connection_name|active|-created_at|-connection_name|-active",
}
PROFILES: Rules = {**PAGE, "filter[name][contains]": "str", "sort": "str"}
RECORDINGS: Rules = {
    **PAGE,
    **dict.fromkeys(
        (f"filter[{name}]" for name in ("call_control_id", "call_leg_id", "call_session_id", "connection_id",
                                        "from", "to", "created_at][gte", "created_at][lte", "end_time][gte",
                                        "end_time][lte", "start_time][gte", "start_time][lte")),
        "str",
    ),
    **dict.fromkeys(("filter[conference_id]", "filter[conference_region]", "filter[sip_call_id]"), "unsupported"),
}
