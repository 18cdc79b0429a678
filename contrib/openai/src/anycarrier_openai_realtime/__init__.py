"""Any carrier under an OpenAI realtime session."""
