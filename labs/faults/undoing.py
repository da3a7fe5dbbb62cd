"""How the steps of faults are undone. Every verb is idempotent, and works whether or not its change was ever made.

Reached from the journal, by the verb ``fault`` of `labs.undo`: at the end of a block, by `railbed fault revert`, by a
Recorder whose timer has run out, by `railbed reap` after a crash, by `down` of a lab that stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from labs import index
from labs.errors import LabError, NotReady
from labs.index import Stage
from labs.journal import Entry
from labs.lab import Lab, reach_lab

Verb = Callable[[Lab, Mapping[str, Any]], None]

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
    lab's token. One that was adopted stays, and is mended.
    """
    if index.read(lab).stage is Stage.STOPPING and not _stays(lab):
        return
    running = reach_lab(lab)
    failed = [said for entry in entries for said in _undo(running, entry)]
    if failed:
        raise NotReady("; ".join(failed), remedy="railbed fault revert --all, once that is mended")


def _stays(lab: str) -> bool:
    return any(entry.change.undo == "adopted" for entry in index.journal(lab).open_entries())


def _undo(lab: Lab, entry: Entry) -> list[str]:
    failed = []
    for step in reversed(entry.change.args["steps"]):  # type: ignore[call-overload]
        try:
            verbs()[step["undo"]](lab, step["args"])
        except Exception as error:  # noqa: BLE001 - the other steps come all the same; this one is named
            said = error.message if isinstance(error, LabError) else str(error) or repr(error)
            failed.append(f"f{entry.n} ({entry.change.args['fault']}): {step['undo']}: {said}")
    return failed
