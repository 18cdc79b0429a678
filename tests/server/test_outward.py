"""S10: where clients' URLs may lead. Every spelling of an inside address is refused, before and at connecting."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest

from anycarrier_server.refusals import HostUnknown, UrlRefused
from anycarrier_server.url_guard import UrlGuard, resolve


class Names:
    """A resolver with answers of our choosing; each look-up takes the next."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


PUBLIC = "93.184.216.34"


def outward(*answers: Sequence[str], local: bool = False, allow: Sequence[str] = ()) -> UrlGuard:
    return UrlGuard(local=local, allow=allow, resolve=Names(*(answers or ([PUBLIC],))))


INSIDE = [
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x7F.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.000.000.001/",
    "https://0/",
    "https://0.0.0.0/",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fc00::1]/",
    "https://[fd12:3456::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://198.18.0.1/",
    "https://192.0.0.8/",
    "https://192.0.2.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://4294967295/",
    "https://1.2.3/",
    "https://1.2.3.4.5/",
    "https://evil.example.0x7f/",
    "https://127%2e0.0.1/",
    "https://%31%32%37.0.0.1/",
    "https://\u2460\u2461\u2466.0.0.1/",
    "https://127\u30020\u30020\u30021/",
    "https://user@93.184.216.34/",
    "https://93.184.216.34@127.0.0.1/",
    "https://93.184.216.34\\@127.0.0.1/",
    "https://exa mple.com/",
    "https://example.com\t/",
    "https://",
    "https:///path",
    "https://:443/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "//example.com/",
    "example.com",
    "",
]


@pytest.mark.parametrize("url", INSIDE)
async def test_no_spelling_of_an_inside_address_is_let_through(url: str) -> None:
    with pytest.raises(UrlRefused):
        await outward().webhook(url)
    with pytest.raises(UrlRefused):
        await outward().websocket(url.replace("https:", "wss:", 1).replace("http:", "ws:", 1))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fe80::1%eth0"],
)
async def test_a_name_that_resolves_inside_is_refused(address: str) -> None:
    with pytest.raises(UrlRefused, match="private or reserved"):
        await outward([address]).webhook("https://rebind.example.com/")


async def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(UrlRefused):
        await outward([PUBLIC, "10.0.0.1"]).webhook("https://example.com/")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost."])
async def test_the_machines_own_name_is_refused(host: str) -> None:
    with pytest.raises(UrlRefused):
        await UrlGuard(resolve=resolve).webhook(f"https://{host}/")


async def test_a_public_host_is_pinned_to_the_address_checked() -> None:
    target = await outward().webhook("https://Example.com:8443/hook?a=1")
    assert (target.host, target.port, target.address) == ("example.com", 8443, PUBLIC)
    socket = await outward(["2606:4700::1111"]).websocket("wss://example.com/agent?token=x")
    assert (socket.url, socket.port, socket.address) == ("wss://example.com/agent?token=x", 443, "2606:4700::1111")


async def test_a_name_without_address_is_a_passing_trouble() -> None:
    with pytest.raises(HostUnknown):
        await outward([]).webhook("https://gone.example.com/")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/", "http://[::1]:9000/", "https://127.0.0.1/"])
async def test_local_mode_lets_loopback_in(url: str) -> None:
    assert (await outward(local=True).webhook(url)).url == url


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "https://192.168.0.1/", "http://0x7f.1/", "http://example.com/"])
async def test_local_mode_lets_nothing_else_in(url: str) -> None:
    with pytest.raises(UrlRefused):
        await outward(local=True).webhook(url)


async def test_a_listed_private_network_is_let_in_and_its_neighbour_is_not() -> None:
    listed = outward(allow=["10.1.0.0/16"])
    assert (await listed.websocket("ws://10.1.2.3:8000/")).address == "10.1.2.3"
    with pytest.raises(UrlRefused):
        await listed.websocket("ws://10.2.0.1:8000/")


async def test_the_connection_goes_to_the_address_that_was_checked_whatever_the_name_says_later() -> None:
    seen: list[httpx.Request] = []

    async def record(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    from anycarrier_server.url_guard import GuardedTransport

    names = Names([PUBLIC], ["127.0.0.1"])
    guard = GuardedTransport(UrlGuard(resolve=names), httpx.MockTransport(record))
    async with httpx.AsyncClient(transport=guard) as client:
        await client.post("https://example.com/hook", content=b"{}")
        with pytest.raises(UrlRefused):
            await client.post("https://example.com/hook", content=b"{}")
    assert len(seen) == 1
    assert seen[0].url.host == PUBLIC
    assert seen[0].headers["host"] == "example.com"
    assert seen[0].extensions["sni_hostname"] == "example.com"
    assert names.asked == ["example.com", "example.com"]


async def test_a_redirect_is_not_followed() -> None:
    from anycarrier_server.url_guard import GuardedTransport

    answers = httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": "https://169.254.169.254/"}))
    client = outward().client(timeout=1)
    client._transport = GuardedTransport(outward(), answers)
    async with client:
        response = await client.get("https://example.com/")
    assert response.status_code == 302


async def test_an_address_of_version_6_is_written_with_brackets() -> None:
    from anycarrier_server.url_guard import GuardedTransport

    seen: list[str] = []

    def record(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    guard = GuardedTransport(outward(["2606:4700::1111"]), httpx.MockTransport(record))
    async with httpx.AsyncClient(transport=guard) as client:
        await client.get("https://example.com:8443/x")
    assert seen == ["https://[2606:4700::1111]:8443/x"]
