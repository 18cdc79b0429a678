"""Parameters of the account's resources: applications, numbers, orders, searches, lists. See ``fields``."""

from __future__ import annotations

from anycarrier_telnyx.sandbox.fields import Rules

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
