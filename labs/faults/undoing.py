"""How the steps of faults are undone. Every verb is idempotent, and works whether or not its change was ever made.

Reached from the journal, by the verb ``fault`` of `labs.undo`: at the end of a block, by `railbed fault revert`, by a
Recorder whose timer has run out, by `railbed reap` after a crash, by `down` of a lab that stays.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from labs import index, kernel, reaper
from labs.errors import LabError, LabNotFound, NotReady
from labs.faults.state import ended
from labs.index import Stage
from labs.journal import Entry
from labs.lab import Lab, reach_lab
from labs.telemetry.records import Note
from labs.telemetry.telling import tell
from labs.undo import NETNS_DIR, PARKED

Verb = Callable[[Lab, Mapping[str, Any]], None]
"""Raises WentWithIt for what needs no undoing, any other error for what could not be undone."""


class WentWithIt(Exception):
    """What a step has changed is there no more, `because` of what else has ended."""

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because


# Where faults are: each module has FAULTS, and VERBS for the undos of its own steps.
FAMILIES = (
    "labs.faults.links",
    "labs.faults.cabling",
    "labs.faults.wires",
    "labs.faults.nodes",
    "labs.faults.daemons",
    "labs.faults.routing",
    "labs.faults.hashing",
    "labs.faults.qos",
    "labs.faults.nics",
)


@cache
def verbs() -> Mapping[str, Verb]:
    """Every verb there is, by name."""
    found: dict[str, Verb] = {}
    for family in FAMILIES:
        for name, verb in import_module(family).VERBS.items():
            if name in found:
                raise AssertionError(f"two families have a verb {name!r}")
            found[name] = verb
    return found


def undo_faults(lab: str, entries: tuple[Entry, ...]) -> None:
    """Undo the steps of faults, the last first. One that fails keeps nobody from the others; then NotReady names them.

    A lab of ours that goes down takes every node with it, so there is nothing to mend: what a fault started carries the
    lab's token. One that was adopted stays, and is mended; where it is gone itself there is nothing to mend either.
    """
    if index.read(lab).stage is Stage.STOPPING and not reaper.stays(lab):
        return
    try:
        running = reach_lab(lab)
    except LabNotFound:
        for entry in entries:
            _say(lab, f"f{entry.n} ({entry.change.args['fault']})", f"lab {lab} is gone")
        return
    failed = [said for entry in entries for said in _undo(running, entry)]
    if failed:
        raise NotReady("; ".join(failed), remedy="railbed fault revert --all, once that is mended")
    ended(lab)


def _undo(lab: Lab, entry: Entry) -> list[str]:
    """Undo the steps of one fault; returns what could not be undone, and is not gone with what it was changed in."""
    failed = []
    for step in reversed(entry.change.args["steps"]):  # type: ignore[call-overload]
        what = f"f{entry.n} ({entry.change.args['fault']}): {step['undo']}"
        try:
            verbs()[step["undo"]](lab, step["args"])
        except WentWithIt as went:
            _say(lab.name, what, went.because)
        except Exception as error:  # noqa: BLE001 - the other steps come all the same; this one is named
            because = gone(lab, step["args"])
            if because:
                _say(lab.name, what, because)
                continue
            said = error.message if isinstance(error, LabError) else str(error) or repr(error)
            failed.append(f"{what}: {said}")
    return failed


def gone(lab: Lab, args: Mapping[str, Any]) -> str | None:
    """Why what a step has changed is there no more: its node's network namespace is gone, or devices from it."""
    node = args.get("node")
    if node is None:
        return None
    try:
        namespace = lab.deployment.netns(node)
    except KeyError:  # an adopted lab is what the engine has of it now
        return f"the lab has no {node} any more"
    try:
        with kernel.inside_netns(namespace):
            missing = missing_of(args, dict(socket.if_nameindex()))
    except FileNotFoundError:
        kept = NETNS_DIR / f"{PARKED}{namespace.name}"  # with the ports of a node that is only stopped
        return None if kept.exists() else f"the network namespace of {node} is gone"
    except OSError:  # nobody knows
        return None
    return f"{node} has no {missing} any more" if missing else None


def missing_of(args: Mapping[str, Any], there: Mapping[int, str]) -> str | None:
    """Which of a step's devices are not among those of its node, by number; None when there is something to take back.

    Ports that were swapped are known by their number. One that is left may still be in the other's place.
    """
    netdev = args.get("netdev")
    if netdev is not None and netdev not in there.values():
        return str(netdev)
    swapped = [port for port in args.get("ports", ()) if "number" in port]
    if swapped and not any(port["number"] in there for port in swapped):
        return ", ".join(f"interface {port['number']} ({port['netdev']})" for port in swapped)
    return None


def _say(lab: str, what: str, because: str) -> None:
    """What needed no undoing is a note: the comparison of states will show whether that was right."""
    tell(lab, Note(t=time.monotonic_ns(), text=f"{what}: nothing to take back: {because}"))
