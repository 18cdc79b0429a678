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
