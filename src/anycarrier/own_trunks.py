"""A carrier that is one's own: a trunk, or a server with trunks. Nobody posts webhooks, and it sells no numbers."""

from __future__ import annotations

from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.events import CallEvent
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber
from anycarrier.provider import Provider
from anycarrier.webhooks import WebhookRequest


class OwnTrunks(Provider):
    """Base for such a provider, whose calls a listener brings. The credential's ``numbers`` are those that it has."""

    def verify(self, request: WebhookRequest) -> None:
        raise SignatureInvalid(f"{self.name} has no webhooks: nobody can have sent this one")

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        raise MalformedMessage(f"{self.name} has no webhooks", request.body)

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        raise self.unsupported("search_numbers", "a trunk's numbers are bought at its carrier")

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        """The credential's own list: there is nobody to ask for it."""
        held = getattr(self.credential, "numbers", ())
        return [OwnedNumber(number=one, provider=self.name, id=one) for one in held if number in (None, one)]
