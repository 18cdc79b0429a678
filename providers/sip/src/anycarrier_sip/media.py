"""One call's sound: its two sockets, what comes in as frames for the session, and what the session writes as packets.

Something is sent every 20 ms, whatever the session does: to whom we hear (``rtp_source.py``), and until somebody is
heard, to the address that the description names.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from anycarrier.audio import pcma_to_pcmu, pcmu_to_pcma
from anycarrier.serializer import Frame
from anycarrier_sip import dtmf, rtcp, rtp
from anycarrier_sip.frames import control, read
from anycarrier_sip.jitter import JitterBuffer
from anycarrier_sip.pacer import Pacer, PortRange
from anycarrier_sip.rtp_source import Address, Network, RtpSource
from anycarrier_sip.sdp import KEY_SIZE, SUITES, LocalMedia, Negotiated, is_nowhere
from anycarrier_sip.sdp import Srtp as SrtpMode
from anycarrier_sip.srtp import Refused, Srtp

LOST_AFTER = 60.0
"""Seconds without a packet after which a call may be dead."""
RTCP_EVERY = 5
"""Seconds."""
MOST_QUEUED = 10 * 60 * rtp.RATE
"""Bytes of sound that wait to be played, before the session has to wait: 10 minutes."""

STOOD_STILL = 0.015
"""Seconds without a filling after this process was busy for long: what came meanwhile is read first."""
EARLY = 100
"""Frames that are kept for a session that has not begun: an agent may need a moment, and the caller speaks already."""
MOST_READ = 500
"""Packets read at once, however many come."""
BUFFERED = 0.1
"""Seconds that sound may wait in a far end's jitter buffer."""
COMFORT_NOISE = 13
_pack = rtp.HEADER.pack
_unpack = rtp.HEADER.unpack_from


@dataclass(frozen=True)
class RtpStats:
    """One stream's so far. ``jitter`` in seconds; ``reported_`` is what the far end says of what it gets from us."""

    received: int
    lost: int
    late: int
    jitter: float
    filled: float
    """Seconds made up for what was lost."""
    sent: int
    unsent: int
    """Packets that the network did not take, or that were due while the process stood still."""
    refused: int
    """Packets from elsewhere, or that were none of this call's."""
    unauthentic: int
    reported_lost: int
    reported_jitter: float


