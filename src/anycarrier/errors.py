"""Every exception anycarrier raises, in one tree.

    AnycarrierError
      ConfigurationError
        UnknownProvider         no such carrier plugin is installed
        UnknownCredential       no credential under that id
        UnknownAgent            nobody answers to that agent_id
        UnknownSpeechEngine     no installed plugin brings this speech engine
        UnknownVoice            a speech engine has no such voice, or speaks no such language
        PluginError             a plugin is broken, or two claim one name
      InvalidNumber             not E.164 (is a ValueError too)
        InvalidSipAddress       not a SIP address that can be read in one way only
      NumberNotAssigned         no line for this number
      NumberAlreadyAssigned     the number is a line of another credential
      UnknownCall               no such call in progress here
      CallUnconfirmed           the carrier has not named the call yet, so nothing can be asked of it
      CallElsewhere             another process has the call on its own sockets, and only that one can do it
      PolicyRefusal
        DestinationNotAllowed   toll-fraud guard: country, prefix, premium rate or SIP host
        LimitReached            calls per second, concurrency, rolling limits
      UnsupportedOperation      this carrier cannot be asked for that
      ProviderError             the carrier was asked, and it did not work
        AuthenticationFailed    wrong or revoked secrets
        RequestRejected         the carrier understood, and said no
          PermissionDenied      the account may not do this
          InsufficientFunds     the account has run dry
          NumberRejected        the carrier does not accept this number
          RequirementsMissing   a regulated number lacks an address, an identity, documents: ``requirements``
          NumberUnavailable     somebody else has bought it, or it is no longer offered
          NotFound              the carrier knows no such call, number, recording
        RateLimited             slow down; ``retry_after`` seconds when told
        ProviderUnavailable     5xx, timeout, no connection: on ``dial`` the outcome is unknown, unless nothing was sent
        UnreadableResponse      the carrier answered, but not in its own language
      SpeechFailed              a speech engine was asked, and it did not work
      AgentUnreachable          an agent's socket could not be opened, or it declined the call
        SpeechNotReady          an agent's speech engine is absent, not configured or broken: it takes no call
      ModelFailed               a chat endpoint was asked for words, and gave none we can use
      WireError
        SignatureInvalid        not from the carrier
          Replayed              from the carrier, but seen before
        MalformedMessage        theirs: we could not read it
        TicketRefused           the media socket's slip is forged, used, expired or foreign
        UnreadableAudio         theirs: a stream in an encoding we have no decoder for
        StreamNotOpen           ours: audio before start or after stop

``StoreUnavailable`` stands beside the tree: a platform's own call book, registry, once store or credential source
raises it, and code that catches ``AnycarrierError`` to judge a call or a carrier must not take it for that.

Messages name the provider, the operation and the next step. They never hold a secret, audio, or a
whole phone number: carrier texts pass through :func:`anycarrier.redaction.redact` first.
"""

from __future__ import annotations

from collections.abc import Iterable

from anycarrier.redaction import mask_number, redact


class AnycarrierError(Exception):
    """Base of everything anycarrier raises on purpose.

    The message is for anybody: it is also what the HTTP APIs and the command line say. What to write in a program
    is a note (PEP 678), which tracebacks show.
    """


class StoreUnavailable(Exception):
    """The call book, registry, once store or credential source cannot be reached now; raised by the one that cannot.

    Calls go on without it where they can: a hang-up is asked of the carrier although the reason cannot be written
    down first; a media socket is refused with status 503 or closed with 1013, so that the carrier ends the call.
    """


class ConfigurationError(AnycarrierError):
    """A setting or an argument is wrong or missing: no call is at fault."""


class UnknownProvider(ConfigurationError):
    """No installed plugin provides this carrier."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        have = ", ".join(self.known) or "none"
        super().__init__(
            f"no provider named {name!r} is installed (installed: {have}). "
            f"Install the plugin that ships it, usually anycarrier-{name}: docs/quickstart.md says from where"
        )


class UnknownCredential(ConfigurationError):
    """No credential is stored under this id."""

    def __init__(self, credential_id: str) -> None:
        self.credential_id = credential_id
        super().__init__(f"no credential {credential_id!r}: add it first")
        self.add_note(f"Give it to Exchange(credentials={{{credential_id!r}: ...}}).")


class UnknownAgent(ConfigurationError):
    """Nobody answers to this ``agent_id``."""

    def __init__(self, agent_id: str, known: Iterable[str] = ()) -> None:
        self.agent_id = agent_id
        self.known = tuple(sorted(known))
        have = ", ".join(self.known) or "none"
        super().__init__(f"no agent {agent_id!r} (known: {have}). Register it, or assign the number to a known one")


class UnknownSpeechEngine(ConfigurationError):
    """No installed plugin brings this speech engine."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        have = ", ".join(self.known) or "none"
        super().__init__(
            f"no speech engine named {name!r} is installed (installed: {have}). "
            f"Install the plugin that ships it, by convention anycarrier-speech-{name}; docs/speech.md lists engines "
            "by plugin"
        )


