"""Names of rows. One uuid per row; the faces show it as ``call_<32 hex>`` or as a plain uuid, and read both."""

from __future__ import annotations

from uuid import UUID, uuid4

PREFIXES = {
    "workspace": "org",
    "key": "key",
    "agent": "agt",
    "credential": "crd",
    "line": "phn",
    "call": "call",
    "rule": "rul",
    "subscription": "wh",
    "event": "evt",
    "delivery": "dlv",
    "recording": "rec",
}


def new_id() -> UUID:
    """A fresh random id."""
    return uuid4()


def public_id(kind: str, id_: UUID) -> str:
    """``agt_5f0c...``: how an id of this kind is written in JSON, in logs and in ``Line.agent_id``."""
    return f"{PREFIXES[kind]}_{id_.hex}"


def parse_id(kind: str, text: str | UUID | None) -> UUID | None:
    """The uuid in ``agt_<hex>``, a plain uuid or 32 hex digits; None for anything else (so: unknown, 404)."""
    if isinstance(text, UUID) or text is None:
        return text
    bare = text.removeprefix(PREFIXES[kind] + "_")
    if len(bare) not in (32, 36):
        return None
    try:
        parsed = UUID(bare)
    except ValueError:
        return None
    # uuid.UUID also reads braces and urn: forms; ids have exactly two spellings.
    return parsed if bare.lower() in (parsed.hex, str(parsed)) else None
