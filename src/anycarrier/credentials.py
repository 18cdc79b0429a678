"""Who we are to a carrier. Secrets are SecretStr: they are never printed or logged, and are in no ticket."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, get_args, runtime_checkable

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationInfo, field_validator

from anycarrier.errors import UnknownCredential

QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»"}


def trimmed(text: str) -> str:
    """``text`` without what copying leaves around it: white space, line ends, invisible characters, quotation marks."""
    while True:
        start, end = 0, len(text)
        while start < end and _invisible(text[start]):
            start += 1
        while start < end and _invisible(text[end - 1]):
            end -= 1
        text = text[start:end]
        if len(text) < 2 or QUOTES.get(text[0]) != text[-1]:
            return text
        text = text[1:-1]


def unwritable(text: str) -> str | None:
    """Which character keeps ``text`` from being a key, an id or an address; None when all are printable ASCII.

    These values travel in HTTP headers and URLs. No real key has such a character, so naming it tells nothing of one.
    """
    for at, char in enumerate(text, 1):
        if not " " <= char <= "~":
            return f"character {at} is U+{ord(char):04X} ({unicodedata.name(char, 'a control character')})"
    return None


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _invisible(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp") or char in "\u2800\u3164"


class Credential(BaseModel):
    """Base of every carrier's credential; a plugin adds its fields, secrets as ``SecretStr``.

    Text in any field is trimmed when it is entered, and refused where it still holds what no key, id or address has
    (a line end, an invisible character, a letter outside ASCII); an optional field left blank counts as not given.
    The ``ValidationError`` names provider and field and never shows the value. A carrier whose passwords may hold
    other characters overrides :meth:`entered`.

    >>> class AcmeCredential(Credential):
    ...     provider: str = "acme"
    ...     api_key: SecretStr
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    shapes: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Field -> the pattern that the whole of its text must match, and what that is in words, for the refusal."""

    provider: str

    @field_validator("*", mode="before")
    @classmethod
    def entered(cls, value: Any, info: ValidationInfo) -> Any:
        """One field's text as it was meant. Runs before the field's own validation."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str) or info.field_name is None:
            return value
        field = cls.model_fields[info.field_name]
        text = trimmed(text)
        if not text:
            if field.is_required():
                raise ValueError(f"{cls.label(info.field_name)} is empty")
            return field.get_default(call_default_factory=True, validated_data=info.data)
        if problem := unwritable(text):
            raise ValueError(
                f"{cls.label(info.field_name)} cannot be right: {problem}. Copy it again from the carrier's console"
            )
        return SecretStr(text) if isinstance(value, SecretStr) else text

    @field_validator("*")
    @classmethod
    def has_its_shape(cls, value: Any, info: ValidationInfo) -> Any:
        """What :attr:`shapes` says about one field; one that is not given has none."""
        text, name = value.get_secret_value() if isinstance(value, SecretStr) else value, info.field_name or ""
        if name in cls.shapes and text is not None and not re.fullmatch(cls.shapes[name][0], str(text)):
            raise ValueError(f"{cls.label(name)} is {cls.shapes[name][1]}")
        return value

    @field_validator("base_url", check_fields=False)
    @classmethod
    def is_a_url(cls, url: str | None) -> str | None:
        """``base_url``, where a credential has that field; its last slash is cut off."""
        if url is not None and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
            why = "; a login does not belong into it" if "@" in url else ""
            raise ValueError(f"{cls.label('base_url')} is a URL, like https://api.example.com{why}")
        return url.rstrip("/") if url else url

    @classmethod
    def label(cls, field: str) -> str:
        """How errors name a field: ``acme api_key``."""
        return f"{cls.model_fields['provider'].default or cls.__name__} {field}"

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """Build one from a single key plus named details, the shape most consoles and APIs ask people for.

        The key is for :meth:`key_field`; further secrets are details.
        """
        return cls.model_validate({**(metadata or {}), cls.key_field(): api_key})

    @classmethod
    def key_field(cls) -> str:
        """The field that people mean by *the* key: the first secret that a credential cannot do without, else the first
        one."""
        secrets = {name: told.is_required() for name, told in cls.model_fields.items() if _is_secret(told.annotation)}
        return next((name for name, required in secrets.items() if required), next(iter(secrets), "api_key"))

    @property
    def account(self) -> str | None:
        """The carrier's public name for the account, when the credential holds it; never a secret."""
        return None

    def secrets(self) -> tuple[str, ...]:
        """The secret values themselves, for scrubbing them out of texts."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(v.get_secret_value() for v in values if isinstance(v, SecretStr))


@runtime_checkable
class CredentialSource(Protocol):
    """Where an exchange finds credentials by id. A plain dict will do; a service brings its store."""

    async def credential(self, credential_id: str) -> Credential:
        """The credential, or :class:`UnknownCredential`."""
        ...


class MemoryCredentials:
    """A dict of credentials behind the :class:`CredentialSource` protocol."""

    def __init__(self, credentials: Mapping[str, Credential]) -> None:
        self.by_id = dict(credentials)

    async def credential(self, credential_id: str) -> Credential:
        try:
            return self.by_id[credential_id]
        except KeyError:
            raise UnknownCredential(credential_id) from None
