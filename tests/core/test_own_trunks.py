"""A carrier of one's own: no webhooks, no numbers for sale, and a list of numbers that its credential names."""

from __future__ import annotations

from typing import Any

import pytest

from anycarrier import Credential, NumberQuery
from anycarrier.calls import Call, DialRequest, StreamTarget
from anycarrier.errors import MalformedMessage, SignatureInvalid, UnsupportedOperation
from anycarrier.events import IncomingCall
from anycarrier.own_trunks import OwnTrunks
from anycarrier.provider import Capability
from anycarrier.serializer import MediaSerializer
from anycarrier.webhooks import WebhookReply, WebhookRequest

FIRST, SECOND = "+14155550100", "+14155550101"


class Numbers(Credential):
    provider: str = "home"
    numbers: tuple[str, ...] = (FIRST, SECOND)


class Home(OwnTrunks):
    name = "home"
    credential_type = Numbers

    def serializer(self) -> MediaSerializer:
        raise NotImplementedError

    async def dial(self, request: DialRequest) -> Call:
        raise NotImplementedError

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        raise NotImplementedError

    async def hang_up(self, call_id: str) -> None:
        raise NotImplementedError


def test_no_webhook_is_its() -> None:
    request = WebhookRequest("POST", "https://voice.example.com/home/main", {}, b"{}")
    with pytest.raises(SignatureInvalid, match="home has no webhooks"):
        Home(Numbers()).verify(request)
    with pytest.raises(MalformedMessage, match="home has no webhooks"):
        Home(Numbers()).parse_webhook(request)


async def test_its_numbers_are_the_credentials() -> None:
    home: Any = Home(Numbers())
    assert [each.number for each in await home.list_numbers()] == [FIRST, SECOND]
    assert [each.number for each in await home.list_numbers(SECOND)] == [SECOND]
    assert await home.list_numbers("+14155550177") == [] and Capability.LIST_NUMBERS in Home.capabilities
    with pytest.raises(UnsupportedOperation, match="home does not support search_numbers"):
        await home.search_numbers(NumberQuery())
