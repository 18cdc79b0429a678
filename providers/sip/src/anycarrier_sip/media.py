"""One call's sound: its two sockets, what comes in as frames for the session, and what the session writes as packets.

Something is sent every 20 ms, whatever the session does: to whom we hear (``rtp_source.py``), and until somebody is
heard, to the address that the description names, if ``SipSettings.permits`` it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from anycarrier.audio import pcma_to_pcmu, pcmu_to_pcma
from anycarrier.serializer import Frame
from anycarrier_sip import dtmf, rtcp, rtp
from anycarrier_sip.delivery import Delivery
from anycarrier_sip.figures import RtpStats
from anycarrier_sip.frames import control, read
from anycarrier_sip.jitter import JitterBuffer
from anycarrier_sip.pacer import Pacer, PortRange
from anycarrier_sip.playout import Playout
from anycarrier_sip.rtp import Refused, SrtpSession
from anycarrier_sip.rtp_source import Address, Network, RtpSource
from anycarrier_sip.sdp import KEY_SIZE, SUITES, LocalMedia, Negotiated, Srtp

LOST_AFTER = 60.0
"""Seconds without a packet after which a call may be dead."""
MUTE_AFTER = 5
"""Seconds after which it is told of a call that is over that none of its sound was heard."""
RTCP_EVERY = 5
"""Seconds."""
MOST_QUEUED = 10 * 60 * rtp.RATE
"""Bytes of sound that wait to be played, before the session has to wait: 10 minutes."""
STOOD_STILL = 0.015
"""Seconds without a filling after this process was busy for long: what came meanwhile is read first."""
BUFFERED = 0.1
"""Seconds that sound may wait in a far end's jitter buffer."""
MOST_READ = 500
"""Packets read at once, however many come."""
COMFORT_NOISE = 13
TRANSLATIONS = {("PCMA", "PCMU"): pcmu_to_pcma, ("PCMU", "PCMA"): pcma_to_pcmu}
"""By the codec that is wanted and the one that there is."""
_pack = rtp.HEADER.pack
_unpack = rtp.HEADER.unpack_from

log = logging.getLogger("anycarrier")


