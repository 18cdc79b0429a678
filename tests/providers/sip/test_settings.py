"""What the operator sets for SIP, and where a process may send."""

import pytest
from pydantic import ValidationError

from anycarrier_sip.settings import Binding, SipSettings


def test_without_settings_one_socket_on_loopback_is_opened() -> None:
    assert SipSettings().bindings == (Binding("udp", "127.0.0.1", 0),)
    assert hash(SipSettings()) == hash(SipSettings())


def test_sockets_are_written_as_transport_address_and_port() -> None:
    settings = SipSettings(listen="udp:192.0.2.10:5060, tcp:[2001:db8::1]:5060")  # type: ignore[arg-type]
    assert settings.bindings == (Binding("udp", "192.0.2.10", 5060), Binding("tcp", "2001:db8::1", 5060))
    assert settings.listen == ("udp:192.0.2.10:5060", "tcp:[2001:db8::1]:5060")


NO_SOCKETS = ("5060", "udp:5060", "sctp:192.0.2.1:5060", "udp:host:5060", "udp:192.0.2.1:70000", "")


@pytest.mark.parametrize("socket", NO_SOCKETS)
def test_what_is_no_socket_is_refused_with_an_example(socket: str) -> None:
    with pytest.raises(ValidationError, match="write it like udp"):
        SipSettings(listen=(socket,))


def test_all_addresses_need_the_public_one_and_tls_a_certificate() -> None:
    with pytest.raises(ValidationError, match="needs public_address"):
        SipSettings(listen=("udp:0.0.0.0:5060",))
    assert SipSettings(listen=("udp:0.0.0.0:5060",), public_address="192.0.2.10").public_address == "192.0.2.10"
    with pytest.raises(ValidationError, match="public_address is an IP address"):
        SipSettings(public_address="pbx.example.com")
    with pytest.raises(ValidationError, match="needs tls_certificate"):
        SipSettings(listen=("tls:127.0.0.1:5061",))


def test_rtp_ports_may_be_written_in_one_text() -> None:
    assert SipSettings.model_validate({"rtp_ports": "20000,20010"}).rtp_ports == (20000, 20010)


@pytest.mark.parametrize("ports", [(80, 90), (20000, 10000), (10000, 70000)])
def test_rtp_ports_are_a_range(ports: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="rtp_ports"):
        SipSettings(rtp_ports=ports)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "pbx.example.com", ""])
def test_nothing_private_is_sent_to_unless_listed(address: str) -> None:
    assert not SipSettings(listen=("udp:8.8.8.8:5060",)).permits(address)
    assert not SipSettings(private_targets=()).permits(address)


def test_public_addresses_loopback_on_loopback_and_listed_networks_are_permitted() -> None:
    assert SipSettings(listen=("udp:8.8.8.8:5060",)).permits("8.8.4.4")
    assert SipSettings().permits("127.0.0.1")
    assert not SipSettings().permits("10.0.0.1")
    listed = SipSettings(private_targets=("10.0.0.0/8", "fc00::/7"))
    assert listed.permits("10.2.3.4")
    assert listed.permits("fc00::7")
    assert not listed.permits("127.0.0.1")
    assert not listed.permits("192.168.0.1")
