"""What a tenant types for a SIP trunk: presets with his own fields over them, and what cannot be right refused."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from anycarrier.errors import ConfigurationError
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.presets import PRESETS
from anycarrier_sip.settings import SipSettings

PBX: dict[str, Any] = {"host": "pbx.example.com", "username": "201", "password": "secret"}
ALICE = {"name": "alice", "password": "swordfish", "number": "+14155550101"}


def refused(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        SipCredential(**given)
    return str(caught.value)


def test_a_twilio_trunk_needs_its_name_only_and_does_not_register() -> None:
    trunk = SipCredential(preset="twilio-elastic", host="acme").trunk
    assert (trunk.host, trunk.registers, trunk.identity) == ("acme.pstn.twilio.com", False, "pai")
    assert "54.172.60.0/30" in trunk.peers
    assert SipCredential(preset="twilio-elastic", host="acme.pstn.twilio.com").trunk.host == "acme.pstn.twilio.com"
    regional = SipCredential(preset="twilio-elastic", host="acme", region="dublin")
    assert regional.trunk.host == "acme.pstn.dublin.twilio.com"


def test_regions_choose_the_carriers_host() -> None:
    login = {"username": "acme", "password": "x"}
    assert SipCredential(preset="telnyx", **login).trunk.host == "sip.telnyx.com"
    assert SipCredential(preset="telnyx", region="eu", **login).trunk.host == "sip-eu.telnyx.com"
    assert "us, eu, ca, au" in refused(preset="telnyx", region="mars", **login)


def test_every_field_of_a_preset_gives_way_to_the_credentials() -> None:
    own: dict[str, Any] = {
        "host": "sip.example.com", "port": 5080, "transport": "tls", "registers": False, "peers": ("192.0.2.0/24",),
        "number_form": "digits", "identity": "rpid", "srtp": "required",
    }  # fmt: skip
    trunk = SipCredential(preset="telnyx", username="acme", password="x", **own).trunk
    assert {name: getattr(trunk, name) for name in own} == own
    assert trunk.next_target_on == PRESETS["telnyx"].next_target_on
    assert SipCredential(preset="telnyx", username="acme", password="x", peers=()).trunk.peers == ()


def test_a_pbx_that_registers_needs_host_username_and_password() -> None:
    assert SipCredential(**PBX).trunk.registers
    for field in PBX:
        assert f"sip {field} is missing" in refused(**{**PBX, field: None})
    assert SipCredential(host="pbx.example.com", registers=False).trunk.host == "pbx.example.com"
    assert SipCredential(registers=False, peers="192.0.2.7").networks[0].num_addresses == 1


@pytest.mark.parametrize("host", ["sip:201@pbx.example.com", "pbx.example.com:5080", "pbx example", "a..b", "1.2.3"])
def test_a_host_is_a_host_alone(host: str) -> None:
    assert "sip host is a name or an address alone" in refused(**{**PBX, "host": host})


@pytest.mark.parametrize("password", ["pass word", "Gruß-ß", "a:b@c\"d\\e", "пароль"])
def test_passwords_hold_what_people_choose(password: str) -> None:
    held = SipCredential(**{**PBX, "password": f" {password}\n"}).password
    assert held is not None
    assert held.get_secret_value() == password


@pytest.mark.parametrize("hidden", ["\r\n", "\x00", "\u200b", "\u2028", "\ud800"])
def test_a_password_with_what_nobody_sees_is_refused_and_not_shown(hidden: str) -> None:
    told = refused(**{**PBX, "password": f"sec{hidden}ret"})
    assert "sip password cannot be right: character 4" in told
    assert "ret" not in told.replace("secret", "")
    users = [{**ALICE, "password": f"sec{hidden}ret"}]
    assert "sip password cannot be right: character 4" in refused(preset="softphones", users=users)


def test_the_api_key_is_the_password() -> None:
    made = SipCredential.from_api_key("s3 cret", {"host": "pbx.example.com", "username": "201"})
    assert made.secrets() == ("s3 cret",)
    assert SipCredential.from_api_key("none", {"host": "acme", "preset": "twilio-elastic"}).password is None
    with pytest.raises(ValidationError, match="sip username is missing beside the password"):
        SipCredential.from_api_key("secret", {"host": "acme", "preset": "twilio-elastic"})
    users = '[{"name": "alice"}, {"name": "bob", "password": "own"}]'
    made = SipCredential.from_api_key("shared", {"preset": "softphones", "users": users})
    assert made.secrets() == ("shared", "own")


def test_passwords_of_users_are_secrets_too() -> None:
    credential = SipCredential(preset="softphones", users=[ALICE])
    assert credential.secrets() == ("swordfish",)
    assert "swordfish" not in repr(credential) + credential.model_dump_json()


def test_softphones_are_users_and_nothing_else() -> None:
    assert "lists who may log in" in refused(preset="softphones")
    assert "names somebody twice" in refused(preset="softphones", users=[ALICE, {**ALICE, "name": "Alice"}])
    for name in ("1alice", "al ice", "al@ice", ""):
        assert "a name begins with a letter" in refused(preset="softphones", users=[{**ALICE, "name": name}])
    assert "sip host is not for softphones" in refused(preset="softphones", users=[ALICE], host="pbx.example.com")
    assert "sip users is for preset softphones" in refused(**PBX, users=[ALICE])


def test_numbers_are_e164_and_may_be_written_in_one_text() -> None:
    assert SipCredential(**PBX, numbers="+14155550100, +14155550101 +14155550100").numbers == (
        "+14155550100", "+14155550101",
    )  # fmt: skip
    told = refused(**PBX, numbers=["0415 555 0199"])
    assert "sip numbers" in told
    assert "555 0199" not in told


def test_a_country_is_one_and_peers_are_networks() -> None:
    assert SipCredential(**PBX, country="de").country == "DE"
    assert "two letters" in refused(**PBX, country="XX")
    assert "192.0.2.0/24" in refused(**PBX, peers=["192.0.2.1/24"])
    assert "is wider than any carrier's network" in refused(**PBX, peers=["8.0.0.0/8"])
    assert "is wider than any carrier's network" in refused(**PBX, peers=["::/0"])


def test_header_injection_by_a_username_is_impossible() -> None:
    for name in ('201"', "201\r\nX: y", "201@pbx", "2\\01"):
        assert "sip username" in refused(**{**PBX, "username": name})


def test_without_settings_softphones_and_private_targets_are_refused() -> None:
    public = SipSettings(listen=("udp:8.8.8.8:5060",))
    with pytest.raises(ConfigurationError, match=r"SipSettings\(softphones=True\)"):
        SipCredential(preset="softphones", users=[ALICE]).check(public)
    for host in ("10.0.0.7", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"):
        with pytest.raises(ConfigurationError, match="private or reserved"):
            SipCredential(**{**PBX, "host": host}).check(public)
    with pytest.raises(ConfigurationError, match=r"sip peers: 10\.1\.0\.0/16 is a private"):
        SipCredential(**PBX, peers=["10.1.0.0/16"]).check(public)
    SipCredential(**{**PBX, "host": "8.8.4.4"}, peers=["8.8.4.0/24"]).check(public)
    listed = SipSettings(listen=("udp:8.8.8.8:5060",), private_targets=("10.0.0.0/8",), softphones=True)
    SipCredential(**{**PBX, "host": "10.0.0.7"}, peers=["10.1.0.0/16"]).check(listed)
    SipCredential(preset="softphones", users=[ALICE]).check(listed)


def test_srtp_without_tls_is_the_operators_choice() -> None:
    keys_in_clear = SipCredential(**PBX, srtp="required")
    with pytest.raises(ConfigurationError, match="set transport to tls"):
        keys_in_clear.check(SipSettings())
    keys_in_clear.check(SipSettings(srtp_without_tls=True))
    SipCredential(**PBX, srtp="required", transport="tls").check(SipSettings())


def test_the_secret_of_the_model_is_its_password() -> None:
    assert isinstance(SipCredential(**PBX).password, SecretStr)
    assert SipCredential(**PBX).account == "201@pbx.example.com"
