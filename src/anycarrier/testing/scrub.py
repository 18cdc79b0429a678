"""What must never stand in a cassette, taken out on write, and the scan that proves it.

Secrets, account ids and signatures go; phone numbers become fictional ones (+1 NXX 555-01xx), the same each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from anycarrier.credentials import Credential
from anycarrier.redaction import SECRETS, mask_number

PHONE = re.compile(r"(?:\+|%2B)([1-9]\d{6,14})(?!\d)")
NATIONAL = re.compile(r"\((\d{3})\) ?(\d{3})-(\d{4})")
FICTIONAL = re.compile(r"1[2-9]\d\d55501\d\d")
ACCOUNT = re.compile(r"\bAC(?!0{32})[0-9a-f]{32}\b")
SHAPES = (
    SECRETS,
    re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}"),
    re.compile(r"-----BEGIN [A-Z ]+-----"),
    re.compile(r"(?i)(?:auth_?token|api_?key|password|secret)[\"']?\s*[:=]\s*[\"']?(?!null|none|\[|{)[\w+/=.-]{12,}"),
)
SIGNED_URL = re.compile(r"(?i)([?&](?:[\w-]*token|[\w-]*signature|[\w-]*credential)=)(?!SCRUBBED)[\w%/+.~-]{8,}")
HEADERS_KEPT = re.compile(r"(?i)content-type|retry-after|location|x-ratelimit-[\w-]+")


class Scrubber:
    """Cleans texts of one account; a number or id met twice gets the same stand-in."""

    def __init__(self, credential: Credential | None = None, replace: Mapping[str, str] | None = None) -> None:
        """``replace`` is looked for literally and first: an address of one's own, a subaccount's id."""
        self.replace = dict(replace or {})
        self.secrets: tuple[str, ...] = ()
        if credential is not None:
            self.secrets = tuple(s for s in credential.secrets() if s)
            if credential.account:
                self.replace[credential.account] = re.sub(r"[0-9a-f]", "0", credential.account)
        self._numbers: dict[str, str] = {}
        self._next = count(150)

    def number(self, digits: str) -> str:
        """The fictional number standing in for ``digits`` (no plus sign); itself when it is fictional already."""
        if FICTIONAL.fullmatch(digits):
            return digits
        return self._numbers.setdefault(digits, f"14155550{next(self._next)}")

    def text(self, text: str) -> str:
        """``text`` with nothing of anybody's left in it."""
        for secret in self.secrets:
            text = text.replace(secret, "SCRUBBED")
        for ours, stand_in in self.replace.items():
            text = text.replace(ours, stand_in)
        text = ACCOUNT.sub("AC" + "0" * 32, text)
        text = SECRETS.sub("SCRUBBED", text)
        text = SIGNED_URL.sub(r"\1SCRUBBED", text)
        text = PHONE.sub(lambda m: m[0].removesuffix(m[1]) + self.number(m[1]), text)
        text = NATIONAL.sub(self._national, text)
        for real, stand_in in self._numbers.items():
            text = text.replace(real, stand_in).replace(real[1:], stand_in[1:]) if real[0] == "1" else text
        return text

    def _national(self, match: re.Match[str]) -> str:
        digits = self.number("1" + "".join(match.groups()))
        return f"({digits[1:4]}) {digits[4:7]}-{digits[7:]}"

    def headers(self, headers: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """The few headers that mean something on replay."""
        kept = {name.lower(): values for name, values in headers.items() if HEADERS_KEPT.fullmatch(name)}
        return {name: [values] if isinstance(values, str) else list(values) for name, values in kept.items()}


def findings(text: str) -> list[str]:
    """What looks real in ``text``: each finding says what it is and shows too little of it to be used."""
    found = []
    for shape in (*SHAPES, ACCOUNT, SIGNED_URL):
        found += [f"secret-shaped: {match.group()[:6]}…" for match in shape.finditer(text)]
    for match in PHONE.finditer(text):
        if not FICTIONAL.fullmatch(match[1]):
            found.append(f"not a fictional number: {mask_number('+' + match[1])}")
    for match in NATIONAL.finditer(text):
        if not FICTIONAL.fullmatch("1" + "".join(match.groups())):
            found.append(f"not a fictional number: ({match[1]}) …")
    return found


def scan(folder: Path) -> list[str]:
    """Findings in every file below ``folder``, each with the file it is in."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{path.relative_to(folder)}: {what}" for path in files for what in findings(path.read_text("utf-8"))]
