"""A small DNS server on loopback, for a loop that has both ends in it."""

from __future__ import annotations

import asyncio
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class Dns(asyncio.DatagramProtocol):
    """``records``: by name and type, lines of a zone, with ``ttl`` seconds. Make it by :meth:`open`."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.ttl = 60
        self.asked: list[tuple[str, str]] = []
        self.silent = False

    @classmethod
    async def open(cls) -> Dns:
        loop = asyncio.get_running_loop()
        _, server = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        return server

    @property
    def address(self) -> str:
        """For ``SipSettings(nameservers=...)``."""
        return f"127.0.0.1:{self.port}"

    async def aclose(self) -> None:
        """Close, and let the loop do it."""
        self.transport.close()
        await asyncio.sleep(0.01)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: Any) -> None:
        question = dns.message.from_wire(data)
        name, kind = question.question[0].name, dns.rdatatype.to_text(question.question[0].rdtype)
        self.asked.append((name.to_text(omit_final_dot=True), kind))
        if self.silent:
            return
        answer = dns.message.make_response(question)
        if found := self.records.get(self.asked[-1]):
            answer.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *found))
        elif not any(known == self.asked[-1][0] for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)

    def kinds(self) -> list[str]:
        kinds, self.asked = [kind for _, kind in self.asked], []
        return kinds
