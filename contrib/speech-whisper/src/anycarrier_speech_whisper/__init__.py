"""Speech to text on this machine: Whisper models, run by CTranslate2."""
