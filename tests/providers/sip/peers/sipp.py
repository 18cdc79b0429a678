"""SIPp, with scenarios of ours: what no telephone does on purpose.

Its ways: the ACK of a refusal must repeat the INVITE's branch by hand; ``[last_Via:]`` after an ACK is the ACK's, so
the INVITE's is saved; repeats are swallowed, so that lost packets need a bare socket.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from peer_process import HOST, free_ports, require, running

SDP = """v=0
o=sipp 1 {version} IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio {port} RTP/AVP {codecs}
{more}"""


def sdp(codecs: str = "0 101", *, port: str = "[media_port]", more: str = "", version: int = 1) -> str:
    lines = "a=rtpmap:101 telephone-event/8000\n" if "101" in codecs else ""
    return SDP.format(codecs=codecs, port=port, version=version, more=lines + more)


def send(text: str, *, retrans: int = 500, more: str = "") -> str:
    """A message; for a request, retransmitted as UDP wants it. ``[len]`` is put in where a body is."""
    repeated = f'retrans="{retrans}"' if retrans else ""
    return f"<send {repeated} {more}><![CDATA[\n\n{text.strip()}\n\n]]></send>"


def receive(*, request: str | None = None, response: int | None = None, optional: bool = False, more: str = "") -> str:
    what = f'request="{request}"' if request else f'response="{response}"'
    return f'<recv {what} optional="{str(optional).lower()}" {more}></recv>'


def receive_saving(what: str, header: str, variable: str) -> str:
    """A message whose header is kept in ``[$variable]``."""
    kept = f'<ereg regexp=".*" search_in="hdr" header="{header}:" assign_to="{variable}"/>'
    return f"<recv {what}><action>{kept}</action></recv>"


def pause(milliseconds: int) -> str:
    return f'<pause milliseconds="{milliseconds}"/>'


def scenario(*steps: str, variables: str = "") -> str:
    used = f'<Reference variables="{variables}"/>' if variables else ""
    body = "\n".join(steps)
    return f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="ours">\n{body}\n{used}\n</scenario>\n'


CALLER = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:+12125550110@[local_ip]:[local_port]>;tag=[pid]sipp[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
Max-Forwards: 70
Contact: <sip:sipp@[local_ip]:[local_port]>"""
"""Headers of a request of the one who calls; CSeq is still missing."""

CALLED = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From:[$us];tag=sipp[call_number]
To:[$them]
Call-ID: [call_id]
Max-Forwards: 70
Contact: <sip:sipp@[local_ip]:[local_port]>"""
"""Headers of a request of the one who was called, when :func:`called_by` has kept who calls."""

ANSWER = "[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
ANSWER_WITH_TAG = ANSWER.replace("[last_To:]", "[last_To:];tag=sipp[call_number]")
CONTACT = "Contact: <sip:sipp@[local_ip]:[local_port]>\n"


def with_body(head: str, body: str = "") -> str:
    kind = "Content-Type: application/sdp\n" if body else ""
    return f"{head.rstrip()}\n{kind}Content-Length: [len]\n\n{body}"


def invite(body: str = "", more: str = "") -> str:
    head = f"INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n{CALLER}\nCSeq: 1 INVITE\n{more}"
    return send(with_body(head, body))


def within(method: str, number: int, body: str = "", more: str = "", *, caller: str = CALLER) -> str:
    """A request inside the dialog."""
    head = f"{method} [next_url] SIP/2.0\n{caller}\nCSeq: {number} {method}\n{more}"
    return send(with_body(head, body))


def ack(number: int = 1, body: str = "", *, caller: str = CALLER) -> str:
    return send(with_body(f"ACK [next_url] SIP/2.0\n{caller}\nCSeq: {number} ACK", body), retrans=0)


def answered(more: str = "") -> str:
    """The 200 to the INVITE, whatever rang before."""
    return receive(response=100, optional=True) + receive(response=180, optional=True) + (
        f'<recv response="200" rrs="true">{more}</recv>'
    )


def called_by() -> str:
    """The INVITE, keeping its headers for :func:`accept_invite` and for requests in the other direction."""
    kept = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{header}:" assign_to="{name}"/>'
        for header, name in (("To", "us"), ("From", "them"), ("Via", "via"), ("CSeq", "cseq"))
    )
    return f'<recv request="INVITE" rrs="true"><action>{kept}</action></recv>'


def accept_invite(body: str, more: str = "") -> str:
    """200 to the INVITE, also when other requests have come since."""
    head = (
        "SIP/2.0 200 OK\nVia:[$via]\nFrom:[$them]\nTo:[$us];tag=sipp[call_number]\nCall-ID: [call_id]\n"
        f"CSeq:[$cseq]\n{CONTACT}{more}"
    )
    return send(with_body(head, body))


def respond(status: str, body: str = "", more: str = "", *, tag: bool = True, retrans: int = 0) -> str:
    """The answer to the last request."""
    head = f"SIP/2.0 {status}\n{ANSWER_WITH_TAG if tag else ANSWER}{CONTACT}{more}"
    return send(with_body(head, body), retrans=retrans)


@dataclass
class Sipp:
    folder: Path
    port: int
    process: object

    @property
    def address(self) -> str:
        return f"sip:sipp@{HOST}:{self.port}"

    async def finished(self) -> None:
        """Wait for its end; its own account of what went wrong, when something did."""
        code = await self.process.wait()  # type: ignore[attr-defined]
        assert code == 0, self.trace[-6000:]

    @property
    def trace(self) -> str:
        files = [path for name in ("messages", "errors") if (path := self.folder / name).exists()]
        return "\n".join(path.read_text(errors="replace") for path in files)


@contextlib.asynccontextmanager
async def sipp(
    folder: Path, steps: str, *, remote: str = f"{HOST}:5060", service: str = "service", transport: str = "u1",
    calls: int = 1, rate: int = 10, port: int | None = None, more: tuple[str, ...] = (),
) -> AsyncIterator[Sipp]:  # fmt: skip
    """It plays ``steps`` for so many calls, as the one who calls ``remote`` or as the one who is called."""
    program = require("sipp", "sip-tester")
    port = port or free_ports()
    folder = folder / f"sipp-{port}"
    folder.mkdir(parents=True)
    (folder / "scenario.xml").write_text(steps)
    command = [
        program, remote, "-sf", str(folder / "scenario.xml"), "-s", service, "-i", HOST, "-p", str(port),
        "-m", str(calls), "-r", str(rate), "-l", str(calls), "-t", transport, "-mp", str(free_ports(4)), "-nostdin",
        "-timeout", "40", "-timeout_error", "-trace_msg", "-message_file", str(folder / "messages"),
        "-trace_err", "-error_file", str(folder / "errors"), *more,
    ]  # fmt: skip
    async with running(*command, log=folder / "log") as process:
        yield Sipp(folder, port, process)
