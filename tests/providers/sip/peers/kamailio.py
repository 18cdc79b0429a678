"""A registrar and proxy like a PBX: kamailio, with a configuration of ours.

Users are 201, 202 ..., each with the password ``pw-USER``. REGISTER and the INVITEs of users are challenged; a call to
one of :data:`NUMBERS` goes to its user; it stays in the route by Record-Route.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from peer_process import HOST, free_ports, require, running

NUMBERS = {"+14155550101": "201", "+12125550120": "202"}

CONFIGURATION = """#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "auth.so"
modparam("auth", "nonce_expire", 300)
modparam("auth", "algorithm", "{algorithm}")
modparam("registrar", "min_expires", {min_expires})
modparam("registrar", "max_expires", {max_expires})
modparam("usrloc", "db_mode", 0)
modparam("tm", "fr_timer", 5000)
modparam("tm", "fr_inv_timer", 60000)

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here"); exit;
    }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    t_check_trans();
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (is_method("REGISTER")) {{
        $var(pw) = "pw-" + $tU;
        if (!pv_www_authenticate("pbx.test", "$var(pw)", "0")) {{ www_challenge("pbx.test", "1"); exit; }}
        save("location"); exit;
    }}
    if (!is_method("INVITE")) {{ sl_send_reply("405", "Method Not Allowed"); exit; }}
    $var(pw) = "pw-" + $au;
    if (!pv_proxy_authenticate("pbx.test", "$var(pw)", "0")) {{ proxy_challenge("pbx.test", "1"); exit; }}
    consume_credentials();
{numbers}
    record_route();
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    t_relay();
}}
"""


@dataclass
class Kamailio:
    folder: Path
    port: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


@contextlib.asynccontextmanager
async def kamailio(
    folder: Path, *, port: int | None = None, algorithm: str = "MD5", min_expires: int = 5, max_expires: int = 3600
) -> AsyncIterator[Kamailio]:
    """One that answers; ``port`` for one that takes the place of another."""
    program = require("kamailio", "kamailio")
    folder = folder / "kamailio"
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_ports()
    numbers = "\n".join(f'    if ($rU == "{number}") $rU = "{user}";' for number, user in NUMBERS.items())
    (folder / "kamailio.cfg").write_text(CONFIGURATION.format(
        host=HOST, port=port, numbers=numbers, algorithm=algorithm, min_expires=min_expires, max_expires=max_expires
    ))  # fmt: skip
    command = (program, "-f", str(folder / "kamailio.cfg"), "-DD", "-E", "-m", "16", "-M", "4", "-Y", str(folder))
    async with running(*command, log=folder / "log") as process:
        await _answers(port, process, folder / "log")
        yield Kamailio(folder, port)


async def _answers(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until it answers an OPTIONS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        probe.setblocking(False)
        ours = probe.getsockname()[1]
        options = re.sub(r"(?m)^ +", "", f"""OPTIONS sip:{HOST}:{port} SIP/2.0
            Via: SIP/2.0/UDP {HOST}:{ours};branch=z9hG4bKprobe
            Max-Forwards: 70
            From: <sip:probe@{HOST}>;tag=probe
            To: <sip:{HOST}>
            Call-ID: probe
            CSeq: 1 OPTIONS
            Content-Length: 0

            """).replace("\n", "\r\n").encode()  # fmt: skip
        async with asyncio.timeout(30):
            while True:
                assert process.returncode is None, f"it ended at once: see {log}"
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    probe.sendto(options, (HOST, port))
                    await asyncio.sleep(0.1)
                    if probe.recv(4096).startswith(b"SIP/2.0 200"):
                        return
                await asyncio.sleep(0.05)
