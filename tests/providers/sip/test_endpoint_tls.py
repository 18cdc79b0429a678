"""TLS between endpoints on loopback: names are checked, old versions refused, and nobody can switch that off."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anycarrier.errors import ConfigurationError
from anycarrier_sip.endpoint import Endpoint
from anycarrier_sip.message import Headers, Request, reply
from anycarrier_sip.resolver import Target
from anycarrier_sip.settings import SipSettings
from anycarrier_sip.transaction import Flow, ServerTransaction
from virtual_time import virtually


class Authority:
    """Writes ``ca.pem``, and certificates with their keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._signed(self.name, self.key, None).public_bytes(serialization.Encoding.PEM))

    def certificate(self, *names: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        path = self.folder / f"{names[0]}.pem"
        path.write_bytes(
            self._signed(subject, key, names).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: tuple[str, ...] | None
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
            # From Python 3.13 on, a certificate without its issuer's key identifier is not trusted (RFC 5280, 4.2.1.1).
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if names is None:
            usage = {name: name in ("key_cert_sign", "crl_sign") for name in KEY_USAGES}
            builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        if names:
            kinds = [x509.IPAddress(ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(kinds), critical=False)
        return builder.sign(self.key, hashes.SHA256())


KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Answers:
    """A trunk that says 200 to everything."""

    credential = None
    contact_user = "x"
    from_anywhere = own_user = challenges = False

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.peers = [ip_network("127.0.0.1/32")]

    def resolved(self, addresses: object) -> None: ...

    def wants(self, request: Request, flow: Flow) -> bool:
        return True

    def recognizes(self, request: Request, flow: Flow) -> bool:
        return False

    def invited(self, transaction: ServerTransaction) -> None:
        self.requested(transaction)

    def requested(self, transaction: ServerTransaction) -> None:
        transaction.respond(reply(transaction.request, 200, to_tag="x"))


Scene = Callable[[Endpoint, Endpoint], Awaitable[None]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def play(scene: Scene, certificate: Path, **settings: Any) -> None:
    """``scene`` gets an endpoint that dials, and one that listens on TLS with ``certificate``."""

    async def run() -> None:
        far = await Endpoint.open(SipSettings(listen=("tls:127.0.0.1:0",), tls_certificate=certificate))
        far.register(Answers(far))
        ours = await Endpoint.open(SipSettings(**settings))
        try:
            await scene(ours, far)
        finally:
            await ours.aclose()
            await far.aclose()
            await asyncio.sleep(0.1)

    virtually(run())


async def asks(endpoint: Endpoint, flow: Flow) -> int | str:
    headers = Headers([("From", "<sip:a@h>;tag=1"), ("To", "<sip:b@h>"), ("Call-ID", "c@h"), ("CSeq", "1 OPTIONS")])
    done: asyncio.Future[int | str] = endpoint.loop.create_future()
    endpoint.request(
        Request("OPTIONS", "sip:b@127.0.0.1", headers), flow,
        on_response=lambda response: done.set_result(response.status), on_failure=done.set_result,
    )  # fmt: skip
    return await done


def target(far: Endpoint, name: str) -> Target:
    return Target("tls", *far.addresses["tls"], name)


def test_requests_go_over_tls_to_a_server_of_the_right_name(authority: Authority) -> None:
    async def scene(ours: Endpoint, far: Endpoint) -> None:
        flow = await ours.flow(target(far, "sip.example"))
        assert flow.transport == "tls" and await asks(ours, flow) == 200
        transport = ours.transport.connections[flow.connection]._transport
        assert transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        assert ours.contact(flow, "u").endswith(";transport=tls>")

    play(scene, authority.certificate("sip.example"), tls_ca=authority.ca)


def test_addresses_without_a_name_are_checked_as_addresses(authority: Authority) -> None:
    async def scene(ours: Endpoint, far: Endpoint) -> None:
        assert await asks(ours, await ours.flow(target(far, ""))) == 200

    play(scene, authority.certificate("127.0.0.1"), tls_ca=authority.ca)


@pytest.mark.parametrize(
    ("name", "another_authority"), [("other.example", False), ("", False), ("example", False), ("sip.example", True)]
)
def test_certificate_for_another_name_or_of_another_authority_is_refused(
    authority: Authority, tmp_path: Path, name: str, another_authority: bool
) -> None:
    (tmp_path / "b").mkdir()
    issuer = Authority(tmp_path / "b") if another_authority else authority

    async def scene(ours: Endpoint, far: Endpoint) -> None:
        with pytest.raises(ConnectionError, match=r"certificate of tls:127.*not trusted for.*tls_ca"):
            await ours.flow(target(far, name))

    play(scene, issuer.certificate("sip.example"), tls_ca=authority.ca)


def test_p10_certificates_go_unchecked_on_loopback_only_and_only_without_an_authority(authority: Authority) -> None:
    async def scene(ours: Endpoint, far: Endpoint) -> None:
        assert await asks(ours, await ours.flow(target(far, "whatever.example"))) == 200
        checked = ours.transport._client_context(Target("tls", "192.0.2.1", 5061, "sip.example"))
        assert checked.verify_mode is ssl.CERT_REQUIRED and checked.check_hostname
        assert checked.minimum_version is ssl.TLSVersion.TLSv1_2

    play(scene, authority.certificate("sip.example"))


def test_old_tls_is_refused(authority: Authority) -> None:
    async def scene(ours: Endpoint, far: Endpoint) -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLS"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await asyncio.open_connection(*far.addresses["tls"], ssl=old)
        await asyncio.sleep(0.1)
        assert far.guard.counters.closed_connections == 1

    play(scene, authority.certificate("sip.example"))


def test_tls_1_2_is_the_least_on_both_sides_whatever_the_systems_policy(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, create = list[ssl.SSLContext](), ssl.create_default_context

    def lax(*arguments: Any, **options: Any) -> ssl.SSLContext:
        made.append(context := create(*arguments, **options))
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        return context

    async def scene(ours: Endpoint, far: Endpoint) -> None:
        assert await asks(ours, await ours.flow(target(far, "sip.example"))) == 200
        assert [context.minimum_version for context in made] == [ssl.TLSVersion.TLSv1_2] * 2

    monkeypatch.setattr(ssl, "create_default_context", lax)
    play(scene, authority.certificate("sip.example"), tls_ca=authority.ca)


def test_p8_ten_seconds_for_tls_and_the_place_is_free_again(authority: Authority) -> None:
    async def scene(ours: Endpoint, far: Endpoint) -> None:
        reader, writer = await asyncio.open_connection(*far.addresses["tls"])
        await asyncio.sleep(9)
        assert len(far.transport.connections) == 1
        await asyncio.sleep(2)
        assert await reader.read() == b"" and not far.transport.connections
        writer.close()

    play(scene, authority.certificate("sip.example"))


def test_p1_stranger_gets_no_byte_of_tls(authority: Authority) -> None:
    async def scene(ours: Endpoint, far: Endpoint) -> None:
        reader, writer = await asyncio.open_connection(*far.addresses["tls"], local_addr=("127.0.0.66", 0))
        assert await reader.read() == b"" and far.guard.counters.stranger_connections == 1
        writer.close()

    play(scene, authority.certificate("sip.example"))


def test_certificate_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    async def run() -> None:
        for content in (None, "nonsense"):
            path = tmp_path / "ours.pem"
            if content is not None:
                path.write_text(content)
            with pytest.raises(ConfigurationError, match=r"sip tls_certificate .*ours\.pem cannot be used"):
                await Endpoint.open(SipSettings(listen=("tls:127.0.0.1:0",), tls_certificate=path))
        endpoint = await Endpoint.open(SipSettings(tls_ca=tmp_path / "absent.pem"))
        with pytest.raises(ConnectionError, match=r"sip tls_ca .*absent\.pem cannot be read"):
            await endpoint.flow(Target("tls", "127.0.0.1", 5061, "sip.example"))
        await endpoint.aclose()

    virtually(run())
