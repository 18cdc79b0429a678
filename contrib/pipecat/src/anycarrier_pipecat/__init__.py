"""Any carrier as a transport of pipecat.

    from anycarrier_pipecat import CallTransport, pipecat_agent

    async def bot(transport: CallTransport) -> None:
        await run_bot(transport)          # yours: a pipeline with transport.input() and transport.output()

    exchange = Exchange(agents=pipecat_agent(bot), ...)
"""

from anycarrier_pipecat.agent import pipecat_agent
from anycarrier_pipecat.call_output import TransferCallFrame
from anycarrier_pipecat.transport import CallTransport, default_params

__all__ = ["CallTransport", "TransferCallFrame", "default_params", "pipecat_agent"]
