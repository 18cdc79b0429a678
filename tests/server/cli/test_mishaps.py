"""Whatever goes wrong on this side of the wire: one line with the next step, never a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette

from anycarrier.cli import main
from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier_server.cli import output
from anycarrier_server.cli.key_commands import read_secret
from anycarrier_server.domain import access
from server.cli.town import Run


class Terminal:
    """Standard input with a person at it."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.answers.pop(0) + "\n"


async def test_a_wrong_setting_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_PORT", "many")
    for words in (("agents", "ls"), ("agents", "ls", "--direct"), ("db", "upgrade"), ("rotate-key",)):
        refused = await run(*words, expect=2)
        assert "port" in refused.err and "settings.md" in refused.err


@pytest.mark.parametrize("text", ["port = ", 'allow = "US'])
async def test_a_settings_file_that_cannot_be_read_is_said_to_be_that(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "anycarrier.toml").write_text(text)
    assert "not TOML" in (await run("db", "upgrade", expect=2)).err


@pytest.mark.parametrize("variable", ["ANYCARRIER_ENGINES", "ANYCARRIER_ENGINES__DEEPGRAM"])
async def test_a_table_that_is_no_table_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "no json")
    refused = await run("db", "upgrade", expect=2)
    assert "(ANYCARRIER_ENGINES): must be a table" in refused.err and refused.err.count("\n") == 1


async def test_a_list_that_is_no_list_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_ALLOW", "['US', 'DE']")
    refused = await run("db", "upgrade", expect=2)
    assert "allow (ANYCARRIER_ALLOW): this is no list: write US,+4930" in refused.err


@pytest.mark.parametrize("words", [("db", "upgrade"), ("agents", "ls", "--direct"), ("rotate-key",)], ids=" ".join)
async def test_a_database_nobody_runs_is_told_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ANYCARRIER_DATABASE", "postgresql://me:s3cret@127.0.0.1:9/anycarrier")
    refused = await run(*words, expect=2)
    assert "ANYCARRIER_DATABASE" in refused.err and "s3cret" not in refused.err


@pytest.mark.parametrize("words", [("db", "upgrade"), ("agents", "ls", "--direct"), ("rotate-key",)], ids=" ".join)
async def test_a_database_url_that_cannot_be_read_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ANYCARRIER_DATABASE", "nonsense")
    assert "postgresql://user:password@host/name" in (await run(*words, expect=2)).err


async def test_a_file_that_is_no_database_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database at all, but long enough to look like one" * 20)
    refused = await run("db", "upgrade", "--database", f"sqlite:///{tmp_path}/text.db", expect=2)
    assert "text.db cannot be used" in refused.err


@pytest.mark.parametrize("key", ["ApiKey_\u2026", "ApiKey_one\ntwo", "\u043a\u043b\u044e\u0447"])
async def test_a_key_that_was_copied_badly_is_said_to_be_that(run: Run, key: str) -> None:
    refused = await run("agents", "ls", "--key", key, expect=2)
    assert "copy it again" in refused.err and key not in refused.err


async def test_an_address_where_something_else_answers_is_doubted(run: Run) -> None:
    async with serve(Starlette(), sock := listening()):
        refused = await run("agents", "ls", "--url", url_of(sock), "--key", "k", expect=1)
    assert "is the URL right?" in refused.err


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "authority.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@asynccontextmanager
async def answering(tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    """Where an empty list is the answer to everything; with TLS the port alone differs from what it claims."""
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            body = b'{"items": [], "total": 0}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_certificate_that_is_not_trusted_is_said_to_be_that_and_can_be_trusted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(authority)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with answering(tls) as url:
        refused = await run("agents", "ls", "--url", url, "--key", "k", expect=1)
        assert f"the certificate of {url} is not trusted" in refused.err and "SSL_CERT_FILE" in refused.err
        assert "anycarrier serve`" not in refused.err
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        await run("agents", "ls", "--url", url, "--key", "k")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
        assert "SSL_CERT_FILE" in (await run("agents", "ls", "--url", url, "--key", "k", expect=2)).err


async def test_https_where_plain_http_is_spoken_is_said_to_be_that(run: Run) -> None:
    async with answering(None) as url:
        refused = await run("agents", "ls", "--url", url, "--key", "k", expect=1)
    assert "does not speak TLS" in refused.err and "http://" in refused.err


async def test_a_request_that_is_cut_off_may_have_been_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    async def broken(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        import httpx

        sent.append(method)
        raise httpx.ReadTimeout("")

    monkeypatch.setattr("httpx.AsyncClient.request", broken)
    monkeypatch.setenv("ANYCARRIER_KEY", "k")
    assert "look before you ask again" in (await run("agents", "add", "Aria", expect=1)).err
    assert sent == ["POST"], "asked once"
    assert "look before" not in (await run("agents", "ls", expect=1)).err


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(buffered: str) -> None:
    """Standard output is a pipe whose other end is closed before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "anycarrier", "providers", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    try:
        run = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment)
    finally:
        os.close(writing)
    assert (run.returncode, run.stderr) == (141, b"")


@pytest.mark.usefixtures("served")
async def test_an_interrupted_tail_just_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "anycarrier", "calls", "tail", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ},
        # Tests may run in the background of a shell, which has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    asked = asyncio.Event()
    watched(monkeypatch, asked)
    async with asyncio.timeout(60):
        await asked.wait()
    run.send_signal(signal.SIGINT)
    _, err = await run.communicate()
    assert (run.returncode, err) == (130, b"")


def watched(monkeypatch: pytest.MonkeyPatch, asked: asyncio.Event) -> None:
    """Set ``asked`` at the next request."""
    authenticate = access.authenticate

    async def noted(*args: Any) -> Any:
        asked.set()
        return await authenticate(*args)

    monkeypatch.setattr(access, "authenticate", noted)


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("yes", True), ("", False), ("no", False)])
def test_mending_needs_a_yes(
    answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert output.agreed("mend it?") is agreed
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "mend it? [y/N] ")


def test_a_secret_is_asked_for_without_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"typed after {prompt}")
    assert read_secret(None, "API key: ") == "typed after API key: "


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("serve", "--prot", "1"), "unknown option --prot (did you mean '--port'?)"),
        (("serve", "--port", "many"), "--port"),
        (("serve", "here"), "nothing is expected at 'here'"),
        (("agents", "ls", "--jsn"), "unknown option --jsn (did you mean '--json'?)"),
        (("calls", "dial"), "required: from, to"),
        (("matrix", "--what"), "unknown option --what"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_flag_is_one_line(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    said = capsys.readouterr()
    assert (exit_.value.code, said.out) == (2, "")
    assert told in said.err and said.err.count("\n") == 1 and "--help" in said.err
