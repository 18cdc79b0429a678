"""Agents: what answers a call. Its own WebSocket, a Python handler in this process, or raw audio."""
