"""Who a tenant is on SIP, and where his carrier, PBX or softphones are. What he may not choose: ``settings.py``."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, replace
from ipaddress import ip_network
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic import ValidationInfo as Info

from anycarrier.credentials import Credential, trimmed
from anycarrier.errors import ConfigurationError, InvalidSipAddress
from anycarrier.networks import Network
from anycarrier.numbers import PhoneNumber, e164
from anycarrier.provider import TrialPhone
from anycarrier.sip import host_name
from anycarrier_sip.header_values import hostport
from anycarrier_sip.presets import PRESETS, Identity, NumberForm, Preset, PresetName, Srtp
from anycarrier_sip.settings import Networks, SipSettings, Texts, Transport, is_address

WIDEST = {4: 16, 6: 32}
"""Shortest prefix of a peer's network, by IP version: a wider one would let half a country in."""

_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/-]{1,64}")
"""The user part of a SIP address without escapes (RFC 3261, 25.1)."""

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def _entered(value: Any) -> Any:
    """A password as it was meant: any letters and spaces, but nothing that copying leaves and nobody can see."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return value
    text = trimmed(text)
    if hidden := next((at for at, char in enumerate(text, 1) if unicodedata.category(char) in _UNSEEN), 0):
        raise ValueError(f"sip password cannot be right: character {hidden} is invisible. Copy it from its source")
    return SecretStr(text) if text else None


def _listed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('sip users is a list like [{"name": "alice", "password": "..."}]') from None


class SipUser(BaseModel):
    """One softphone of a ``softphones`` credential: it logs in as ``name`` and shows ``number``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    password: Annotated[SecretStr, BeforeValidator(_entered)]
    number: PhoneNumber | None = None

    @field_validator("name")
    @classmethod
    def _is_a_user(cls, name: str) -> str:
        if not _USER.fullmatch(name := trimmed(name)) or not name[0].isalpha():
            raise ValueError("sip users: a name begins with a letter and has letters, digits, dots and dashes: alice")
        return name


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
    password: Annotated[SecretStr | None, BeforeValidator(_entered)] = None
    numbers: Texts = Field(default=(), description="our numbers on this trunk, E.164")
    country: str | None = Field(default=None, description="ISO country whose dialling rules numbers follow, like DE")
    number_form: NumberForm | None = None
    identity: Identity | None = None
    peers: Networks | None = Field(default=None, description="networks (CIDR) that calls come from")
    contact_user: str | None = Field(
        default=None, description="user of the address that the carrier sends calls to, where several share its network"
    )
    challenge: bool = Field(default=False, description="ask callers from the peers for username and password too")
    srtp: Srtp | None = None
    registers: bool | None = Field(default=None, description="log in with REGISTER, so that calls come to us")
    users: Annotated[tuple[SipUser, ...], BeforeValidator(_listed)] = Field(
        default=(), description="the softphones of the preset `softphones`"
    )

    @field_validator("*", mode="before")
    @classmethod
    def entered(cls, value: Any, info: Info) -> Any:
        """Passwords may hold letters of any language and spaces (RFC 7616, 4); all else as everywhere."""
        return value if info.field_name == "password" else super().entered(value, info)

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str | None) -> str | None:
        try:
            return host and host_name(host)
        except InvalidSipAddress:
            raise ValueError(
                "sip host is a name or an address alone, like pbx.example.com: leave out sip: and the user, and give "
                "a port as port"
            ) from None

    @field_validator("username", "auth_username", "contact_user")
    @classmethod
    def _is_a_user(cls, user: str | None, info: Info) -> str | None:
        no_user = r'["\\]' if info.field_name == "auth_username" else r'["\\@]'
        if user is not None and (re.search(no_user, user) or len(user) > 128):
            raise ValueError(f"sip {info.field_name} is the part before the @ of a SIP address, without quotes")
        if user is not None and info.field_name == "contact_user" and not _USER.fullmatch(user):
            raise ValueError("sip contact_user has letters, digits, dots and dashes only")
        return user

    @field_validator("numbers")
    @classmethod
    def _are_numbers(cls, numbers: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(e164(trimmed(number)) for number in numbers))
        except ValueError as problem:
            raise ValueError(f"sip numbers: {problem}") from None

    @field_validator("country")
    @classmethod
    def _is_a_country(cls, country: str | None) -> str | None:
        if country is None:
            return None
        from phonenumbers import SUPPORTED_REGIONS  # 30 ms of metadata: only when somebody asks

        if country.upper() not in SUPPORTED_REGIONS:
            raise ValueError("sip country is a country by its two letters, like US, GB or DE")
        return country.upper()

    @field_validator("peers")
    @classmethod
    def _are_narrow(cls, peers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for one in map(ip_network, peers or ()):
            if one.prefixlen < WIDEST[one.version]:
                raise ValueError(
                    f"sip peers: {one} is wider than any carrier's network: list those that it calls from, none of "
                    f"more than /{WIDEST[one.version]}"
                )
        return peers

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.preset == "softphones":
            self._fits_softphones()
        else:
            self._fits_trunk(self.trunk)
        return self

    def _fits_softphones(self) -> None:
        if not self.users:
            _refuse("users lists who may log in: name, password and the number to show, one user a softphone")
        if len({user.name.lower() for user in self.users}) < len(self.users):
            _refuse("users names somebody twice")
        if given := [name for name in ("host", "username", "registers", "peers") if getattr(self, name)]:
            _refuse(f"{given[0]} is not for softphones, which log in to us: leave it out, or choose preset pbx")

    def _fits_trunk(self, trunk: Preset) -> None:
        if self.users:
            _refuse("users is for preset softphones; the login of this one is username and password")
        if self.region is not None and self.region not in trunk.hosts:
            known = ", ".join(filter(None, trunk.hosts)) or "none"
            _refuse(f"region is one of: {known}. Or give the whole host")
        if trunk.host is None and (trunk.registers or not self.peers):
            _refuse("host is missing: the name or address of the carrier or PBX")
        missing = [name for name in ("username", "password") if getattr(self, name) is None]
        if missing and (trunk.registers or self.challenge):
            _refuse(f"{missing[0]} is missing: the carrier's or PBX's login, or set registers to false if it has none")
        if missing == ["username"]:
            _refuse("username is missing beside the password; leave both out if the carrier knows our address")

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """The key is the password, for softphones of each user without one; ``"none"`` where the carrier has none."""
        given = dict(metadata or {})
        if users := _listed(given.get("users") or None):
            given["users"] = [{"password": api_key, **one} if isinstance(one, Mapping) else one for one in users]
        elif trimmed(api_key).lower() != "none":
            given["password"] = api_key
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
        host, written = self.host, preset.hosts.get(self.region or "", "")
        if "{name}" not in written:
            host = host or written or None
        elif host is not None and not set(".:") & set(host):
            host = written.format(name=host)
        given: dict[str, Any] = {one.name: getattr(self, one.name, None) for one in fields(preset)} | {"host": host}
        return replace(preset, **{name: value for name, value in given.items() if value is not None})

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
                "turns them on with SipSettings(softphones=True), or softphones = true in the service's "
                "[carriers.sip]; a softphone of a PBX needs no such thing (preset pbx)"
            )
        named = [("host", trunk.host, [trunk.host])] if trunk.host and is_address(trunk.host) else []
        named += [("peers:", str(one), [str(one[0]), str(one[-1])]) for one in self.networks]
        for field, text, addresses in named:
            if not all(map(settings.permits, addresses)):
                raise ConfigurationError(
                    f"sip {field} {text} is a private or reserved address. Name the public one, or have whoever runs "
                    "this process list the network: SipSettings(private_targets=...), in the service private_targets "
                    "in [carriers.sip] or outward_allow"
                )
        if trunk.srtp == "required" and trunk.transport != "tls" and not settings.srtp_without_tls:
            raise ConfigurationError(
                "sip srtp is required, and without TLS its keys can be read on the way: set transport to tls"
            )


def _refuse(problem: str) -> NoReturn:
    raise ValueError(f"sip {problem}")


PHONE, CALLED = "+12025550143", "+12025550142"
"""Of the trial account: what it shows as its number, and what it calls. They are nobody's."""


def trial_phone(settings: SipSettings | None, port: int, password: str) -> TrialPhone | None:
    """An account for a softphone on this machine; see :meth:`anycarrier.provider.Provider.trial_phone`.

    None where the sockets are not all on loopback.
    """
    settings = settings or SipSettings(listen=(f"udp:127.0.0.1:{port}",))
    if not settings.on_loopback:
        return None
    binding = settings.bindings[0]
    domain = hostport(binding.host, None if binding.port == 5060 else binding.port)
    return TrialPhone(
        settings=settings.model_copy(update={"softphones": True}),
        details={"preset": "softphones", "numbers": [CALLED], "users": [{"name": "phone", "number": PHONE}]},
        number=CALLED,
        steps=(
            f"account   sip:phone@{domain}   (transport {binding.transport.upper()})",
            f"password  {password}",
            f"call      sip:{CALLED}@{domain}",
            f"rings at  {PHONE}   (anycarrier calls dial {CALLED} {PHONE})",
        ),
    )
