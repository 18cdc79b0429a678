"""Which addresses are public: every way to spell one that leads inside is judged by where it leads."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from anycarrier.networks import in_networks, is_public, unfolded

INSIDE = (
    "10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.3.4", "192.168.1.1", "100.64.0.1", "0.0.0.0", "198.18.0.1",
    "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fec0::1", "ff02::1", "2001:db8::1", "::127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:7f00:1::",  # an IPv4 address inside
)  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_what_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_the_rest_is_public(address: str) -> None:
    assert is_public(address)


def test_an_address_is_in_a_network_however_it_is_folded() -> None:
    networks = [ip_network("fc00::/7"), ip_network("10.0.0.0/8")]
    assert all(in_networks(one, networks) for one in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1%lo"))
    assert not any(in_networks(one, networks) for one in ("11.0.0.1", "64:ff9b::b00:1", "2606:4700::1111"))
    assert str(unfolded("::ffff:10.0.0.1")) == str(unfolded("64:ff9b::a00:1")) == "10.0.0.1"


@pytest.mark.parametrize("text", ["", "pbx.example.com", "127.1", "0x7f000001"])
def test_what_is_no_address_is_not_judged(text: str) -> None:
    with pytest.raises(ValueError):
        is_public(text)
