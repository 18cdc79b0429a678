"""What must never be printed: whole phone numbers and secret-shaped strings."""

from __future__ import annotations

import re

# Seven digits in a row, spaces and punctuation between them allowed, are (unless it is a date) somebody's phone; behind
# a plus sign they are one whatever follows.
_APART = "[ ().\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}-]"
_DIGITS = (
    r"(?:(?!\d{{4}}-\d\d-\d\d)\+?\d(?:{apart}?\d){{6,14}}(?![\w-])"
    r"|(?:\+|%(?:25)?2[Bb]|\\u002[Bb])\d(?:{apart}?\d){{6,14}})"
)
NUMBER = re.compile(r"(?<![\w-])" + _DIGITS.format(apart=_APART))
# In URLs, forms and some JSON a plus sign is %2B, %252B (encoded twice) or \u002B, a space + or %20; the letters and
# digits of such an escape are no part of a word that the number would belong to.
_ESCAPES = ("%[0-9A-Fa-f]{2}", "%25[0-9A-Fa-f]{2}", "%2525[0-9A-Fa-f]{2}", r"\\u[0-9A-Fa-f]{4}")
_AFTER_ESCAPE = "".join(f"|(?<={escape})" for escape in _ESCAPES)
_APART_ENCODED = r"(?:[ ().+\u00a0\u202f-]|%(?:25){0,2}(?:20|28|29|2[DdEe]))"
ENCODED_NUMBER = re.compile(rf"(?:(?<![\w-]){_AFTER_ESCAPE})" + _DIGITS.format(apart=_APART_ENCODED))
SECRETS = re.compile(
    r"(?i)\b(?:KEY[0-9A-F]{16,}[\w-]*|SK[0-9a-f]{32}|sk-[\w-]{20,}|whsec_[\w-]+|oi_[sp]k_[\w-]+|ApiKey_[\w-]+)"
    r"|(?<=bearer )[\w.~+/=-]+|(?<=basic )[\w+/=]+|(?<=/media/)[\w-]{20,}|(?<=[?&]ticket=)[\w-]{20,}"
)


def mask_number(number: str) -> str:
    """``+14155550123`` -> ``+1415…23``: enough to recognise one's own, too little to ring."""
    number = number.strip()
    if len(number) < 7 or not any(c.isdigit() for c in number):
        return number[:16]
    return f"{number[:5]}…{number[-2:]}"


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """``text`` with phone numbers masked and secrets (known ones, and those that look like one) removed."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    text = SECRETS.sub("[secret]", text)
    number = ENCODED_NUMBER if "%" in text or "\\u" in text else NUMBER
    return number.sub(lambda m: mask_number(m.group()), text)
