"""Who a tenant is on SIP, and where his carrier, PBX or softphones are. What he may not choose: ``settings.py``."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, replace
from ipaddress import ip_network
from typing import Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from anycarrier.credentials import Credential, trimmed
from anycarrier.errors import ConfigurationError, InvalidSipAddress
from anycarrier.networks import Network
from anycarrier.numbers import PhoneNumber, e164
from anycarrier.sip import host_name
from anycarrier_sip.presets import PRESETS, Identity, NumberForm, Preset, PresetName, Srtp
from anycarrier_sip.settings import SipSettings, Transport, is_address, network

WIDEST = {4: 16, 6: 32}
"""Shortest prefix of a peer's network, by IP version: a wider one would let half a country in."""

NO_KEY = "none"
"""What :meth:`SipCredential.from_api_key` takes for "there is no password"."""

_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/-]{1,64}")
"""The user part of a SIP address without escapes (RFC 3261, 25.1)."""


class SipUser(BaseModel):
    """One softphone of a ``softphones`` credential: it logs in as ``name`` and shows ``number``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    password: SecretStr
    number: PhoneNumber | None = None

    @field_validator("name")
    @classmethod
    def _is_a_user(cls, name: str) -> str:
        if not _USER.fullmatch(name := trimmed(name)) or not name[0].isalpha():
            raise ValueError("sip users: a name begins with a letter and has letters, digits, dots and dashes: alice")
        return name

    @field_validator("password", mode="before")
    @classmethod
    def _is_typed_well(cls, value: Any) -> Any:
        return _password("sip users password", value)


class SipCredential(Credential):
    """One trunk, one extension of a PBX, or the softphones of one tenant.

    ``preset`` brings what is known of the carrier (``presets.py``); any field given here is used instead.

    >>> SipCredential(preset="pbx", host="pbx.example.com", username="201", password="...", numbers=["+14155550100"])
    >>> SipCredential(preset="twilio-elastic", host="acme", username="acme", password="...", numbers=["+14155550100"])
    """

    provider: Literal["sip"] = "sip"
    preset: PresetName = "pbx"
    host: str | None = Field(default=None, description="the carrier's or PBX's name or address; a Twilio trunk's name")
    region: str | None = Field(default=None, description="where the carrier has several hosts: dublin, eu, ...")
    port: int | None = Field(default=None, ge=1, le=65535)
    transport: Transport | None = None
    username: str | None = Field(default=None, description="who we register as, and the name we log in with")
    auth_username: str | None = Field(default=None, description="the name to log in with, where it is another one")
    password: SecretStr | None = None
    numbers: tuple[str, ...] = Field(default=(), description="our numbers on this trunk, E.164")
    country: str | None = Field(default=None, description="ISO country whose dialling rules numbers follow, like DE")
    number_form: NumberForm | None = None
    identity: Identity | None = None
    peers: tuple[str, ...] | None = Field(default=None, description="networks (CIDR) that calls come from")
    contact_user: str | None = Field(
        default=None, description="user of the address that the carrier sends calls to, where several share its network"
    )
    challenge: bool = Field(default=False, description="ask callers from the peers for username and password too")
    srtp: Srtp | None = None
    registers: bool | None = Field(default=None, description="log in with REGISTER, so that calls come to us")
    users: tuple[SipUser, ...] = Field(default=(), description="the softphones of the preset `softphones`")

    @field_validator("*", mode="before")
    @classmethod
    def entered(cls, value: Any, info: ValidationInfo) -> Any:
        """Passwords may hold letters of any language and spaces (RFC 7616, 4); all else as everywhere."""
        if info.field_name == "password":
            return _password(cls.label("password"), value)
        return super().entered(value, info)

    @field_validator("numbers", "peers", "users", mode="before")
    @classmethod
    def _several_in_one_text(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        if info.field_name != "users":
            return tuple(value.replace(",", " ").split())
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError(f'{cls.label("users")} is a list like [{{"name": "alice", "password": "..."}}]') from None

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str | None) -> str | None:
        try:
            return None if host is None else host_name(host)
        except InvalidSipAddress:
            raise ValueError(
                f"{cls.label('host')} is a name or an address alone, like pbx.example.com: leave out sip: and the "
                "user, and give a port as port"
            ) from None

    @field_validator("username", "auth_username", "contact_user")
    @classmethod
    def _is_a_user(cls, user: str | None, info: ValidationInfo) -> str | None:
        assert info.field_name is not None
        name = user or "x"
        if '"' in name or "\\" in name or len(name) > 128 or (info.field_name != "auth_username" and "@" in name):
            raise ValueError(
                f"{cls.label(info.field_name)} is the part before the @ of a SIP address, without quotation marks"
            )
        if info.field_name == "contact_user" and not _USER.fullmatch(name):
            raise ValueError(f"{cls.label('contact_user')} has letters, digits, dots and dashes only")
        return user

    @field_validator("numbers")
    @classmethod
    def _are_numbers(cls, numbers: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(e164(trimmed(number)) for number in numbers))
        except ValueError as problem:
            raise ValueError(f"{cls.label('numbers')}: {problem}") from None

    @field_validator("country")
    @classmethod
    def _is_a_country(cls, country: str | None) -> str | None:
        if country is None:
            return None
        from phonenumbers import SUPPORTED_REGIONS  # 30 ms of metadata: only when somebody asks

        if (country := country.upper()) not in SUPPORTED_REGIONS:
            raise ValueError(f"{cls.label('country')} is a country by its two letters, like US, GB or DE")
        return country

    @field_validator("peers")
    @classmethod
    def _are_networks(cls, peers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        try:
            found = [network(one) for one in peers or ()]
        except ValueError as problem:
            raise ValueError(f"{cls.label('peers')}: {problem}") from None
        if wide := [one for one in found if one.prefixlen < WIDEST[one.version]]:
            raise ValueError(
                f"{cls.label('peers')}: {wide[0]} is wider than any carrier's network: list those that it calls from, "
                f"none of more than /{WIDEST[wide[0].version]}"
            )
        return None if peers is None else tuple(map(str, found))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.preset == "softphones":
            self._fits_softphones()
        else:
            self._fits_trunk()
        return self

    def _fits_softphones(self) -> None:
        if not self.users:
            self._refuse("users", "lists who may log in: name, password and the number to show, one user a softphone")
        names = [user.name.lower() for user in self.users]
        if len(set(names)) < len(names):
            self._refuse("users", "names somebody twice")
        if given := [name for name in ("host", "username", "registers", "peers") if getattr(self, name)]:
            self._refuse(given[0], "is not for softphones, which log in to us: leave it out, or choose preset pbx")

    def _fits_trunk(self) -> None:
        preset = PRESETS[self.preset]
        if self.users:
            self._refuse("users", "is for preset softphones; the login of this one is username and password")
        if self.region is not None and self.region not in preset.hosts:
            known = ", ".join(filter(None, preset.hosts)) or "none"
            self._refuse("region", f"is one of: {known}. Or give the whole host")
        if self.host is None and (preset.host is None and (self.trunk.registers or not self.peers)):
            self._refuse("host", "is missing: the name or address of the carrier or PBX")
        if (self.trunk.registers or self.challenge) and (self.username is None or self.password is None):
            what = "username" if self.username is None else "password"
            self._refuse(what, "is missing: the carrier's or PBX's login, or set registers to false if it has none")
        if self.password is not None and self.username is None:
            self._refuse("username", "is missing beside the password; leave both out if the carrier knows our address")

    def _refuse(self, field: str, why: str) -> NoReturn:
        raise ValueError(f"{self.label(field)} {why}")

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """The key is the password, for softphones of each user without one; ``"none"`` where the carrier has none."""
        given: dict[str, Any] = dict(metadata or {})
        users = given.get("users")
        if isinstance(users, str):
            users = json.loads(users) if users.lstrip().startswith("[") else ()
        if users:
            given["users"] = [{"password": api_key, **one} if isinstance(one, Mapping) else one for one in users]
        elif trimmed(api_key).lower() != NO_KEY:
            given["password"] = SecretStr(api_key)
        return cls.model_validate(given)

    @property
    def account(self) -> str | None:
        """``user@host``, or the host alone."""
        host = self.trunk.host or self.preset
        return f"{self.username}@{host}" if self.username else host

    def secrets(self) -> tuple[str, ...]:
        """The passwords: the trunk's and the users'."""
        return (*super().secrets(), *(user.password.get_secret_value() for user in self.users))

    @property
    def trunk(self) -> Preset:
        """The preset with this credential's fields put in: what the provider goes by."""
        preset = PRESETS[self.preset]
        given = {one.name: getattr(self, one.name, None) for one in fields(preset)}
        given["host"] = self._whole_host(preset)
        return replace(preset, **{name: value for name, value in given.items() if value is not None})

    def _whole_host(self, preset: Preset) -> str | None:
        written = preset.hosts.get(self.region or "", "")
        if self.host is None:
            return None if "{name}" in written else written or None
        named = "{name}" in written and "." not in self.host and ":" not in self.host
        return written.format(name=self.host) if named else self.host

    @property
    def networks(self) -> tuple[Network, ...]:
        """The peers' networks, without what the host resolves to."""
        return tuple(map(ip_network, self.trunk.peers))

    def check(self, settings: SipSettings) -> None:
        """Raise ``ConfigurationError`` for what the operator's settings do not let a tenant have.

        Names are checked as they resolve: by ``settings.permits``, each address.
        """
        trunk = self.trunk
        if self.preset == "softphones" and not settings.softphones:
            raise ConfigurationError(
                "sip softphones are off here: a registrar can be reached from any address. Whoever runs this process "
                "turns them on with SipSettings(softphones=True); a softphone of a PBX needs no such thing (preset pbx)"
            )
        if trunk.host is not None and is_address(trunk.host) and not settings.permits(trunk.host):
            raise ConfigurationError(f"sip host {trunk.host} {_PRIVATE}")
        for one in self.networks:
            if not (settings.permits(str(one[0])) and settings.permits(str(one[-1]))):
                raise ConfigurationError(f"sip peers: {one} {_PRIVATE}")
        if trunk.srtp == "required" and trunk.transport != "tls" and not settings.srtp_without_tls:
            raise ConfigurationError(
                "sip srtp is required, and without TLS its keys can be read on the way: set transport to tls"
            )


_PRIVATE = (
    "is a private or reserved address. Name the public one, or have whoever runs this process list the network in "
    "SipSettings(private_targets=...)"
)


_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def _password(label: str, value: Any) -> Any:
    """A password as it was meant: any letters and spaces, but nothing that copying leaves and nobody can see."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return value
    text = trimmed(text)
    hidden = next((at for at, char in enumerate(text, 1) if unicodedata.category(char) in _UNSEEN), 0)
    if hidden:
        raise ValueError(f"{label} cannot be right: character {hidden} is invisible. Copy it again from its source")
    return SecretStr(text) if text else None
