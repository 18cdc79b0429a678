"""Any carrier as the audio of a LiveKit agent session, without a LiveKit server."""

from anycarrier_livekit.call_audio import CallAudioInput, CallAudioOutput
from anycarrier_livekit.call_tools import end_call, press_keys, transfer, transfer_call
from anycarrier_livekit.run_call import CallRoom, get_call, livekit_agent, run_call

__all__ = ["CallAudioInput", "CallAudioOutput", "CallRoom", "end_call", "get_call", "livekit_agent", "press_keys",
           "run_call", "transfer", "transfer_call"]  # fmt: skip
