"""Who we are to Plivo: the auth id and auth token of an account; and how webhooks prove that they know the token.

Signatures are of version 3: over the URL, all parameters and a nonce. Version 2 covers no parameter: never accepted.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr, ValidationInfo, field_validator

from anycarrier.credentials import Credential
from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest

AUTH_ID = re.compile(r"(MA|SA)[A-Z0-9]{18}")
AUTH_TOKEN = re.compile(rf"(?!{AUTH_ID.pattern}$)[A-Za-z0-9+/=_-]{{8,}}")
NONCE = "x-plivo-signature-v3-nonce"
SIGNATURES = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")  # by the number's account, and by the main one


class PlivoCredential(Credential):
    """What Plivo's console shows on its overview page. The token logs in, and signs webhooks."""

    provider: str = "plivo"
    auth_id: str  # MA... of an account, SA... of a sub-account
    auth_token: SecretStr
    base_url: str | None = None  # a sandbox's address, in tests

    @field_validator("auth_id", "auth_token")
    @classmethod
    def _is_whole(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        shape, text = (AUTH_ID, value) if isinstance(value, str) else (AUTH_TOKEN, value.get_secret_value())
        if not shape.fullmatch(text):
            raise ValueError(f"{cls.label(str(info.field_name))} is not whole or alone; auth_id: MA or SA, 18 A-Z0-9")
        return value

    @property
    def account(self) -> str:
        return self.auth_id


def sign(auth_token: str, nonce: str, url: str, form: Iterable[tuple[str, str]] = ()) -> str:
    """The signature of a request to ``url``, as its receiver knows it, with the pairs of a posted form."""
    parts = urlsplit(url)
    query = "&".join("=".join(pair) for pair in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    posted = "".join(key + value for key, value in sorted(form))
    told = f"?{query}{'.' if query and posted else ''}{posted}" if query or posted else ""
    signed = f"{parts.scheme}://{parts.netloc}{parts.path}{told}.{nonce}"
    return base64.b64encode(hmac.digest(auth_token.encode(), signed.encode(), "sha256")).decode()


def check(request: WebhookRequest, auth_token: str) -> None:
    """Return if ``request`` was signed with ``auth_token``, else raise ``SignatureInvalid``."""
    sent = ",".join(request.header(name) or "" for name in SIGNATURES).encode("utf-8", "replace").split(b",")
    given = [one.strip() for one in sent if len(one.strip()) == 44 and request.header(NONCE)]
    form = request.form_items() if given and request.method != "GET" else ()  # no stranger has a large form read
    expected = sign(auth_token, request.header(NONCE) or "", request.url, form).encode()
    if not any([hmac.compare_digest(expected, one) for one in given]):  # noqa: C419  as many steps for each
        raise SignatureInvalid("plivo webhook: the V3 signature is missing or wrong; check auth_token and public_url")
