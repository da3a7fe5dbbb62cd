"""Where counters stood when somebody cleared them, in the lab's run directory: `counters/<what>.json`.

As ``sonic-clear`` does it: nothing is set to 0, what was counted by then is taken off from then on.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from labs import run_dir
from labs.telemetry.asic_counters import AsicCounters, GroupCounters, PoolCounters, PortCounters, QueueCounters
from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.ecmp_counters import EcmpCounters
from topologies.ecmp import EcmpMode

FOLDER = "counters"
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Cleared:
    """The counters at a moment, `at` in ISO 8601."""

    at: str
    counters: AsicCounters


def clear(run_path: Path, what: str, counters: AsicCounters) -> Cleared:
    """From now on `what` counts from here."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {
        "schema": 1,
        "at": at,
        "lab": counters.lab,
        "ports": [astuple(one) for one in counters.ports],
        "queues": [astuple(one) for one in counters.queues],
        "groups": [astuple(one) for one in counters.groups],
        "pools": [astuple(one) for one in counters.pools],
        "asicd": astuple(counters.asicd),
        "moving": counters.moving,
        "ecmp": [astuple(one) for one in counters.ecmp],
        "engine": counters.engine,
    }
    run_dir.write(run_path, f"{FOLDER}/{what}.json", json.dumps(kept, separators=(",", ":")) + "\n")
    return Cleared(at, counters)


def cleared(run_path: Path, what: str) -> Cleared | None:
    """Where `what` stood when it was last cleared; None when it never was."""
    try:
        kept = json.loads((run_path / FOLDER / f"{what}.json").read_text())
    except FileNotFoundError:
        return None
    counters = AsicCounters(
        lab=kept["lab"],
        ports=_records(PortCounters, kept["ports"]),
        queues=_records(QueueCounters, kept["queues"]),
        groups=_records(GroupCounters, kept["groups"]),
        pools=_records(PoolCounters, kept["pools"]),
        asicd=_records(AsicdCounters, [kept["asicd"]])[0],
        moving=kept["moving"],
        ecmp=_ecmp(kept.get("ecmp", [])),
        engine=kept.get("engine", False),
    )
    return Cleared(kept["at"], counters)


def _ecmp(rows: list[list[Any]]) -> tuple[EcmpCounters, ...]:
    return tuple(EcmpCounters(node, port, EcmpMode(mode), *counts) for node, port, mode, *counts in rows)


def _records(kind: type[Record], rows: list[list[Any]]) -> tuple[Record, ...]:
    return tuple(kind(*(tuple(value) if isinstance(value, list) else value for value in row)) for row in rows)
