"""docs/provider-reference.md: what a carrier plugin is written with, from signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from enum import Enum
from types import ModuleType
from typing import Any

from anycarrier import (
    audio,
    calls,
    credentials,
    events,
    listener,
    markup,
    networks,
    numbers,
    own_trunks,
    parsing,
    provider,
    refusals,
    rest,
    serializer,
    sip,
    web_tokens,
    webhooks,
)
from anycarrier.testing import far_end, far_end_audio, sandbox, sandbox_numbers
from anycarrier.testing.conformance import kit

HEAD = """\
# What a provider is written with

Signatures and descriptions, made from the code; do not edit. [Write a provider](write-a-provider.md) shows how
they are used. A method of `Provider` that you do not override raises `UnsupportedOperation`, unless its
description says what it does.
"""

PARTS: tuple[tuple[str, ModuleType, str], ...] = (
    ("The contract", provider, "Provider Capability TicketPlace TrialPhone"),
    ("Its REST API", rest, "RestApi given"),
    ("Its refusals", refusals, "Meaning"),
    ("JSON Web Tokens", web_tokens, "signed_token token_claims is_of"),
    ("Hosts", networks, "on_domain"),
    ("XML", markup, "element document Markup fits_xml read_xml texts"),
    ("Calls", calls, "Call CallStatus EndReason Direction Price TransferStatus DialRequest MachineDetection"
                     " StreamTarget reason_of_sip price_of"),
    ("Events", events, ""),
    ("Numbers", numbers, "NumberQuery NumberType NumberFeature AvailableNumber NumberRequirement OwnedNumber"
                         " PendingOrder SyncResult e164 normal country_of"),
    ("Credentials", credentials, "Credential trimmed"),
    ("Webhooks", webhooks, "WebhookRequest WebhookReply require_login basic_login"),
    ("Media frames", serializer, "MediaSerializer"),
    ("Audio", audio, "AudioFormat silence pcmu_to_pcm16 pcm16_to_pcmu pcma_to_pcm16 pcm16_to_pcma pcmu_to_pcma"
                     " pcma_to_pcmu swap16 Transcoder dtmf_tones"),
    ("Reading messages", parsing, "reading unreadable explain moment seconds integer sip_code decimal fingerprint"),
    ("SIP addresses and headers", sip, "is_sip destination host_name headers_of checked_headers"),
    ("Trunks of your own", own_trunks, "OwnTrunks"),
    ("Sockets of your own", listener, "Listener OperatedListener Desk MediaTransport PushTransport"),
    ("The conformance kit", kit, "Kit"),
    ("For a sandbox", sandbox, "Sandbox Delivery RestRequest WebhookSender may_stream_to"),
    ("Its telephone", far_end, "FarEnd"),
    ("Its sounds", far_end_audio, "PlaybackBuffer Microphone tone greeting beep fax key_tone keys_heard"),
    ("Its numbers", sandbox_numbers, "Outcome Login outcome_of login_of NumberForSale NumberInventory"),
)  # fmt: skip

OF_THE_KIT = {"sign", "mirror"}
"""What a carrier's test may override; the rest is how the checks are written."""


def provider_reference() -> str:
    text = HEAD
    for title, module, names in PARTS:
        text += f"\n## {title}\n\n`{module.__name__}`\n"
        defined = [name for name, value in vars(module).items()
                   if getattr(value, "__module__", "") == module.__name__ and name[0].isupper()]  # fmt: skip
        text += "".join(_named(name, getattr(module, name)) for name in names.split() or defined)
    return text


def _named(name: str, value: Any) -> str:
    if not inspect.isclass(value):
        return f"\n`{name}{_signature(value)}`: {_said(value)}\n"
    base = value.__bases__[0]
    of = f"; a `{base.__name__}`" if base.__module__ == value.__module__ and not base.__name__.startswith("_") else ""
    made = f"`{name}{_signature(value.__init__).split(' -> ')[0]}`{of}\n\n" if "__init__" in vars(value) else ""
    text = f"\n### {name}\n\n{made or (of and f'A{of[3:]}. ')}{_said(value)}\n"
    if issubclass(value, Enum):
        return text + "\nMembers: " + ", ".join(f"`{member.name}`" for member in value) + ".\n"
    if rows := _attributes(value):
        text += "\n| field or attribute | type | |\n| --- | --- | --- |\n" + "".join(rows)
    if set_when_made := _set_when_made(value):
        text += "\nAttributes: " + ", ".join(f"`{name}`" for name in set_when_made) + ".\n"
    if rows := _methods(value):
        text += "\n| method | what it does |\n| --- | --- |\n" + "".join(rows)
    return text


def _attributes(kind: type) -> list[str]:
    """Annotated names of the class body, with their defaults and what is written below them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    rows = []
    for node, after in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
        if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target).startswith("_"):
            continue
        said = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            said = _plain(after.value.value)
        default = "" if node.value is None else f" = {ast.unparse(node.value)}"
        annotation = re.sub(r"^ClassVar\[(.*)\]$", r"\1", ast.unparse(node.annotation).strip("'"))
        rows.append(f"| `{ast.unparse(node.target)}` | `{_cell(annotation + default)}` | {_cell(said)} |\n")
    return rows


def _set_when_made(kind: type) -> list[str]:
    """Public attributes that ``__init__`` sets."""
    if "__init__" not in vars(kind) or "__dataclass_fields__" in vars(kind):
        return []
    body = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__)))  # type: ignore[misc]
    targets = (target for node in ast.walk(body) if isinstance(node, ast.Assign | ast.AnnAssign)
               for target in ast.walk(node) if isinstance(target, ast.Attribute))  # fmt: skip
    names = (target.attr for target in targets if isinstance(target.ctx, ast.Store) and not target.attr.startswith("_"))
    return [*dict.fromkeys(names)]


def _methods(kind: type) -> list[str]:
    rows = []
    for name, value in vars(kind).items():
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        if name.startswith("_") or (kind is kit.Kit and name not in OF_THE_KIT):
            continue
        if isinstance(value, property):
            rows.append(f"| `{name}` | {_cell(_said(value))} |\n")
        elif inspect.isfunction(value):
            called = "await " * inspect.iscoroutinefunction(value) + name + _signature(value)
            rows.append(f"| `{_cell(called)}` | {_cell(_said(value))} |\n")
    return rows


def _signature(value: Any) -> str:
    signature = inspect.signature(value)
    kept = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=kept)))
    text = re.sub(r"<(\w+\.\w+): \w+>|<factory>", r"\1", text)
    return re.sub(r"\b(anycarrier\.\w+|collections\.abc|typing)\.", "", text)


def _said(value: Any) -> str:
    return _plain(inspect.getdoc(value) or "")


def _plain(docstring: str) -> str:
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", docstring.replace("``", "`"))
    return re.sub(r"\s*\n\s*", " ", text.split(">>>")[0]).strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
