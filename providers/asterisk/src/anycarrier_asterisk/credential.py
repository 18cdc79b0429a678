"""Where an Asterisk server is, and what its configuration files call us."""

import re

from pydantic import AliasChoices, Field, SecretStr, field_validator

from anycarrier.credentials import Credential
from anycarrier.numbers import PhoneNumber


class AsteriskCredential(Credential):
    """A user of ari.conf, and an application that no other process uses.

    ``base_url`` is where the HTTP server is, without ``/ari``. ``endpoint`` is what rings a number: ``{number}`` is
    E.164, ``{digits}`` the same without plus. ``media_connection`` is the section of websocket_client.conf that leads
    to our media socket, and ``numbers`` what the trunks bring.

    >>> AsteriskCredential(base_url="http://pbx:8088", username="us", password="...", endpoint="PJSIP/{number}@trunk")
    """

    provider: str = "asterisk"
    base_url: str
    username: str = Field(pattern=r"^[^\s:\[\]]{1,80}$")
    password: SecretStr = Field(validation_alias=AliasChoices("password", "api_key"))
    endpoint: str
    app: str = Field(default="anycarrier", pattern=r"^[A-Za-z0-9_-]{1,32}$")  # dots divide the ids of our channels
    media_connection: str = Field(default="anycarrier", pattern=r"^[A-Za-z0-9_-]{1,32}$")
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
