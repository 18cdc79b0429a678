"""Speech: the contract of speech engines, voice activity, and turn-taking. Engines themselves are plugins."""

from anycarrier.speech.engines import (
    EngineSettings,
    Heard,
    Hearing,
    Recognizer,
    ResultQueue,
    SpeakingStyle,
    SpeechEngine,
    Synthesizer,
    VoiceActivityDetector,
    get_speech_engine,
    open_speech_engine,
    speech_engine_names,
)
from anycarrier.speech.turn_outputs import (
    BargeIn,
    BeginUtterance,
    DropTurn,
    EmitFinal,
    EmitInterim,
    FinishUtterance,
    Output,
    SilenceTimeout,
    StopSpeaking,
)
from anycarrier.speech.turn_state import TurnSettings, interruption_seconds
from anycarrier.speech.turns import Turns
from anycarrier.speech.voice_activity import Voice, VoiceActivity, VoiceGate

__all__ = [
    "BargeIn",
    "BeginUtterance",
    "DropTurn",
    "EmitFinal",
    "EmitInterim",
    "EngineSettings",
    "FinishUtterance",
    "Heard",
    "Hearing",
    "Output",
    "Recognizer",
    "ResultQueue",
    "SilenceTimeout",
    "SpeakingStyle",
    "SpeechEngine",
    "StopSpeaking",
    "Synthesizer",
    "TurnSettings",
    "Turns",
    "Voice",
    "VoiceActivity",
    "VoiceActivityDetector",
    "VoiceGate",
    "get_speech_engine",
    "interruption_seconds",
    "open_speech_engine",
    "speech_engine_names",
]
