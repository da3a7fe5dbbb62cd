"""Telling the timeline what becomes of a fault in the journal: the same words, whoever makes or ends it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from labs.journal import Entry
from labs.telemetry.records import FaultEvent
from labs.telemetry.telling import tell

FAULT = "fault"  # the verb of labs.undo that takes one back


def tell_fault(lab: str, entry: Entry, phase: str, *, because: str = "", by: str = "") -> int:
    """Tell the lab's Recorder that a fault has come to `phase`; returns when that was (monotonic clock, ns)."""
    args: Mapping[str, Any] = entry.change.args
    now = time.monotonic_ns()
    event = FaultEvent(
        t=now,
        id=f"f{entry.n}",
        fault=args["fault"],
        target=args["target"],
        phase=phase,
        params={str(name): str(value) for name, value in args["params"].items()},
        because=because,
        by=by,
    )
    tell(lab, event)
    return now
