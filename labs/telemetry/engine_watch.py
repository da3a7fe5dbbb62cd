"""What the Docker engine says of a lab's containers, as it happens: its HTTP stream of events, read by hand.

The engine's own client would be half of the Recorder's memory and time to start, for one request that is never answered
to its end. The engine remembers its last 256 events, of all containers, so a listener may come a moment late.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from labs.telemetry.frr_log import Offset
from labs.telemetry.records import EngineEvent

KINDS = ("create", "start", "die", "kill", "oom", "pause", "unpause", "stop", "destroy", "restart")
NODE_LABEL = "clab-node-name"


class EngineWatch:
    """Listens to the engine at `at` (unix:///…) while it answers; who owns it opens it again when it does not."""

    def __init__(self, at: str, labels: Mapping[str, str], since_s: float) -> None:
        self._at = at.removeprefix("unix://")
        self._labels = labels
        self._since_s = since_s
        self._rest = b""
        self.socket: socket.socket | None = None

    def open(self) -> bool:
        """Ask for events from the last one on; False when no engine answers."""
        filters = {"type": ["container"], "event": list(KINDS), "label": [f"{k}={v}" for k, v in self._labels.items()]}
        asked = f"/events?since={self._since_s:.9f}&filters={quote(json.dumps(filters))}"
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            made.settimeout(1.0)
            made.connect(self._at)
            made.sendall(f"GET {asked} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
            made.setblocking(False)
        except OSError:
            made.close()
            return False
        self.socket, self._rest = made, b""
        return True

    def close(self) -> None:
        """Stop listening."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def events(self, now: Offset) -> Iterator[EngineEvent]:
        """What was said since the last time; the socket is closed when the engine has gone."""
        while self.socket is not None:
            try:
                said = self.socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                self.close()
                return
            *whole, self._rest = (self._rest + said).split(b"\n")
            for line in whole:
                if line.startswith(b"{"):  # others are the answer's head
                    yield self._event(json.loads(line), now)

    def _event(self, said: Mapping[str, Any], now: Offset) -> EngineEvent:
        # One nanosecond on: the engine tells again what happened at the very time that is asked for.
        self._since_s = said["timeNano"] / 1e9 + 1e-6
        return event_of(said, now)


def event_of(said: Mapping[str, Any], now: Offset) -> EngineEvent:
    """An event of the engine's as the timeline holds it; the engine stamps it with wall time, to the nanosecond."""
    attributes = said.get("Actor", {}).get("Attributes", {})
    return EngineEvent(
        t=now.monotonic_ns - (now.wall_ns - int(said["timeNano"])),
        node=str(attributes.get(NODE_LABEL, attributes.get("name", ""))),
        event=str(said["Action"]),
        exit_code=int(attributes["exitCode"]) if "exitCode" in attributes else None,
        signal=int(attributes["signal"]) if "signal" in attributes else None,
    )