class UnknownVoice(ConfigurationError):
    """A speech engine has no such voice, or speaks no such language (``voice`` is then the language's code)."""

    def __init__(self, engine: str, voice: str, advice: str = "") -> None:
        self.engine = engine
        self.voice = voice
        super().__init__(f"{engine} has no voice {voice!r}." + (f" {advice}" if advice else ""))


class PluginError(ConfigurationError):
    """A plugin cannot be used; the message names the distribution that ships it."""


class InvalidNumber(AnycarrierError, ValueError):
    """Not a phone number in E.164 form."""

    def __init__(self, text: object) -> None:
        super().__init__(
            f"{mask_number(str(text))!r} is not an E.164 number: a plus sign, the country code and the number, "
            "digits only, like +14155550100"
        )


class InvalidSipAddress(InvalidNumber):
    """Not a SIP address, or one that different readers would read differently. ``why`` names the part that is wrong."""

    def __init__(self, why: str) -> None:
        self.why = why
        AnycarrierError.__init__(
            self, f"this is not a SIP address: {why}. Write it like sip:desk@pbx.example.com (RFC 3261)"
        )


class NumberNotAssigned(AnycarrierError):
    """No line is registered for this number."""

    def __init__(self, number: str) -> None:
        super().__init__(f"{mask_number(number)} is not assigned to an agent: assign it first")
        self.add_note("Call exchange.assign(number, agent_id=..., credential_id=...).")


class NumberAlreadyAssigned(AnycarrierError):
    """The number is in service under another credential."""

    def __init__(self, number: str, credential_id: str) -> None:
        self.credential_id = credential_id
        super().__init__(
            f"{mask_number(number)} is already assigned through credential {credential_id!r}. "
            "Take it out of service there before moving it to another carrier"
        )
        self.add_note("Call exchange.unassign(number).")


