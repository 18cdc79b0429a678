"""TLS and SRTP with keys in SDP (SDES) against Debian's baresip; a certificate of somebody else is refused."""

from __future__ import annotations

import datetime
import ipaddress
import logging
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from peer_process import HOST
from sip_house import OURS, open_house, until
from softphone import softphone

from anycarrier import EndReason
from anycarrier.errors import ProviderUnavailable


def certificate(folder: Path, name: str, address: str = HOST) -> Path:
    """A PEM file with a key and a certificate, signed by itself, of ``address``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


def secure(phone_certificate: Path) -> dict[str, str]:
    """Settings of the telephone: TLS on the port after its own, SRTP or nothing."""
    return {
        "account": "transport=tls>;regint=0;mediaenc=srtp-mand",
        "config": f"sip_certificate {phone_certificate}\nsip_verify_server no\n",
    }


def ours(folder: Path) -> dict[str, object]:
    mine = certificate(folder, "ours")
    return {"listen": (f"tls:{HOST}:0",), "tls_certificate": mine}


async def test_we_ring_and_nobody_can_listen_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    theirs = certificate(tmp_path, "theirs")
    async with softphone(tmp_path, **secure(theirs)) as phone:
        trunk = {"port": phone.port + 1, "transport": "tls", "srtp": "required"}
        async with open_house(trunk, settings=ours(tmp_path) | {"tls_ca": theirs}) as house:
            call = await house.exchange.dial(from_=OURS, to=f"sip:{phone.user}@{HOST}:{phone.port + 1};transport=tls")
            await phone.event("CALL_INCOMING")
            await phone.do("accept")
            await house.live()
            await until(lambda: len(house.heard[0].pcm) > 20000)
            await phone.press("5")
            await until(lambda: house.heard[0].digits == "5")
            await house.exchange.hang_up(call)
            await phone.event("CALL_CLOSED")
            over = await house.over(call)
            assert over.reason is EndReason.API_STOP
            assert house.heard[0].sound.loud().between(0.2, 1).share(440) > 0.9
            await until(lambda: phone.heard().seconds > 1)
            assert phone.heard().loud().between(0.2, 1).share(600) > 0.9
            assert "RTP/SAVP" in phone.trace and "AES_CM_128_HMAC_SHA1_80" in phone.trace
            keys = {line.partition("inline:")[2].split("|")[0].strip() for line in phone.trace.splitlines()
                    if line.startswith("a=crypto:")}  # fmt: skip
            assert len(keys) >= 2
            told = caplog.text + repr(over) + repr(house.events)
            assert not [key for key in keys if key in told]


async def test_they_ring(tmp_path: Path) -> None:
    theirs = certificate(tmp_path, "theirs")
    async with softphone(tmp_path, **secure(theirs)) as phone:
        trunk = {"port": phone.port + 1, "transport": "tls", "srtp": "offered"}
        async with open_house(trunk, settings=ours(tmp_path) | {"tls_ca": theirs}) as house:
            await phone.dial(f"sip:{OURS}@{house.address};transport=tls")
            await phone.event("CALL_ESTABLISHED")
            await house.live()
            await until(lambda: len(house.heard[0].pcm) > 24000)
            await phone.do("hangup")
            assert (await house.over(await house.only_call())).reason is EndReason.USER_HANGUP
            assert house.heard[0].sound.loud().between(0.2, 1).share(440) > 0.9
            await until(lambda: phone.heard().seconds > 1)
            assert phone.heard().loud().between(0.2, 1).share(600) > 0.9


async def test_plain_sound_is_refused_where_srtp_is_required(tmp_path: Path) -> None:
    theirs = certificate(tmp_path, "theirs")
    plain = secure(theirs) | {"account": "transport=tls>;regint=0"}
    async with softphone(tmp_path, **plain) as phone:
        trunk = {"port": phone.port + 1, "transport": "tls", "srtp": "required"}
        async with open_house(trunk, settings=ours(tmp_path) | {"tls_ca": theirs}) as house:
            await phone.dial(f"sip:{OURS}@{house.address};transport=tls")
            assert "488" in (await phone.event("CALL_CLOSED"))["param"]
            assert not house.sessions


@pytest.mark.parametrize("wrong", ["unknown", "another address"])
async def test_a_wrong_certificate_is_refused(tmp_path: Path, wrong: str) -> None:
    theirs = certificate(tmp_path, "theirs", "127.0.0.2" if wrong == "another address" else HOST)
    trusted = theirs if wrong == "another address" else certificate(tmp_path, "somebody")
    async with softphone(tmp_path, **secure(theirs)) as phone:
        trunk = {"port": phone.port + 1, "transport": "tls", "srtp": "required"}
        async with open_house(trunk, settings=ours(tmp_path) | {"tls_ca": trusted}) as house:
            with pytest.raises(ProviderUnavailable):
                await house.exchange.dial(from_=OURS, to=f"sip:{phone.user}@{HOST}:{phone.port + 1};transport=tls")
            assert "INVITE" not in phone.trace

