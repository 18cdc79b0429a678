"""The pure parts: ranges of time, and what a call's end is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from anycarrier.calls import EndReason
from anycarrier_server.inkbox import FACE, call_views, fields
from anycarrier_server.inkbox.call_views import CallPlaced, CallShown, call_shown, how_it_stands
from anycarrier_server.inkbox.phone_numbers import NumberShown
from anycarrier_server.refusals import Invalid
from anycarrier_server.store.models import CallRow, Segment

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)


def row(**fields: object) -> CallRow:
    given = {
        "id": uuid4(), "direction": "outbound", "from_number": "+12125550100", "to_number": "+12125550177",
        "status": "ended", "stage": "failed", "is_blocked": False, "options": {}, "created_at": NOW, "updated_at": NOW,
        **fields,
    }  # fmt: skip
    return CallRow(**given)


@pytest.mark.parametrize(
    ("text", "zone", "first", "past"),
    [
        ("2026-03-08", None, "2026-03-08T00:00:00+00:00", "2026-03-09T00:00:00+00:00"),
        ("2026-03-08", "America/New_York", "2026-03-08T05:00:00+00:00", "2026-03-09T04:00:00+00:00"),
        ("2026-01-31T12:00", "Asia/Tokyo", "2026-01-31T03:00:00+00:00", "2026-01-31T03:00:00.000001+00:00"),
        ("2026-01-31T12:00:00Z", "Asia/Tokyo", "2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00.000001+00:00"),
        ("2026-01-31T12:00:00+02:00", None, "2026-01-31T10:00:00+00:00", "2026-01-31T10:00:00.000001+00:00"),
        ("2026-01-31T12:00:00 02:00", None, "2026-01-31T10:00:00+00:00", "2026-01-31T10:00:00.000001+00:00"),
    ],
)
def test_a_range_is_read_in_the_zone_it_is_meant_in(text: str, zone: str | None, first: str, past: str) -> None:
    where = fields.zone_named(zone)
    assert fields.first_instant(text, where).isoformat() == first
    assert fields.past_the_end(text, where).isoformat() == past


@pytest.mark.parametrize("text", ["", "today", "2026-02-30", "20260131", "9999-12-31", "2026-01-31T25:00", "2026-W1"])
def test_what_is_no_time_is_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        fields.past_the_end(text, fields.zone_named(None))


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "America", "\x01", "x" * 300])
def test_what_is_no_zone_is_invalid(name: str) -> None:
    with pytest.raises(Invalid):
        fields.zone_named(name)


@pytest.mark.parametrize("answered", [None, NOW])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize("reason", [*EndReason, None])
def test_every_end_has_a_status_and_a_reason_the_contract_knows(
    reason: str | None, direction: str, answered: datetime | None
) -> None:
    status, why = how_it_stands(row(reason=reason, direction=direction, answered_at=answered))
    assert status in ("completed", "canceled", "failed")
    assert why in (None, "local", "remote", "max_duration", "voicemail", "rejected")
    assert answered is not None or status != "completed"


def test_who_gave_up_before_the_answer_depends_on_who_rang() -> None:
    assert how_it_stands(row(reason="canceled", direction="inbound")) == ("canceled", "remote")
    assert how_it_stands(row(reason="canceled", direction="outbound")) == ("canceled", "local")


def test_lists_in_a_call_are_never_null_and_neither_is_a_filter_mode() -> None:
    shown = call_shown(row(reason="busy")).model_dump()
    assert (shown["post_call_action_items"], shown["forwardings"], shown["connections"]) == ([], [], [])
    for model, never_null in (
        (CallShown, ("post_call_action_items", "forwardings", "origin", "on_voicemail", "voicemail_detection")),
        (CallPlaced, ("rate_limit",)),
        (NumberShown, ("filter_mode", "number", "type", "status", "incoming_call_action")),
    ):
        properties = model.model_json_schema(mode="serialization")["properties"]
        for name in never_null:
            assert {"type": "null"} not in properties[name].get("anyOf", []), (model, name)


def segments(count: int) -> list[Segment]:
    call = uuid4()
    return [
        Segment(call_id=call, seq=n, ts_ms=1000 * n, party="remote", text=f"turn {n}", created_at=NOW + timedelta(n))
        for n in range(count)
    ]


def test_a_long_conversation_is_sent_without_its_middle() -> None:
    told = call_views.transcript_excerpt(segments(100), "+12125550100", "https://example.com/t")
    assert told is not None and told["abridged"]
    assert told["entries"][40] == {"marker": "abridged", "omitted_turns": 20, "omitted_ms": 20_000}
    assert [turn["text"] for turn in (told["entries"][39], told["entries"][41])] == ["turn 39", "turn 60"]
    whole = call_views.transcript_excerpt(segments(80), "+12125550100", "https://example.com/t")
    assert whole is not None and not whole["abridged"] and len(whole["entries"]) == 80
    assert call_views.transcript_excerpt([], "+12125550100", "https://example.com/t") is None


def test_no_address_is_declared_twice() -> None:
    spelled = [(endpoint.method, endpoint.path) for endpoint in FACE.endpoints]
    assert len(spelled) == len(set(spelled)) and all(path.startswith("/api/") for _, path in spelled)
