"""What an agent can do with its call, as tools for its model. They need no job context and no LiveKit server."""

from typing import Any

from livekit.agents import AgentSession, RunContext, ToolError, function_tool

from anycarrier import AnycarrierError
from anycarrier.agent import try_transfer
from anycarrier.calls import TransferStatus
from anycarrier.errors import StoreUnavailable
from anycarrier_livekit.run_call import get_call, watches


async def transfer(context: RunContext[Any] | AgentSession[Any], to: str) -> TransferStatus | None:
    """Let what is being said be heard, then hand the caller to ``to``, a number or ``sip:`` address.

    For tools of your own, with the tool's ``RunContext``; elsewhere, with the agent session. Returns
    ``TransferStatus.ANSWERED`` when the target answered, None when it did not and the caller is back with the agent.
    Raises what :meth:`MediaSession.transfer` raises, such as ``DestinationNotAllowed`` where the policy says no,
    and ``TimeoutError`` when the target rings for more than a minute.
    """
    call = get_call()
    speech = context if isinstance(context, RunContext) else context.current_speech
    if speech is not None:
        await speech.wait_for_playout()
    await call.drain()
    await call.transfer(to)
    return await call.wait_for_transfer()


@function_tool
async def transfer_call(context: RunContext[Any], to: str) -> None:
    """Transfer the caller to somebody else. Tell the caller first that you are about to transfer them.

    Args:
        to: The telephone number to transfer to, in international format such as +14155550123.
    """
    await context.wait_for_playout()
    if why_not := await try_transfer(get_call(), to):
        raise ToolError(why_not)


@function_tool
async def press_keys(context: RunContext[Any], keys: str) -> str:
    """Press keys of the telephone keypad, to answer the menu of an automated system.

    Args:
        keys: The keys in order: 0-9, A-D, * and #, and w for a pause of half a second.
    """
    await context.wait_for_playout()
    try:
        await get_call().send_digits(keys)
    except (AnycarrierError, StoreUnavailable, ValueError) as refused:
        raise ToolError(f"The keys were not pressed: {refused}") from refused
    return "The keys were pressed."


@function_tool
async def end_call(context: RunContext[Any]) -> str:
    """End the call. Use this when the caller is done or says goodbye, never while they wait for something."""
    context.disallow_interruptions()
    # The reply to this tool's result is part of the same speech: hang up once it was heard.
    end = watches[context.session].end if context.session in watches else context.session.shutdown
    context.speech_handle.add_done_callback(lambda _: end())
    return "Say goodbye to the caller in a few words."
