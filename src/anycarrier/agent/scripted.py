"""An agent without a model: takes an appointment by voice, confirms it by keys. What the demo shows, one to copy."""

from __future__ import annotations

from anycarrier.agent.agent_call import AgentCall

GREETING = "Good morning, this is the practice of {{doctor}}. How can I help you?"

OFFER = (
    "Certainly. We have several times this week. There is tomorrow morning at nine, "
    "or Wednesday afternoon at three, or Friday at half past eleven, or, if none of these suits you, "
    "any morning of next week. Which one would you like?"
)

GRAMMAR = """#JSGF V1.0;
grammar appointments;
public <said> = <wish> | <time> [please] | yes please | no thank you | goodbye;
<wish> = i would like to (book | change | cancel) an appointment;
<time> = tomorrow morning | wednesday afternoon | friday | next week;
"""

TIMES = {
    "tomorrow morning": "tomorrow morning at nine",
    "wednesday afternoon": "Wednesday afternoon at three",
    "friday": "Friday at half past eleven",
    "next week": "Monday of next week at nine",
}

SETTINGS = {
    "first_message": GREETING,
    "grammar": GRAMMAR,
    "dynamic_variables": {"doctor": "doctor Brown"},
    "silence_timeout_seconds": 20,
}
"""For ``agents.add("desk", handler="anycarrier.agent.scripted:appointments", settings=SETTINGS)``."""


async def appointments(call: AgentCall) -> None:
    """Until the caller has an appointment or gives up; ``call.variables`` then hold ``time`` and ``keys``."""
    async for turn in call.turns():
        if "goodbye" in turn.text or "no thank you" in turn.text:
            await call.say("Goodbye.")
            return
        chosen = next((time for words, time in TIMES.items() if words in turn.text), None)
        if chosen is None:
            await call.say(OFFER if "appointment" in turn.text else "I am sorry, I did not understand. " + OFFER)
            continue
        await call.say(f"{chosen}. Please key in your year of birth, and then the pound key.")
        keys = await call.gather(8, timeout=8)
        if len(keys) != 4:
            await call.say("That was not a year. Which time would you like?")
            continue
        call.variables.update(time=chosen, keys=keys)
        await call.say(f"Thank you. Your appointment is booked for {chosen}. Goodbye.")
        return
