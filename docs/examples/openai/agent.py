"""Answers orders' questions on the telephone, on any carrier: a RealtimeAgent of the OpenAI Agents SDK, with tools.

``agent`` is a handler: ``Exchange(agents=agent)``, ``Agents.add("orders", handler=agent)``, or ``agent:agent`` among
the handlers of the service. It needs OPENAI_API_KEY; offline.py runs it without.
"""

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner

from anycarrier_openai_realtime import end_call, openai_agent, transfer_call

DESK = "+13105550130"

MODEL = {
    "initial_model_settings": {
        "model_name": "gpt-realtime",
        "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
    }
}


@function_tool
def order_status(number: int) -> str:
    """When an order comes."""
    return f"Order {number} comes tomorrow."


clerk = RealtimeAgent(
    name="Orders",
    instructions=(
        "You answer the telephone of a small shop. Greet the caller and ask for the number of their order. Be brief. "
        f"When they ask for a person, say that you put them through, and transfer the call to {DESK}. "
        "When they have no more questions, say goodbye and end the call."
    ),
    tools=[order_status, transfer_call, end_call],
)


def runner(session):
    """One for each call: a runner has one connection."""
    return RealtimeRunner(clerk)


async def greet(realtime):
    """The model speaks first only when it is asked to."""
    await realtime.send_message("The caller is on the line. Greet them.")


async def tell_key(realtime, digit):
    """Keys are no sound to the model."""
    await realtime.send_message(f"The caller pressed the key {digit}.")


agent = openai_agent(runner, MODEL, on_start=greet, on_digit=tell_key)
