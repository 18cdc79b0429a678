"""Plivo for anycarrier. No SDK at run time: Plivo's is blocking, and sends a dial that was answered 500 three times."""

from anycarrier.hookspecs import hookimpl
from anycarrier_plivo.credential import PlivoCredential
from anycarrier_plivo.provider import PlivoProvider

__all__ = ["PlivoCredential", "PlivoProvider"]


@hookimpl
def anycarrier_providers() -> list[type[PlivoProvider]]:
    return [PlivoProvider]
