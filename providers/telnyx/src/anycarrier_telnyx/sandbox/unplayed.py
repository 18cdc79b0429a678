"""What the carrier documents and the sandbox does not play: named when it is asked for, not called unknown.

Operations as the OpenAPI document lists them; call commands beside these are those of the official SDK. List filters
that are not acted on stand with their lists, in ``account_fields``.
"""

from __future__ import annotations

COMMANDS = """
    ai_assistant_add_messages ai_assistant_join ai_assistant_start ai_assistant_stop conversation_relay_start
    conversation_relay_stop enqueue fork_start fork_stop gather gather_stop gather_using_ai gather_using_audio
    gather_using_speak leave_queue pay playback_start playback_stop send_sip_info siprec_start siprec_stop
    suppression_start suppression_stop switch_supervisor_role transcription_start transcription_stop
""".split()

OPERATIONS: list[tuple[str, str]] = [
    *(("POST", f"/calls/{{id}}/actions/{name}") for name in COMMANDS),
    ("GET", "/call_events"),
    ("GET", "/conferences"),
    ("POST", "/conferences"),
    ("GET", "/connections"),
    ("GET", "/connections/{id}"),
    ("GET", "/number_order_phone_numbers"),
    ("GET", "/number_order_phone_numbers/{id}"),
    ("PATCH", "/number_order_phone_numbers/{id}"),
    ("PATCH", "/number_orders/{id}"),
    ("GET", "/number_reservations"),
    ("POST", "/number_reservations"),
    ("GET", "/number_reservations/{id}"),
    ("POST", "/outbound_voice_profiles"),
    ("GET", "/outbound_voice_profiles/{id}"),
    ("PATCH", "/outbound_voice_profiles/{id}"),
    ("DELETE", "/outbound_voice_profiles/{id}"),
    ("GET", "/phone_numbers/voice"),
    ("GET", "/sub_number_orders"),
    ("GET", "/sub_number_orders/{id}"),
    ("PATCH", "/sub_number_orders/{id}"),
    ("POST", "/verified_numbers"),
    ("GET", "/webhook_deliveries"),
    ("GET", "/webhook_deliveries/{id}"),
]
