"""Any carrier under an OpenAI realtime session: of the Agents SDK (:func:`run_call`), or a socket of your own
(:func:`run_raw`), for which the SDK is not imported."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anycarrier_openai_realtime.realtime_call import CALL_TOOLS, run_raw

if TYPE_CHECKING:
    from anycarrier_openai_realtime.agents_sdk import HeardTracker, end_call, openai_agent, run_call, transfer_call

__all__ = ["CALL_TOOLS", "HeardTracker", "end_call", "openai_agent", "run_call", "run_raw", "transfer_call"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.agents_sdk"), name)
