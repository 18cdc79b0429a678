"""Who a tenant is on SIP, and where his carrier, PBX or softphones are. What he may not choose: ``settings.py``."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, replace
from ipaddress import ip_network
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, field_validator, model_validator
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


def _refuse(problem: str) -> NoReturn:
    raise ValueError(f"sip {problem}")


def _entered(value: Any) -> Any:
    """A password as it was meant: any letters and spaces, but nothing that copying leaves and nobody can see."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return value
    text = trimmed(text)
    unseen = ("Cc", "Cf", "Cs", "Zl", "Zp")
    if hidden := next((at for at, char in enumerate(text, 1) if unicodedata.category(char) in unseen), 0):
        _refuse(f"password cannot be right: character {hidden} is invisible. Copy it again from its source")
    return SecretStr(text) if text else None


def _listed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        _refuse('users is a list like [{"name": "alice", "password": "..."}]')


def _host(text: str) -> str:
    try:
        return host_name(text)
    except InvalidSipAddress:
        _refuse("host is a name or an address alone, like pbx.example.com: without sip: and user, and a port as port")


def _user(text: str, info: Info) -> str:
    if re.search(r'["\\]' if info.field_name == "auth_username" else r'["\\@]', text) or len(text) > 128:
        _refuse(f"{info.field_name} is the part before the @ of a SIP address, without quotes")
    if info.field_name == "contact_user" and not _USER.fullmatch(text):
        _refuse("contact_user has letters, digits, dots and dashes only")
    return text


def _numbers(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(e164(trimmed(text)) for text in texts))
    except ValueError as problem:
        _refuse(f"numbers: {problem}")


def _country(text: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS  # 30 ms of metadata: only when somebody asks

    return text.upper() if text.upper() in SUPPORTED_REGIONS else _refuse("country has two letters, like US, GB or DE")


def _narrow(peers: tuple[str, ...]) -> tuple[str, ...]:
    if wide := [one for one in map(ip_network, peers) if one.prefixlen < WIDEST[one.version]]:
        most = WIDEST[wide[0].version]
        _refuse(f"peers: {wide[0]} is wider than any carrier's network: list its own, none of more than /{most}")
    return peers


def _user_name(text: str) -> str:
    if not _USER.fullmatch(text := trimmed(text)) or not text[0].isalpha():
        _refuse("users: a name begins with a letter and has letters, digits, dots and dashes: alice")
    return text


User = Annotated[str, AfterValidator(_user)]


class SipUser(BaseModel):
    """One softphone of a ``softphones`` credential: it logs in as ``name`` and shows ``number``."""

    model_config = {"frozen": True, "extra": "forbid", "hide_input_in_errors": True}

    name: Annotated[str, AfterValidator(_user_name)]
    password: Annotated[SecretStr, BeforeValidator(_entered)]
    number: PhoneNumber | None = None


class SipCredential(Credential):
    """One trunk, one extension of a PBX, or the softphones of one tenant; a field given here wins over ``preset``'s.

    >>> SipCredential(preset="pbx", host="pbx.example.com", username="201", password="...", numbers=["+14155550100"])
    >>> SipCredential(preset="twilio-elastic", host="acme", username="acme", password="...", numbers=["+14155550100"])
    """

    provider: Literal["sip"] = "sip"
    preset: PresetName = "pbx"
    host: Annotated[str, AfterValidator(_host)] | None = Field(
        default=None, description="the carrier's or PBX's name or address; a Twilio trunk's name"
    )
    region: str | None = Field(default=None, description="where the carrier has several hosts: dublin, eu, ...")
    port: int | None = Field(default=None, ge=1, le=65535)
    transport: Transport | None = None
    username: User | None = Field(default=None, description="who we register as, and the name we log in with")
    auth_username: User | None = Field(default=None, description="the name to log in with, where it is another one")
    password: Annotated[SecretStr | None, BeforeValidator(_entered)] = None
    numbers: Annotated[Texts, AfterValidator(_numbers)] = Field(
        default=(), description="our numbers on this trunk, E.164"
    )
    country: Annotated[str, AfterValidator(_country)] | None = Field(
        default=None, description="ISO country whose dialling rules numbers follow, like DE"
    )
    number_form: NumberForm | None = None
    identity: Identity | None = None
    peers: Annotated[Networks, AfterValidator(_narrow)] | None = Field(
        default=None, description="networks (CIDR) that calls come from"
    )
    contact_user: User | None = Field(
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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        trunk, missing = self.trunk, [name for name in ("username", "password") if getattr(self, name) is None]
        if self.preset == "softphones":
            if not self.users:
                _refuse("users lists who may log in: name, password and the number to show, one user a softphone")
            if len({user.name.lower() for user in self.users}) < len(self.users):
                _refuse("users names somebody twice")
            if given := [name for name in ("host", "username", "registers", "peers") if getattr(self, name)]:
                _refuse(f"{given[0]} is not for softphones, which log in to us: leave it out, or choose preset pbx")
            return self
        if self.users:
            _refuse("users is for preset softphones; the login of this one is username and password")
        if self.region is not None and self.region not in trunk.hosts:
            known = ", ".join(filter(None, trunk.hosts)) or "none"
            _refuse(f"region is one of: {known}. Or give the whole host")
        if trunk.host is None and (trunk.registers or not self.peers):
            _refuse("host is missing: the name or address of the carrier or PBX")
        if missing and (trunk.registers or self.challenge):
            _refuse(f"{missing[0]} is missing: the carrier's or PBX's login, or set registers to false if it has none")
        if missing == ["username"]:
            _refuse("username is missing beside the password; leave both out if the carrier knows our address")
        return self

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
        named = {f"host {trunk.host}": [trunk.host]} if trunk.host and is_address(trunk.host) else {}
        named |= {f"peers: {one}": [str(one[0]), str(one[-1])] for one in self.networks}
        if inside := [name for name, addresses in named.items() if not all(map(settings.permits, addresses))]:
            raise ConfigurationError(
                f"sip {inside[0]} is a private or reserved address. Name the public one, or have whoever runs this "
                "process list the network: SipSettings(private_targets=...), in the service private_targets in "
                "[carriers.sip] or outward_allow"
            )
        if trunk.srtp == "required" and trunk.transport != "tls" and not settings.srtp_without_tls:
            raise ConfigurationError(
                "sip srtp is required, and without TLS its keys can be read on the way: set transport to tls"
            )


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
