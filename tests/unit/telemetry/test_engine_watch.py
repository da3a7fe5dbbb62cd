"""What the container engine says, as events, out of its HTTP stream."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from labs.telemetry.engine_watch import EngineWatch, event_of
from labs.telemetry.frr_log import Offset
from labs.telemetry.records import EngineEvent

NOW = Offset(2_000_000_000, 1_500_000_000)
DIED = {
    "Action": "die",
    "timeNano": 1_999_000_000,
    "Actor": {"Attributes": {"clab-node-name": "leaf1", "exitCode": "137", "image": "i"}},
}


def test_an_event_as_the_timeline_holds_it() -> None:
    assert event_of(DIED, NOW) == EngineEvent(t=1_499_000_000, node="leaf1", event="die", exit_code=137)
    killed = {**DIED, "Action": "kill", "Actor": {"Attributes": {"name": "clab-x-leaf1", "signal": "9"}}}
    assert event_of(killed, NOW) == EngineEvent(t=1_499_000_000, node="clab-x-leaf1", event="kill", signal=9)


def test_events_come_as_lines_however_they_are_cut(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "e"))
        engine.listen()
        watch = EngineWatch(f"unix://{tmp_path}/e", {"railbed-lab": "x"}, 1.25)
        assert watch.open()
        connection, _ = engine.accept()
        asked = connection.recv(4096).decode()
        assert asked.startswith("GET /events?since=1.250000000&filters=")
        assert "HTTP/1.0" in asked
        line = json.dumps(DIED).encode() + b"\n"
        connection.sendall(b"HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\n\r\n" + line + line[:20])
        assert len(list(watch.events(NOW))) == 1
        connection.sendall(line[20:])
        assert len(list(watch.events(NOW))) == 1
        connection.close()
        assert list(watch.events(NOW)) == []
        assert watch.socket is None
        assert watch.open()  # again, from the last event on
        again, _ = engine.accept()
        assert "since=1.99900" in again.recv(4096).decode()
        again.close()
        watch.close()


def test_no_engine(tmp_path: Path) -> None:
    assert not EngineWatch(f"unix://{tmp_path}/none", {}, 0.0).open()
