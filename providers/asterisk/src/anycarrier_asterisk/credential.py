"""Where an Asterisk server is, and what its configuration files call us."""

import re

from pydantic import Field, SecretStr, field_validator

from anycarrier.credentials import Credential
from anycarrier.numbers import PhoneNumber

NAME = r"^[A-Za-z0-9_-]{1,32}$"
"""An application, or a section of a configuration file. No dots: they divide the ids of our channels."""


class AsteriskCredential(Credential):
    """A user of ari.conf, and an application that no other process uses.

    ``base_url`` is where the HTTP server is. ``endpoint`` is what rings a number: ``{number}`` is E.164, ``{digits}``
    the same without plus. ``media_connection`` is the section of websocket_client.conf that leads to our media socket,
    and ``numbers`` what the trunks bring.

    >>> AsteriskCredential(base_url="http://pbx:8088", username="us", password="...", endpoint="PJSIP/{number}@trunk")
    """

    provider: str = "asterisk"
    base_url: str
    username: str = Field(pattern=r"^[^\s:\[\]]{1,80}$")
    password: SecretStr
    endpoint: str
    app: str = Field(default="anycarrier", pattern=NAME)
    media_connection: str = Field(default="anycarrier", pattern=NAME)
    numbers: tuple[PhoneNumber, ...] = ()

    @field_validator("endpoint")
    @classmethod
    def _rings_a_number(cls, text: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9]+/[^\s,&|{}]*{(number|digits)}[^\s,&|{}]*", text):
            raise ValueError(f"{cls.label('endpoint')} is a channel to dial, like PJSIP/{{number}}@my-trunk")
        return text

    @property
    def account(self) -> str:
        return f"{self.username}/{self.app} at {self.base_url.partition('://')[2]}"

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/ari") + "/ari"

    @property
    def prefix(self) -> str:
        """What the ids of all channels, bridges and recordings begin with that we make."""
        return f"anycarrier.{self.app}."
