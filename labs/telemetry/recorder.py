"""A running lab's own process: writes what the container engine says of its containers, as it happens.

    python -m labs.telemetry.recorder ENGINE FILE SINCE LABEL=VALUE...

One JSON line an event: ``{"at": "2026-01-31T12:00:00.123456+00:00", "source": "engine", "node": "leaf1",
"event": "die", "exit_code": 137}``. The engine itself remembers only its last 256 events, of all its containers.
It ends when the lab is taken down (it carries the lab's start token), or when FILE's folder is gone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from labs import engine
from labs.errors import LabError
from labs.waiting import wait_until

# How long an engine may be away. People restart theirs for an upgrade; a day is a lab that nobody looks after.
AWAY_S = 86400.0


def main(at: str, file: str, since: str, *labels: str) -> None:
    """Write events to `file` from `since` (seconds from the epoch) on, until the lab is gone."""
    path, last_s = Path(file), float(since)
    wanted = dict(label.split("=", 1) for label in labels)
    while path.parent.is_dir():
        try:
            for event in engine.events(wanted, last_s, at):
                with path.open("a") as out:
                    out.write(json.dumps(line_of(event)) + "\n")
                last_s = event.at_s + 1e-6
        except LabError:
            pass
        engine.client.cache_clear()
        wait_until(
            "the engine answers again",
            lambda: engine.missing(at) is None or not path.parent.is_dir(),
            bool,
            within=AWAY_S,
            most=2.0,
        )


def line_of(event: engine.Event) -> Mapping[str, object]:
    """An event as the timeline holds it."""
    found: dict[str, object] = {
        "at": datetime.fromtimestamp(event.at_s, UTC).isoformat(),
        "source": "engine",
        "node": event.attributes.get("clab-node-name", event.container),
        "event": event.what,
    }
    if "exitCode" in event.attributes:
        found["exit_code"] = int(event.attributes["exitCode"])
    if "signal" in event.attributes:
        found["signal"] = int(event.attributes["signal"])
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
