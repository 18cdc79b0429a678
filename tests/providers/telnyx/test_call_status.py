"""Why a call ended: Telnyx's cause, who hung up and the SIP code come to one reason of ours."""

from __future__ import annotations

import pytest

from anycarrier.calls import Direction, EndReason
from anycarrier.parsing import sip_code
from anycarrier_telnyx.wire import end_reason

R = EndReason
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


@pytest.mark.parametrize(
    ("cause", "source", "sip", "direction", "reason"),
    [
        ("normal_clearing", "caller", 200, IN, R.USER_HANGUP),
        ("normal_clearing", "callee", 200, IN, R.AGENT_HANGUP),
        ("normal_clearing", "caller", 200, OUT, R.AGENT_HANGUP),
        ("normal_clearing", "callee", None, OUT, R.USER_HANGUP),
        ("normal_clearing", "unknown", None, OUT, R.USER_HANGUP),
        ("normal_clearing", "caller", 200, Direction.UNKNOWN, R.USER_HANGUP),
        ("normal_clearing", "callee", 200, Direction.UNKNOWN, R.USER_HANGUP),
        ("user_busy", "callee", 487, OUT, R.BUSY),
        ("normal_clearing", "callee", 503, OUT, R.USER_HANGUP),
        ("normal_clearing", "callee", 486, OUT, R.BUSY),
        ("time_limit", "unknown", 200, OUT, R.MAX_DURATION),
        ("time_limit", "unknown", 503, IN, R.MAX_DURATION),
        ("user_busy", "callee", 486, OUT, R.BUSY),
        ("user_busy", "callee", None, OUT, R.BUSY),
        ("unspecified", "callee", 600, OUT, R.BUSY),
        ("timeout", "unknown", None, OUT, R.NO_ANSWER),
        ("timeout", "unknown", 487, OUT, R.NO_ANSWER),
        ("no_answer", "unknown", 487, OUT, R.NO_ANSWER),
        ("no_answer", "unknown", 408, OUT, R.NO_ANSWER),
        ("unspecified", "unknown", 480, OUT, R.NO_ANSWER),
        ("originator_cancel", "caller", 487, OUT, R.CANCELED),
        ("originator_cancel", "caller", None, IN, R.CANCELED),
        ("unspecified", "unknown", 487, OUT, R.CANCELED),
        ("call_rejected", "callee", 603, OUT, R.REJECTED),
        ("call_rejected", "callee", None, OUT, R.REJECTED),
        ("call_rejected", "callee", 607, OUT, R.MARKED_AS_SPAM),
        ("call_rejected", "callee", 608, OUT, R.MARKED_AS_SPAM),
        ("call_rejected", "callee", 403, OUT, R.PROVIDER_PERMISSION_DENIED),
        ("not_found", "callee", 404, OUT, R.INVALID_NUMBER),
        ("not_found", "callee", None, OUT, R.INVALID_NUMBER),
        ("unspecified", "unknown", 410, OUT, R.INVALID_NUMBER),
        ("unspecified", "unknown", 484, OUT, R.INVALID_NUMBER),
        ("unspecified", "unknown", 401, OUT, R.PROVIDER_AUTH_FAILED),
        ("unspecified", "unknown", 407, OUT, R.PROVIDER_AUTH_FAILED),
        ("unspecified", "unknown", 403, OUT, R.PROVIDER_PERMISSION_DENIED),
        ("unspecified", "unknown", 503, OUT, R.PROVIDER_UNAVAILABLE),
        ("unspecified", "unknown", 500, OUT, R.PROVIDER_UNAVAILABLE),
        ("unspecified", "unknown", 488, OUT, R.UNREACHABLE),
        ("unspecified", "unknown", None, OUT, None),
        ("a word of tomorrow", "", None, OUT, None),
        ("", "", 486, OUT, R.BUSY),
    ],
)
def test_reasons(cause, source, sip, direction, reason):
    assert end_reason(cause, source, sip, direction) is reason


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("486", 486), (603, 603), ("unspecified", None), ("", None), (None, None), (0, None), ("0", None),
        ("7000", None), (700, None), (True, None), (48.6, None), ("\u0664\u0668\u0666", None), ([486], None),
    ],
)
def test_sip_codes_come_as_text_number_or_not_at_all(value, code):
    assert sip_code(value) == code
