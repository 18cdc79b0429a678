"""What the tests of the worker pool run in its processes: behaves as its argument says."""

from __future__ import annotations

import os
import sys
import time

from anycarrier.speech import workers as w


class Obedient:
    """Answers a Finish with the configuration and the number of bytes; the audio may hold an order."""

    def __init__(self, send: w.Send) -> None:
        self.send = send
        self.streams: dict[int, tuple[object, bytes]] = {}

    def take(self, message: w.ToWorker) -> None:
        if isinstance(message, w.Open):
            if message.configuration == "no":
                self.send(w.Refused(message.stream, "say yes instead"))
                return
            self.streams[message.stream] = (message.configuration, b"")
            self.send(w.Opened(message.stream))
        elif isinstance(message, w.Feed):
            configuration, audio = self.streams[message.stream]
            self.streams[message.stream] = (configuration, audio + message.audio)
        elif isinstance(message, w.Finish):
            configuration, audio = self.streams[message.stream]
            self.streams[message.stream] = (configuration, b"")
            self.obey(message, configuration, audio)
        elif isinstance(message, w.Close):
            self.streams.pop(message.stream, None)

    def obey(self, message: w.Finish, configuration: object, audio: bytes) -> None:
        if audio == b"die":
            os._exit(3)
        if audio == b"hang":
            time.sleep(60)
        if audio == b"print":
            print("a library talks")
        if audio == b"environment":
            self.send(w.Recognized(message.stream, os.environ["BROOK"], True))
            return
        if audio == b"nothing":
            return  # as for a stream whose answer was dropped
        self.send(w.Recognized(message.stream, f"{configuration} {len(audio)}", True))


def unusable(send: w.Send) -> Obedient:
    raise ValueError("the model is cut: pip install it again")


def broken(send: w.Send) -> Obedient:
    raise RuntimeError("no such library")


if __name__ == "__main__":
    role = sys.argv[1]
    if role == "crash":
        sys.exit(7)
    if role == "silent":
        time.sleep(60)
    if role == "garbage":
        sys.stdout.buffer.write(b"\xff" * 64)
        sys.stdout.flush()
        time.sleep(60)
    if role == "unusable if marked" and os.path.exists(sys.argv[2]):
        role = "unusable"
    w.serve({"unusable": unusable, "broken": broken}.get(role, Obedient))
