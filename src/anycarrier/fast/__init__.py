"""The fast media path: WebSockets on picows, with a callback per frame where the portable path has a task and a queue.

Needs the extra ``anycarrier[fast]``. What a call does is the same on both paths; only what a frame costs is not.
"""
