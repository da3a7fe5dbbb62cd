"""Taking labs down, and finding what a crash has left. Both are one act: undo what the journal says is not undone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from labs import index
from labs.errors import LabNotFound, LeftoverLab
from labs.index import Stage
from labs.undo import is_process, undo_all


@dataclass(frozen=True, slots=True)
class Leftover:
    """A lab that nobody is responsible for any more, why, and how many changes of it are not undone."""

    name: str
    because: str
    changes: int


def destroy(name: str) -> int:
    """Undo everything a lab has changed; the caller holds its lock. Idempotent; returns the number of changes."""
    with suppress(LabNotFound, LeftoverLab):  # no record, or a torn one: the journal alone says what to undo
        index.move_to(name, Stage.STOPPING)
    undone = undo_all(name, index.journal(name))
    index.forget(name)
    return undone


def orphaned(name: str) -> str | None:
    """Why nobody is responsible for this lab any more; None while somebody is."""
    return None if index.is_held(name) else abandoned(name)


def abandoned(name: str) -> str | None:
    """The same, asked by whoever holds the lab's lock."""
    try:
        record = index.read(name)
    except (LabNotFound, LeftoverLab):
        return "it has no record: railbed was killed before it wrote one" if name in index.names() else None
    if record.stage is not Stage.UP:
        return f"railbed was killed while it was {record.stage}"
    if not record.this_boot:
        return "the workstation has been restarted since"
    if record.owner and not is_process(record.owner):
        return f"the process that used it ({record.owner['pid']}) is gone"
    return None


def leftovers() -> tuple[Leftover, ...]:
    """Every lab in the index that nobody is responsible for."""
    found = []
    for name in index.names():
        because = orphaned(name)
        if because:
            found.append(Leftover(name, because, len(index.journal(name).open_entries())))
    return tuple(found)


def reap() -> tuple[Leftover, ...]:
    """Take down every leftover; returns what there was."""
    found = leftovers()
    for leftover in found:
        with index.locked(leftover.name, wait=True):
            if abandoned(leftover.name):  # asked again: somebody may have brought it up in between
                destroy(leftover.name)
    index.sweep()
    return found
