"""Errors name the provider, the operation and the next step, and keep secrets and numbers to themselves."""

import ast
import inspect
import re

import pytest

from anycarrier import errors
from anycarrier.numbers import e164
from anycarrier.redaction import mask_number, redact


def test_a_provider_error_reads_as_a_sentence_with_a_next_step() -> None:
    error = errors.NumberRejected("acme", "dial", "'To' number is not valid", status=400, code="21")
    assert str(error) == (
        "acme refused dial (21): 'To' number is not valid. "
        "Check the number is E.164, like +14155550100, and in service."
    )
    assert (error.provider, error.operation, error.status, error.code) == ("acme", "dial", 400, "21")


def test_only_an_unavailable_dial_has_an_unknown_outcome() -> None:
    assert errors.ProviderUnavailable("acme", "dial").outcome_unknown
    assert not errors.ProviderUnavailable("acme", "search_numbers").outcome_unknown
    assert "do not dial again before checking" in str(errors.ProviderUnavailable("acme", "dial"))


def test_a_rate_limit_says_how_long_to_wait() -> None:
    assert "Wait 2.5 s" in str(errors.RateLimited("acme", "dial", retry_after=2.5))


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("call to +919876543210 failed", "9876543210"),
        ("from (415) 555-0100 ext", "555-0100"),
        ("GET /phone_numbers?filter%5Bphone_number%5D=%2B14155550111&page=1", "4155550111"),
        ("GET /v1/calls?to_number=%2b14155550111 HTTP/1.1", "4155550111"),
        ("To=%2B14155550111&From=%2B14155550142", "4155550142"),
        ("next=%252Fcalls%253Fto%253D%252B14155550111", "4155550111"),
        ("sip%3A%2B14155550111%40pbx.example.com", "4155550111"),
        ("sip%3A14155550111%40pbx.example.com", "4155550111"),
        ("To=%2B1%20%28415%29%20555-0111&x", "555-0111"),
        ("To=%2B1+415+555+0111", "555+0111"),
        ("sip:+14155550111@pbx.example.com;user=phone", "4155550111"),
        (r'{"to":"\u002B14155550111"}', "4155550111"),
        ("no such number: +14155550111x", "4155550111"),
        ("To=%2b14155550111abc", "4155550111"),
        ("tel +1\N{NO-BREAK SPACE}415\N{NO-BREAK SPACE}555\N{NO-BREAK SPACE}0111", "0111"),
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ("bad key KEY0123456789ABCDEF0123_x", "KEY0123456789ABCDEF"),
        ("bad key sk-proj-abcdefghijklmnop0123456789", "sk-proj-abc"),
        ("GET /media/AbCdEfGhIjKlMnOpQrStUv 101", "AbCdEfGhIjKlMnOpQrStUv"),
        ("token s3cr3t-value refused", "s3cr3t-value"),
    ],
)
def test_redaction(text: str, gone: str) -> None:
    assert gone not in redact(text, ("s3cr3t-value",))


def test_ids_and_codes_survive_redaction() -> None:
    text = "error 21211 on 2026-11-20, call v3:abc, request RQ12"
    assert redact(text) == text
    url = "GET /calls?on=2026-11-20&page%5Bsize%5D=250&id=4fe2b14155550111&trace=%7B00-2b14155550111ff%7D"
    assert redact(url) == url


def test_a_message_is_for_anybody_and_what_to_program_is_a_note() -> None:
    """The same messages are printed by the command line and answered by the HTTP APIs."""
    known = {
        "credential_id": "main", "number": "+14155550100", "call_id": "c1", "provider": "acme", "operation": "dial",
    }  # fmt: skip
    with_notes = (
        errors.UnknownCredential, errors.NumberNotAssigned, errors.NumberAlreadyAssigned, errors.UnknownCall,
        errors.CallUnconfirmed, errors.ProviderUnavailable,
    )  # fmt: skip
    for kind in with_notes:
        names = [name for name in inspect.signature(kind).parameters if name in known]
        error = kind(*(known[name] for name in names))
        assert "exchange." in "".join(error.__notes__).lower() or "Exchange(" in "".join(error.__notes__)
    messages = [
        node.value
        for call in ast.walk(ast.parse(inspect.getsource(errors)))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "__init__"
        for node in ast.walk(call)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(messages) > 30
    assert not [text for text in messages if re.search(r"exchange\.|Exchange\(|\w=|lambda", text)]
    assert "exchange" not in str(errors.ProviderUnavailable("acme", "dial"))


def test_every_error_is_a_anycarrier_error_and_in_the_drawn_tree() -> None:
    drawn = errors.__doc__ or ""
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    ours = [c for c in classes if c is not errors.StoreUnavailable]  # a platform's store raises it, and says why
    assert all(issubclass(c, errors.AnycarrierError) for c in ours)
    assert all(c.__name__ in drawn for c in classes)


@pytest.mark.parametrize(
    "text",
    ["", "4155550100", "+0155", "+1 415 555 0100", "0049301234", "+1415555010a", "+1" * 10, "+12345", "+1٤155550100"],
)
def test_what_is_not_e164_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidNumber):
        e164(text)


def test_a_masked_number_cannot_be_rung() -> None:
    assert mask_number("+14155550123") == "+1415…23"