class RtpStream:
    """A ``PushTransport``. Open it, negotiate with :attr:`local`, then :meth:`connect` it, as often as that changes."""

    @classmethod
    async def open(
        cls,
        *,
        pacer: Pacer,
        ports: PortRange,
        bind_host: str,
        advertised_host: str,
        srtp: SrtpMode = "off",
        call_id: str,
        media_networks: Sequence[Network] = (),
        symmetric: bool = True,
    ) -> RtpStream:
        """Take two ports. ``PortsExhausted`` where there are none left.

        ``symmetric``: the far end may be behind NAT, and send from another port than it says, or from another address
        in ``media_networks``.
        """
        keys = {suite: secrets.token_bytes(KEY_SIZE) for suite in SUITES} if srtp != "off" else {}
        pair = ports.open(bind_host)
        local = LocalMedia(
            advertised_host, pair[0].getsockname()[1], session_id=secrets.randbits(62), version=1, srtp=srtp, keys=keys
        )
        return cls(pacer, ports, pair, local, call_id, RtpSource(media_networks, symmetric))

    def __init__(
        self,
        pacer: Pacer,
        ports: PortRange,
        pair: tuple[socket.socket, socket.socket],
        local: LocalMedia,
        call_id: str,
        source: RtpSource,
    ) -> None:
        self.local = local
        self.resumed: Callable[[], None] | None = None
        self.paused = False
        self.on_lost: Callable[[], None] | None = None
        """Called when nothing was heard of the far end for a minute, and again after each further one."""
        self.custom: Mapping[str, str] = {}
        """The values that the start frame carries to the session."""
        self.closed = False
        self._call_id = call_id
        self._pacer, self._ports, self._pair = pacer, ports, pair
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._receive: Callable[[Frame], object] | None = None
        self._fill_from = 0.0
        self._early: deque[Frame] = deque(maxlen=EARLY)
        self._look: Callable[[Frame], object] | None = None
        self._terms: Negotiated | None = None
        self._codec = "PCMU"
        """What the session hears and says, for the whole call."""
        self._translate: Callable[[bytes], bytes] | None = None
        self._srtp: Srtp | None = None
        # from the far end
        self._source = source
        self._plain_source: Address | None = None
        """Its address, where its audio is pushed as it is."""
        self._ssrc_in = -1
        self._payload_type = 0
        self._jitter = JitterBuffer("PCMU", self._loop.time())
        self._digits = dtmf.DigitReceiver()
        self._held = False
        self._refused = self._unauthentic = 0
        self._reports = rtcp.Reports()
        self._received_before = self._lost_before = 0
        """Of sources before this one."""
        self._heard = (0, 0)
        """Packets of audio, and of RTCP, by the last second."""
        self._heard_at = self._loop.time()
        # to the far end
        self._sendto, self._recvfrom = pair[0].sendto, pair[0].recvfrom
        self._target: Address | None = None
        self._queue = bytearray()
        self._played = 0
        self._pending: deque[tuple[int, str, str]] = deque()
        """(position, "mark" or "digits", its name or keys): what comes when that much has been played."""
        self._keys: deque[tuple[bool, bytes | None]] = deque()
        self._key_timestamp = 0
        self._talks = False
        self._sounded = -math.inf
        """When the last packet of sound went out."""
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(16)
        self._timestamp = secrets.randbits(32)
        self._silence = rtp.SILENCE["PCMU"]
        self._sent = self._unsent = 0
        self._seconds = 0
        pacer.watch(pair[0], self._readable)
        pacer.watch(pair[1], self._rtcp_readable)

    # --- what the call does -------------------------------------------------------------------------------------------

    def connect(self, terms: Negotiated) -> None:
        """Hear and speak to the far end as ``terms`` say. Called again, what is unchanged goes on undisturbed."""
        if self.closed:
            return
        before, self._terms = self._terms, terms
        if before is None:
            self._codec = terms.codec
            self._jitter = JitterBuffer(terms.codec, self._loop.time())
            self._heard_at = self._loop.time()
        self._payload_type = terms.payload_type
        self._translate = _TRANSLATIONS.get((terms.codec, self._codec))
        self._silence = rtp.SILENCE[terms.codec]
        if terms.srtp is None:
            self._srtp = None
        elif self._srtp is None:
            self._srtp = Srtp(terms.srtp)
        else:
            self._srtp.rekey(terms.srtp)
        self._source.name(terms.remote)
        self._aim()
        if before is None:
            self._pacer.add(self)
            self._started()

    def hold(self, held: bool) -> None:
        """Tell the session that the far end listens no longer, or again."""
        if held != self._held:
            self._held = held
            self._heard_at = self._loop.time()
            self._push(control("hold", held=held))

    def send_digits(self, digits: str) -> None:
        """Send keys after what is queued; see :func:`dtmf.packets`. ``ValueError`` for what is no key."""
        dtmf.packets(digits)
        self._pending.append((self._played + len(self._queue), "digits", digits))

    def stop(self, reason: str = "") -> None:
        """End the session's stream, and close."""
        if not self.closed:
            self._push(control("stop", reason=reason))
            self._close()

    @property
    def sounding(self) -> bool:
        """True while sound of ours goes out, or may wait in the far end's jitter buffer; false once it was cleared."""
        return self._loop.time() - self._sounded < BUFFERED

    def stats(self) -> RtpStats:
        """Counted so far."""
        jitter, report = self._jitter, self._reports.last
        return RtpStats(
            received=self._received_before + jitter.received,
            lost=self._lost_before + max(0, jitter.lost),
            late=jitter.late,
            jitter=jitter.jitter / rtp.RATE,
            filled=jitter.filled / rtp.RATE,
            sent=self._sent,
            unsent=self._unsent,
            refused=self._refused,
            unauthentic=self._unauthentic,
            reported_lost=report.lost if report else 0,
            reported_jitter=report.jitter if report else 0.0,
        )

    # --- what a PushTransport does ------------------------------------------------------------------------------------

    async def push_to(self, receive: Callable[[Frame], object]) -> None:
        """Call ``receive`` with every frame, the start first, until the stream is closed."""
        self._receive = receive
        if self._terms is not None and not self.closed:
            self._started()
            if self._held:
                self._push(control("hold", held=True))
            while self._early:
                self._push(self._early.popleft())
        await asyncio.shield(self._over)

    def look_first(self, look: Callable[[Frame], object] | None) -> None:
        """Show ``look`` each frame before it is pushed; one for which it returns False is delivered as usual."""
        self._look = look

    def write(self, frame: Frame) -> None:
        """Queue sound, or do what another frame says. ``ConnectionError`` once closed."""
        if self.closed:
            raise ConnectionError("the RTP stream is closed")
        if isinstance(frame, str):
            self._obey(frame)
            return
        self._queue += frame
        if len(self._queue) > MOST_QUEUED:
            self.paused = True

    async def send(self, frame: Frame) -> None:
        """:meth:`write`."""
        self.write(frame)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        pushing = asyncio.create_task(self.push_to(frames.put_nowait))
        pushing.add_done_callback(lambda _: frames.put_nowait(None))
        try:
            while (frame := await frames.get()) is not None:
                yield frame
        finally:
            pushing.cancel()

    async def close(self, code: int = 1000) -> None:
        """Say goodbye to the far end and give the ports back; closing twice is harmless."""
        self._close()

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._pacer.remove(self)
        self._send_rtcp(goodbye=True)
        for one in self._pair:
            self._pacer.unwatch(one)
        self._ports.close(self._pair)
        self._receive = self._look = self.on_lost = self.resumed = None  # what refers to us
        self._queue.clear()
        self._early.clear()
        if not self._over.done():
            self._over.set_result(None)

    def _obey(self, frame: str) -> None:
        order = read(frame)
        if order.type == "clear":
            self._queue.clear()
            self._sounded = -math.inf
            self._pending = deque((self._played, kind, keys) for _, kind, keys in self._pending if kind == "digits")
            self._unpause()
        elif order.type == "mark":
            self._pending.append((self._played + len(self._queue), "mark", order.name))
        elif order.type == "digits":
            self.send_digits(order.digits)

    # --- to the far end -----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Send a packet; see :class:`Paced`."""
        timestamp = self._timestamp = (self._timestamp + 160) & 0xFFFFFFFF
        if self._pending and self._pending[0][0] <= self._played and not self._keys:
            self._reached()  # a frame's last sample is due as the next frame goes out
        queue = self._queue
        if self._keys:
            self._send_key(timestamp)
        elif queue:
            audio = bytes(queue[:160])
            del queue[:160]
            self._played += len(audio)
            if self._translate is not None:
                audio = self._translate(audio)
            if len(audio) < 160:
                audio += self._silence[len(audio) :]
            self._send(self._payload_type if self._talks else self._payload_type | 0x80, timestamp, audio)
            self._talks, self._sounded = True, now
            if self.paused and len(queue) < MOST_QUEUED // 2:
                self._unpause()
        else:
            self._talks = False
            self._send(self._payload_type, timestamp, self._silence)
        jitter = self._jitter
        if now * 8000 - jitter.position > jitter.due_after and self._loop.time() >= self._fill_from:
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

    def _send_key(self, timestamp: int) -> None:
        starts, payload = self._keys.popleft()
        event = self._terms.telephone_event if self._terms is not None else None
        if payload is None or event is None:
            self._send(self._payload_type, timestamp, self._silence)
            return
        if starts:
            self._key_timestamp = timestamp
        self._talks = False
        self._send(event | 0x80 if starts else event, self._key_timestamp, payload)

    def _reached(self) -> None:
        """What was to come when this much has been played."""
        while self._pending and self._pending[0][0] <= self._played and not self._keys:
            _, kind, value = self._pending.popleft()
            if kind == "mark":
                self._push(control("mark", name=value))
            else:
                self._keys.extend(dtmf.packets(value))

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
        heard = self._received_before + self._jitter.received, self._reports.count
        if heard[0] != self._heard[0]:
            self._source.spoke_at = now
        if heard != self._heard or self._held:
            self._heard, self._heard_at = heard, now
        elif now - self._heard_at >= LOST_AFTER:
            self._heard_at = now
            if self.on_lost is not None:
                self.on_lost()

    def _send_rtcp(self, goodbye: bool = False) -> None:
        terms = self._terms
        if terms is None or self._target is None:
            return
        source, jitter = self._source, self._jitter
        block = self._reports.block(source.ssrc, jitter, self._loop.time()) if jitter.received else b""
        packet = rtcp.write(
            self._ssrc, block, time=time.time(), timestamp=self._timestamp, packets=self._sent, goodbye=goodbye
        )
        one, target = self._pair[1], terms.remote_rtcp
        if terms.rtcp_mux:
            one, target = self._pair[0], self._target[:2]
        elif source.address is not None and source.address[:2] != source.named:  # behind NAT: the port beside it
            target = source.address[0], min(source.address[1] + 1, 65535)
        try:
            one.sendto(packet if self._srtp is None else self._srtp.protect_rtcp(packet), target)
        except (OSError, Refused):
            self._unsent += 1

    def _aim(self) -> None:
        """Settle whom we speak to: the source we hear, until there is one the address that was named, or nobody."""
        terms, source = self._terms, self._source
        assert terms is not None
        self._plain_source = source.address if self._srtp is None and self._translate is None else None
        self._ssrc_in = source.ssrc
        sends = terms.direction in ("sendrecv", "sendonly") and not is_nowhere(terms.remote)
        self._target = (source.address or terms.remote) if sends else None

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
            return True
        if address == self._plain_source and 12 < len(packet) <= rtp.MAX_PACKET:
            first, second, sequence, timestamp, ssrc = _unpack(packet)
            if second == self._payload_type and first == rtp.PLAIN and ssrc == self._ssrc_in:
                for audio in self._jitter.receive(sequence, timestamp, packet[12:], now):
                    look = self._look
                    if look is None or look(audio) is False:
                        (self._receive or self._push)(audio)
                return True
        self._unusual(packet, address, now)
        return True

    def _unusual(self, packet: bytes, address: Address, now: float) -> None:
        """Whatever is not plain audio from whom we hear already."""
        terms = self._terms
        if terms is None or len(packet) > rtp.MAX_PACKET or not self._source.may_be(address):
            self._refused += 1
            return
        if rtp.is_rtcp(packet):
            self._rtcp(packet, now) if terms.rtcp_mux else None
            return
        if self._srtp is not None:
            try:
                packet = self._srtp.unprotect(packet)
            except Refused:
                self._unauthentic += 1
                return
        payload = rtp.payload(packet)
        if payload is None:
            self._refused += 1
            return
        _, second, sequence, timestamp, ssrc = _unpack(packet)
        kind = second & 0x7F
        is_event = kind in (terms.telephone_event, terms.telephone_event_received)
        known = is_event or kind in (self._payload_type, terms.other_codec, COMFORT_NOISE)
        if not known or not self._is_source(address, ssrc, now):
            self._refused += 1
            return
        if is_event:
            self._jitter.pass_by(sequence)
            if (key := self._digits.receive(timestamp, payload)) is not None:
                self._push(control("digit", digits=key))
            return
        if kind == COMFORT_NOISE:
            self._jitter.pass_by(sequence)
            return
        codec = terms.codec if kind == self._payload_type else "PCMA" if terms.codec == "PCMU" else "PCMU"
        if (translate := _TRANSLATIONS.get((self._codec, codec))) is not None:
            payload = translate(payload)
        for audio in self._jitter.receive(sequence, timestamp, payload, now):
            self._push(audio)

    def _is_source(self, address: Address, ssrc: int, now: float) -> bool:
        source, jitter = self._source, self._jitter
        if address == source.address and ssrc == source.ssrc:
            return True
        if not source.take(address, ssrc, jitter.received, now):
            return False
        self._received_before += jitter.received
        self._lost_before += max(0, jitter.lost)
        jitter.new_source()
        self._aim()
        return True

    def _fill(self) -> None:
        # What lies in the socket came in time, if it is the process that stood still.
        now = self._loop.time()
        for _ in range(MOST_READ):
            if self.closed or not self._readable(now):
                break
        for audio in self._jitter.fill(now):
            self._push(audio)

    def _push(self, frame: Frame) -> None:
        if self._receive is None:
            if isinstance(frame, bytes) or '"digit"' in frame:
                self._early.append(frame)
        elif self._look is None or self._look(frame) is False:
            self._receive(frame)

    def _started(self) -> None:
        assert self._terms is not None
        self._push(
            control(
                "start", call=self._call_id, codec=self._codec, custom=dict(self.custom),
                sends_digits=self._terms.telephone_event is not None,
            )
        )  # fmt: skip

    # --- RTCP ---------------------------------------------------------------------------------------------------------

    def _rtcp_readable(self, now: float) -> None:
        try:
            packet, address = self._pair[1].recvfrom(2048)
        except OSError:
            return
        known = (terms.remote_rtcp[0], (self._source.address or terms.remote)[0]) if (terms := self._terms) else ()
        if address[0] in known and len(packet) <= rtp.MAX_PACKET and rtp.is_rtcp(packet):
            self._rtcp(packet, now)
        else:
            self._refused += 1

    def _rtcp(self, packet: bytes, now: float) -> None:
        try:
            plain = packet if self._srtp is None else self._srtp.unprotect_rtcp(packet)
        except Refused:
            self._unauthentic += 1
            return
        if not self._reports.receive(plain, self._ssrc, now):
            self._refused += 1


_TRANSLATIONS: Mapping[tuple[str, str], Callable[[bytes], bytes]] = {
    ("PCMA", "PCMU"): pcmu_to_pcma,
    ("PCMU", "PCMA"): pcma_to_pcmu,
}
"""By the codec that is wanted and the one that there is."""