class UnknownCall(AnycarrierError):
    """No call in progress goes by this id."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        super().__init__(
            f"no call {call_id!r} is in progress here: check its id, and in the carrier's call log whether it is over"
        )
        self.add_note("A Call object knows its carrier, an id alone does not: pass the Call to exchange.fetch_call.")


class CallUnconfirmed(AnycarrierError):
    """The carrier has not named this call: its dial is under way, or its outcome is unknown."""

    def __init__(self, provider: str, operation: str) -> None:
        self.provider = provider
        self.operation = operation
        super().__init__(
            f"{provider} has not confirmed this call yet, so {operation} has nothing to name it by. "
            "Try again in a moment, or look into the carrier's call log"
        )
        self.add_note("Wait with exchange.wait_until(call, lambda c: bool(c.id), ...).")


class CallElsewhere(AnycarrierError):
    """This process does not have the call on its sockets: another one has, or had. A carrier with a listener raises it
    for each call that its provider does not hold; success would leave the call up."""

    def __init__(self, provider: str, operation: str, call_id: str) -> None:
        self.provider = provider
        self.operation = operation
        self.call_id = call_id
        super().__init__(
            f"{provider} cannot do {operation} here: call {call_id[:64]!r} is on the sockets of another process, or is "
            "over. Ask the process that made or answered it"
        )


class PolicyRefusal(AnycarrierError):
    """Our own rules forbid it; the carrier was not asked."""


class DestinationNotAllowed(PolicyRefusal):
    """The destination is outside the countries, prefixes and SIP hosts this exchange may ring.

    ``advice`` is the next step, in the words of the policy's owner.
    """

    def __init__(self, number: str, why: str, advice: str = "Add it to Policy(allow=...) if this is meant") -> None:
        self.why = why
        self.advice = advice
        super().__init__(f"{mask_number(number)} may not be called: {why}. {advice}")


class LimitReached(PolicyRefusal):
    """A limit of our own is used up. ``retry_after`` is in seconds, None when waiting does not help."""

    def __init__(self, what: str, *, retry_after: float | None = None) -> None:
        self.what = what
        self.retry_after = retry_after
        wait = f" Try again in {retry_after:.0f} s" if retry_after is not None else ""
        super().__init__(f"limit reached: {what}.{wait}")


class UnsupportedOperation(AnycarrierError):
    """This carrier, or its plugin, cannot be asked for that."""

    def __init__(self, provider: str, operation: str, detail: str = "") -> None:
        self.provider = provider
        self.operation = operation
        self.detail = detail
        super().__init__(
            f"{provider} does not support {operation}" + (f": {detail}" if detail else "")
            + ". See provider.capabilities for what it can do"
        )


class ProviderError(AnycarrierError):
    """The carrier was asked and it did not work.

    ``status`` is the HTTP status (None when there was no answer), ``code`` the carrier's own code as text,
    ``message`` the carrier's own words with numbers masked.
    """

    verb = "failed"
    next_step = ""

    def __init__(
        self,
        provider: str,
        operation: str,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.provider = provider
        self.operation = operation
        self.status = status
        self.code = code
        self.message = redact(message).strip()
        if next_step is not None:
            self.next_step = next_step
        label = code or (str(status) if status else "")
        text = f"{provider} {self.verb} {operation}" + (f" ({label})" if label else "")
        if self.message:
            text += f": {self.message.rstrip('.')}"
        text += "."
        if self.next_step:
            text += f" {self.next_step}"
        super().__init__(text)


class AuthenticationFailed(ProviderError):
    """The carrier does not accept our secrets."""

    verb = "refused our credentials for"
    next_step = "Check the credential's secrets: they may be mistyped, revoked or of another account."


class RequestRejected(ProviderError):
    """The carrier understood the request and said no."""

    verb = "refused"
    next_step = "Correct the request; sending it again unchanged will not help."


class PermissionDenied(RequestRejected):
    """The account may not do this: a destination, a feature, a country."""

    next_step = "Enable the permission, destination or feature in the carrier's console."


class InsufficientFunds(RequestRejected):
    """The account has no money left, or is suspended for it."""

    next_step = "Top up the account at the carrier."


class NumberRejected(RequestRejected):
    """The carrier does not accept this number."""

    next_step = "Check the number is E.164, like +14155550100, and in service."


class NumberUnavailable(RequestRejected):
    """The number offered is gone."""

    next_step = "Search again and buy another one."


class RequirementsMissing(RequestRejected):
    """A regulated number is not sold before the carrier has what ``requirements`` names.

    They are values of :class:`anycarrier.numbers.NumberRequirement`; empty when the carrier does not say which.
    """

    def __init__(
        self,
        provider: str,
        operation: str,
        message: str = "",
        *,
        requirements: Iterable[str] = (),
        status: int | None = None,
        code: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.requirements = tuple(sorted(str(each) for each in requirements))
        wanted = ", ".join(each.replace("_", " ") for each in self.requirements) or "what its regulation asks for"
        step = next_step or f"Give the carrier the number's {wanted} in its console, then buy again."
        super().__init__(provider, operation, message, status=status, code=code, next_step=step)


class NotFound(RequestRejected):
    """The carrier knows no such call, number or recording."""

    next_step = "Check the id, and that it belongs to this credential's account."


class RateLimited(ProviderError):
    """Too many requests; nothing was done. ``retry_after`` in seconds, None when the carrier did not say."""

    verb = "throttled"

    def __init__(
        self,
        provider: str,
        operation: str,
        message: str = "",
        *,
        retry_after: float | None = None,
        status: int | None = 429,
        code: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.retry_after = retry_after
        wait = f"Wait {retry_after:g} s and try again." if retry_after is not None else "Wait a little and try again."
        super().__init__(provider, operation, message, status=status, code=code, next_step=next_step or wait)


class ProviderUnavailable(ProviderError):
    """The carrier is down, slow or unreachable. After ``dial`` and ``transfer`` the outcome is unknown.

    ``sent`` is False where not one byte of the request can have reached the carrier (no connection came about):
    nothing was dialled then, and it may be asked again.
    """

    verb = "did not complete"

    def __init__(
        self,
        provider: str,
        operation: str,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        next_step: str | None = None,
        sent: bool = True,
    ) -> None:
        self.sent = sent
        if next_step is None:
            if operation == "transfer" and sent:
                next_step = "The outcome is unknown: wait_for_transfer tells whether the call was transferred."
            elif operation != "dial":
                next_step = "Try again later; check the carrier's status page."
            elif sent:
                next_step = (
                    "The outcome is unknown and the phone may be ringing: do not dial again before checking the "
                    "carrier's call log. If it does ring, its progress still comes by webhook."
                )
            else:
                next_step = (
                    "Nothing was sent, so no phone is ringing: check the network, then dial again."
                )
        super().__init__(provider, operation, message, status=status, code=code, next_step=next_step)
        if operation == "dial" and sent:
            self.add_note("Wait for the carrier's word with exchange.wait_for(reference).")

    @property
    def outcome_unknown(self) -> bool:
        """True when the carrier may have done it all the same."""
        return self.operation in ("dial", "transfer") and self.sent


class UnreadableResponse(ProviderUnavailable):
    """The carrier answered something that is not its API: half a body, HTML from a gateway."""

    verb = "answered unreadably to"


class SpeechFailed(AnycarrierError):
    """A speech engine could not do it; a fallback engine may. ``operation`` is ``speak``, ``listen`` or ``detect``."""

    def __init__(self, engine: str, operation: str, message: str = "", *, next_step: str = "") -> None:
        self.engine = engine
        self.operation = operation
        self.message = redact(message).strip()
        text = f"{engine} failed to {operation}"
        if self.message:
            text += f": {self.message.rstrip('.')}"
        super().__init__(text + "." + (f" {next_step}" if next_step else ""))


class AgentUnreachable(AnycarrierError):
    """An agent's socket could not be opened, or it declined the call; ``status`` is its HTTP answer, when it gave one.

    The URL is not quoted beyond its host: call tokens travel in its path and query.
    """

    def __init__(self, agent_id: str, host: str, why: str, *, status: int | None = None) -> None:
        self.agent_id = agent_id
        self.status = status
        super().__init__(f"agent {agent_id!r} at {host} cannot take the call: {redact(why).strip().rstrip('.')}.")

    @property
    def declined(self) -> bool:
        """True when it was reached and said no (an HTTP status of 4xx to its handshake)."""
        return self.status is not None and 400 <= self.status < 500


class SpeechNotReady(AgentUnreachable):
    """A call with this agent would be silent or unheard: a speech engine that it needs is not there, lacks settings, or
    does not start. Told before a call is answered or dialled."""

    def __init__(self, agent_id: str, why: str) -> None:
        self.agent_id = agent_id
        self.status = None
        self.why = redact(why).strip()
        AnycarrierError.__init__(self, f"agent {agent_id!r} cannot take the call: {self.why}")


class ModelFailed(AnycarrierError):
    """A chat endpoint was asked, and it did not work. ``status`` is its HTTP answer, when it gave one."""

    def __init__(self, model: str, message: str, *, status: int | None = None) -> None:
        self.model = model
        self.status = status
        super().__init__(f"model {model!r} gave no answer: {redact(message).strip().rstrip('.')}.")


class WireError(AnycarrierError):
    """Something on a webhook or a media socket is not as it must be."""


class SignatureInvalid(WireError):
    """The message does not come from the carrier, or cannot be proven to."""


class Replayed(SignatureInvalid):
    """The message is the carrier's, but we have acted on it already."""


class MalformedMessage(WireError):
    """Theirs: a message we could not read. ``raw`` keeps what came, cut to 2,000 bytes."""

    def __init__(self, detail: str, raw: bytes | str = b"") -> None:
        self.raw = raw[:2000]
        super().__init__(detail)


class TicketRefused(WireError):
    """The media socket's ticket is missing, forged, expired, used or for another call."""

    def __init__(self, why: str, *, status: int = 403) -> None:
        self.why = why
        self.status = status
        super().__init__(f"media ticket refused: {why}")


class UnreadableAudio(WireError):
    """Theirs: the stream's sound is in a format that cannot be decoded. The call ends with ``media_error``."""

    def __init__(self, provider: str, encoding: str, rate: int, channels: int) -> None:
        self.encoding = encoding
        self.rate = rate
        self.channels = channels
        many = "1 channel" if channels == 1 else f"{channels} channels"
        super().__init__(
            f"{provider} sends audio as {encoding[:40]} at {rate} Hz with {many}, which cannot be decoded; PCMU, PCMA "
            "and L16 with one channel can. Set the codec of the number's application or trunk at the carrier"
        )


class StreamNotOpen(WireError):
    """Ours: audio, a mark or a clear before the stream started or after it stopped."""