class RtpStream(Delivery):
    """A ``PushTransport``. Negotiate with :attr:`local`, then :meth:`connect` it, as often as that changes.

    ``PortsExhausted`` where there are no two ports left. The far end may be behind NAT, and send from another port than
    it says, or from another address in ``media_networks``. ``permits`` says which addresses that it names may be sent
    to, and heard.
    """

    def __init__(
        self, *, pacer: Pacer, ports: PortRange, bind_host: str, advertised_host: str, call_id: str, srtp: Srtp = "off",
        media_networks: Sequence[Network] = (), permits: Callable[[str], bool] = lambda host: True,
    ) -> None:  # fmt: skip
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._pacer, self._ports, self._call_id = pacer, ports, call_id
        self._pair = ports.open(bind_host)
        keys = {suite: secrets.token_bytes(KEY_SIZE) for suite in SUITES if srtp != "off"}
        port = self._pair[0].getsockname()[1]
        self.local = LocalMedia(advertised_host, port, secrets.randbits(62), srtp=srtp, keys=keys)
        self.closed = self.paused = False
        self.resumed: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        """Called when nothing was heard of the far end for a minute, and again after each further one."""
        self.custom: Mapping[str, str] = {}
        """The values that the start frame carries to the session."""
        self._terms: Negotiated | None = None
        self._codec = "PCMU"
        """What the session hears and says, for the whole call."""
        self._payload_type, self._silence = 0, rtp.SILENCE["PCMU"]
        self._translate: Callable[[bytes], bytes] | None = None
        self._srtp: SrtpSession | None = None
        self._held = False
        # from the far end
        self._source = RtpSource(media_networks, permits)
        self._plain_source: Address | None = None
        """Its address, where its audio is pushed as it is."""
        self._stranger: str | None = None
        """Who was not heard, last."""
        self._jitter = JitterBuffer("PCMU", self._loop.time())
        self._digits = dtmf.DigitReceiver()
        self._reports = rtcp.Reports()
        self._heard, self._heard_at = (0, 0), self._loop.time()
        """Packets of audio, and of RTCP, by the last second; when they grew last."""
        self._fill_from = 0.0
        # to the far end
        self._sendto, self._recvfrom = self._pair[0].sendto, self._pair[0].recvfrom
        self._target: Address | None = None
        self._playout = Playout()
        self._key_timestamp = 0
        self._talks, self._sounded = False, -math.inf
        """Whether the last packet was of sound, and when the last of sound went out."""
        self._ssrc, self._timestamp = secrets.randbits(32), secrets.randbits(32)
        self._sequence = secrets.randbits(16)
        self._sent = self._unsent = self._refused = self._unauthentic = self._seconds = 0
        pacer.watch(self._pair[0], self._readable)
        pacer.watch(self._pair[1], self._rtcp_readable)

    # --- what the call does -------------------------------------------------------------------------------------------

    def connect(self, terms: Negotiated) -> None:
        """Hear and speak to the far end as ``terms`` say. Called again, what is unchanged goes on undisturbed."""
        if self.closed:
            return
        before, self._terms = self._terms, terms
        if before is None:
            self._codec, self._heard_at = terms.codec, self._loop.time()
            self._jitter = JitterBuffer(terms.codec, self._heard_at)
        self._payload_type, self._silence = terms.payload_type, rtp.SILENCE[terms.codec]
        self._translate = TRANSLATIONS.get((terms.codec, self._codec))
        if terms.srtp is None or self._srtp is None:
            self._srtp = SrtpSession(terms.srtp) if terms.srtp is not None else None
        else:
            self._srtp.rekey(terms.srtp)
        self._source.name(terms.remote)
        self._aim()
        if before is None:
            self._pacer.add(self)
            for frame in self._beginning():
                self._push(frame)

    def hold(self, held: bool) -> None:
        """Tell the session that the far end listens no longer, or again."""
        if held != self._held:
            self._held, self._heard_at = held, self._loop.time()
            self._push(control("hold", held=held))

    def send_digits(self, digits: str) -> None:
        """Send keys after what is queued; see :func:`dtmf.packets`. ``ValueError`` for what is no key."""
        self._playout.digits(digits)

    def stop(self, reason: str | None = "") -> None:
        """End the session's stream, telling it why, say goodbye to the far end and give the ports back."""
        if self.closed:
            return
        if reason is not None:
            self._push(control("stop", reason=reason))
        self.closed = True
        self._pacer.remove(self)
        self._send_rtcp(goodbye=True)
        for one in self._pair:
            self._pacer.unwatch(one)
        self._ports.close(self._pair)
        self.on_lost = self.resumed = None
        self._end()
        hears = self._terms is not None and self._terms.direction in ("sendrecv", "recvonly")
        if hears and not self._jitter.received and self._seconds >= MUTE_AFTER:
            self._tell_unheard()

    @property
    def sounding(self) -> bool:
        """True while sound of ours goes out, or may wait in the far end's jitter buffer; false once it was cleared."""
        return self._loop.time() - self._sounded < BUFFERED

    def stats(self) -> RtpStats:
        """Counted so far."""
        jitter, report = self._jitter, self._reports.last
        return RtpStats(
            jitter.received, max(0, jitter.lost), jitter.late, jitter.jitter / rtp.RATE, jitter.filled / rtp.RATE,
            self._sent, self._unsent, self._refused, self._unauthentic,
            report.lost if report else 0, report.jitter if report else 0.0,
        )  # fmt: skip

    # --- what a PushTransport does ------------------------------------------------------------------------------------

    def write(self, frame: Frame) -> None:
        """Queue sound, or do what another frame says. ``ConnectionError`` once closed."""
        if self.closed:
            raise ConnectionError("the RTP stream is closed")
        if isinstance(frame, bytes):
            queue = self._playout.queue
            queue += frame
            if len(queue) > MOST_QUEUED:
                self.paused = True
            return
        order = read(frame)
        if order.type == "mark":
            self._playout.mark(order.name)
        elif order.type == "digits":
            self._playout.digits(order.digits)
        elif order.type == "clear":
            self._playout.clear()
            self._sounded = -math.inf
            self._unpause()

    async def send(self, frame: Frame) -> None:
        self.write(frame)

    async def close(self, code: int = 1000) -> None:
        """:meth:`stop`, of which the session is not told; closing twice is harmless."""
        self.stop(None)

    def _tell_unheard(self) -> None:
        if self._unauthentic:
            why = f"{self._unauthentic} packets were not encrypted with the key that was agreed on"
        elif self._stranger is not None:
            why = f"it was to come from {self._source.named[0]}, and {self._refused} packets came from {self._stranger}"
        else:
            why = "no packet came; see whether a firewall lets UDP to the ports of rtp_ports through"
        log.warning("sip call %s: none of the far end's sound was heard: %s", self._call_id, why)

    # --- to the far end -----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Send a packet; see :class:`Paced`."""
        timestamp = self._timestamp = (self._timestamp + 160) & 0xFFFFFFFF
        sound, key = self._playout.take(self._reached)
        if sound is not None:
            if self._translate is not None:
                sound = self._translate(sound)
            if len(sound) < rtp.SAMPLES:
                sound += self._silence[len(sound) :]
            self._send(self._payload_type if self._talks else self._payload_type | 0x80, timestamp, sound)
            self._talks, self._sounded = True, now
            if self.paused and len(self._playout.queue) < MOST_QUEUED // 2:
                self._unpause()
        else:
            self._talks = False
            event = self._terms.telephone_event if key is not None and self._terms is not None else None
            if key is None or event is None:
                self._send(self._payload_type, timestamp, self._silence)
            else:
                if self._playout.key_starts:
                    self._key_timestamp, event = timestamp, event | 0x80
                self._send(event, self._key_timestamp, key)
        jitter = self._jitter
        if now * rtp.RATE - jitter.position > jitter.due_after and self._loop.time() >= self._fill_from:
            self._fill()

    def _send(self, second: int, timestamp: int, payload: bytes) -> None:
        if self._target is None:
            return
        sequence = self._sequence = (self._sequence + 1) & 0xFFFF
        packet = _pack(0x80, second, sequence, timestamp, self._ssrc) + payload
        try:
            self._sendto(packet if self._srtp is None else self._srtp.protect(packet), self._target)
            self._sent += 1
        except (OSError, Refused):
            self._unsent += 1

    def _reached(self, mark: str) -> None:
        self._push(control("mark", name=mark))

    def skip(self, periods: int) -> None:
        """The far end hears a pause; see :class:`Paced`."""
        self._timestamp = (self._timestamp + 160 * periods) & 0xFFFFFFFF
        self._unsent += periods
        self._fill_from = self._loop.time() + STOOD_STILL

    def each_second(self, now: float) -> None:
        """RTCP, and whether the far end is still there; see :class:`Paced`."""
        self._seconds += 1
        if self._seconds % RTCP_EVERY == 0:
            self._send_rtcp()
        heard = self._jitter.received, self._reports.count
        if heard[0] != self._heard[0]:
            self._source.spoke_at = now
        if heard != self._heard or self._held:
            self._heard, self._heard_at = heard, now
        elif now - self._heard_at >= LOST_AFTER:
            self._heard_at = now
            if self.on_lost is not None:
                self.on_lost()

    def _send_rtcp(self, goodbye: bool = False) -> None:
        terms, source, jitter = self._terms, self._source, self._jitter
        if terms is None or self._target is None:
            return
        target = self._target[:2] if terms.rtcp_mux else source.rtcp_target(terms.remote_rtcp)
        if target is None:
            return
        block = self._reports.block(source.ssrc, jitter, self._loop.time()) if jitter.received else b""
        packet = rtcp.write(
            self._ssrc, block, time=time.time(), timestamp=self._timestamp, packets=self._sent, goodbye=goodbye
        )
        try:
            one = self._pair[0 if terms.rtcp_mux else 1]
            one.sendto(packet if self._srtp is None else self._srtp.protect_rtcp(packet), target)
        except (OSError, Refused):
            self._unsent += 1

    def _aim(self) -> None:
        assert self._terms is not None
        self._plain_source = self._source.address if self._srtp is None and self._translate is None else None
        sends = self._terms.direction in ("sendrecv", "sendonly")
        self._target = self._source.target() if sends else None

    def _unpause(self) -> None:
        if self.paused:
            self.paused = False
            if self.resumed is not None:
                self.resumed()

    # --- from the far end ---------------------------------------------------------------------------------------------

    def _readable(self, now: float) -> bool:
        """Take in a datagram; False when there is none."""
        try:
            packet, address = self._recvfrom(2048)
        except BlockingIOError:
            return False
        except OSError:  # the word of a router that a packet of ours did not arrive
            return not self.closed
        if address == self._plain_source and 12 < len(packet) <= rtp.MAX_PACKET:
            first, second, sequence, timestamp, ssrc = _unpack(packet)
            if second == self._payload_type and first == rtp.PLAIN and ssrc == self._source.ssrc:
                for audio in self._jitter.receive(sequence, timestamp, packet[12:], now):
                    look = self._look
                    if look is None or look(audio) is False:
                        (self._receive or self._push)(audio)
                return True
        if not self._unusual(packet, address, now):
            self._refused += 1
        return True

    def _unusual(self, packet: bytes, address: Address, now: float) -> bool:
        """Whatever is not plain audio from whom we hear already; False for what is not this call's."""
        terms = self._terms
        if terms is None or len(packet) > rtp.MAX_PACKET:
            return False
        if not self._source.may_be(address):
            self._stranger = address[0]
            return False
        if rtp.is_rtcp(packet):
            return not terms.rtcp_mux or self._rtcp(packet, now)
        if self._srtp is not None:
            try:
                packet = self._srtp.unprotect(packet)
            except Refused:
                self._unauthentic += 1
                return True
        if (payload := rtp.payload(packet)) is None:
            return False
        _, second, sequence, timestamp, ssrc = _unpack(packet)
        kind = second & 0x7F
        is_event = kind in (terms.telephone_event, terms.telephone_event_received)
        if not is_event and kind not in (self._payload_type, terms.other_codec, COMFORT_NOISE):
            return False
        if (address, ssrc) != (self._source.address, self._source.ssrc):
            if not self._source.take(address, ssrc, self._jitter.received, now):
                return False
            self._jitter.new_source()
            self._aim()
        if is_event or kind == COMFORT_NOISE:
            self._jitter.pass_by(sequence)
            if is_event and (key := self._digits.receive(timestamp, payload)) is not None:
                self._push(control("digit", digits=key))
            return True
        codec = terms.codec if kind == self._payload_type else "PCMA" if terms.codec == "PCMU" else "PCMU"
        if (translate := TRANSLATIONS.get((self._codec, codec))) is not None:
            payload = translate(payload)
        for audio in self._jitter.receive(sequence, timestamp, payload, now):
            self._push(audio)
        return True

    def _fill(self) -> None:
        # What lies in the socket came in time, if it is the process that stood still.
        now = self._loop.time()
        for _ in range(MOST_READ):
            if self.closed or not self._readable(now):
                break
        for audio in self._jitter.fill(now):
            self._push(audio)

    def _beginning(self) -> list[Frame]:
        if self._terms is None:
            return []
        keys = self._terms.telephone_event is not None
        start = control("start", call=self._call_id, codec=self._codec, custom=dict(self.custom), sends_digits=keys)
        return [start, control("hold", held=True)] if self._held else [start]

    def _rtcp_readable(self, now: float) -> bool:
        """:meth:`_readable`, of the other socket."""
        try:
            packet, address = self._pair[1].recvfrom(2048)
        except OSError as problem:
            return not isinstance(problem, BlockingIOError) and not self.closed
        known = (terms.remote_rtcp[0], (self._source.address or terms.remote)[0]) if (terms := self._terms) else ()
        sane = address[0] in known and len(packet) <= rtp.MAX_PACKET and rtp.is_rtcp(packet)
        if not sane or not self._rtcp(packet, now):
            self._refused += 1
        return True

    def _rtcp(self, packet: bytes, now: float) -> bool:
        try:
            plain = packet if self._srtp is None else self._srtp.unprotect_rtcp(packet)
        except Refused:
            self._unauthentic += 1
            return True
        return self._reports.receive(plain, self._ssrc, now)
