"""Taking labs down, and finding what a crash has left. Both are one act: undo what the journal says is not undone."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from labs import container_network, index, lease, run_dir
from labs.errors import LabError, LabNotFound, LeftoverLab, NotReady
from labs.index import Stage
from labs.journal import Entry, Journal
from labs.telemetry import telling
from labs.telemetry.fault_events import FAULT, tell_fault
from labs.undo import is_process, undo, undo_all

# A fault whose time is over is the Recorder's to take back; one so late has no Recorder any more.
RECORDER_LATE_S = 2.0
# What the Recorder still holds back it writes in a millisecond; it may also be gone, or starved.
LAST_WORDS_S = 0.5
AGAIN = ", then: railbed reap"


@dataclass(frozen=True, slots=True)
class Leftover:
    """A lab that nobody is responsible for any more, why, and how many changes of it are not undone."""

    name: str
    because: str
    changes: int


def destroy(name: str, by: str = "railbed down") -> int:
    """Undo everything a lab has changed; the caller holds its lock, and may change the network (`lease.changing`).

    Its timeline says that its faults end, and `by` whom. Idempotent; returns the number of changes. An interrupt waits
    until it is done. The run directory then belongs to its user, once nothing writes to it any more.
    """
    with _uninterrupted():
        record = None
        with suppress(LabNotFound, LeftoverLab):  # no record, or a torn one: the journal alone says what to undo
            record = index.move_to(name, Stage.STOPPING)
        journal = index.journal(name)
        undone = _end_faults(name, journal, by)
        telling.finish(name, within=LAST_WORDS_S)
        undone += undo_all(name, journal)
        if record:
            run_dir.hand_over(Path(record.run_dir))
        index.forget(name)
        return undone


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back the signals that a person or a terminal sends, for the length of a block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stays(name: str) -> bool:
    """Whether a lab outlives us: it was adopted, and `down` only lets it go."""
    return any(entry.change.undo == "adopted" for entry in index.journal(name).open_entries())


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
        return f"railbed was killed, or could not go on, while it was {record.stage}"
    if not record.this_boot:
        return "the workstation has been restarted since"
    if record.owner and not is_process(record.owner):
        return f"the process that used it ({record.owner['pid']}) is gone"
    return None


def leftovers() -> tuple[Leftover, ...]:
    """Every lab in the index that nobody is responsible for, and every fault whose process is gone."""
    found = []
    for name in index.names():
        because = orphaned(name)
        entries = index.journal(name).open_entries()
        if because:
            found.append(Leftover(name, because, len(entries)))
        elif stale := stale_faults(entries):
            found.append(Leftover(name, "a fault outlived the process that made it", len(stale)))
    return tuple(found)


def kept_by_engine() -> Mapping[str, Leftover]:
    """Networks of labs that went down without them, by name: the engine would not let them go."""
    left = container_network.abandoned()
    return {name: Leftover(lab, f"the Docker engine had kept its network {name}", 1) for name, lab in left.items()}


def stale_faults(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The faults that were to end with a process (``by``) that is gone, or by now (``until_ns``)."""
    return tuple(entry for entry in entries if entry.change.undo == FAULT and _is_over(entry.change.args))


def _is_over(args: Mapping[str, object]) -> bool:
    by, until = args.get("by"), args.get("until_ns")
    if isinstance(by, Mapping) and not is_process(by):
        return True
    return isinstance(until, int) and time.monotonic_ns() > until + int(RECORDER_LATE_S * 1e9)


def reap() -> tuple[Leftover, ...]:
    """Take down every leftover, and end every fault that outlived its process; returns what there was.

    One that cannot be undone now (its engine does not answer) keeps nobody from the others: raises NotReady for it
    once they are done. A network that the engine still does not let go is only told of, on stderr.
    """
    found, stuck = leftovers(), dict[str, LabError]()
    for leftover in found:
        with index.locked(leftover.name, wait=True):
            try:
                with lease.changing(leftover.name, "reap"):
                    _undo_leftover(leftover.name)
            except LabError as error:
                stuck[leftover.name] = error
    lease.sweep()
    index.sweep()
    if stuck:
        why = "; ".join(f"lab {name!r} could not be undone: {error.message}" for name, error in stuck.items())
        remedies = [error.remedy if "reap" in error.remedy else f"{error.remedy}{AGAIN}" for error in stuck.values()]
        raise NotReady(why, remedy="; ".join(dict.fromkeys(remedies)).removeprefix(", then: "))
    return found + _free_networks()


def _free_networks() -> tuple[Leftover, ...]:
    freed = []
    for name, leftover in kept_by_engine().items():
        if container_network.remove_abandoned(name):
            freed.append(leftover)
        else:
            lease.tell_on_stderr(container_network.miscounted(name))
    return tuple(freed)


def _undo_leftover(name: str) -> None:
    if abandoned(name):  # asked again: somebody may have brought it up in between
        destroy(name, "railbed reap")
        return
    end_stale_faults(name, "railbed reap")


def end_stale_faults(name: str, by: str) -> None:
    """Take back the faults that outlived their process or their time; the caller holds the lab's lock."""
    journal = index.journal(name)
    _take_back(name, journal, stale_faults(journal.open_entries()), by)


def _end_faults(name: str, journal: Journal, by: str) -> int:
    """End what faults a lab has, while its Recorder still hears of it; returns how many were undone.

    In a lab that stays they are taken back now. One of ours takes them with it: its timeline says so.
    """
    faults = tuple(entry for entry in journal.open_entries() if entry.change.undo == FAULT)
    if stays(name):
        _take_back(name, journal, faults, by)
        return len(faults)
    for entry in reversed(faults):
        tell_fault(name, entry, "reverted", because="the lab goes down, and what was changed with it", by=by)
    return 0


def _take_back(name: str, journal: Journal, faults: tuple[Entry, ...], by: str) -> None:
    """Take faults back, the last first. One that cannot be is told as such, and raised once the others are done."""
    failed: list[LabError] = []
    for entry in reversed(faults):
        tell_fault(name, entry, "reverting", by=by)
        try:
            undo(name, journal, (entry,))
        except LabError as error:
            tell_fault(name, entry, "failed", because=error.message, by=by)
            failed.append(error)
            continue
        tell_fault(name, entry, "reverted", by=by)
    if failed:
        raise NotReady("; ".join(error.message for error in failed), remedy=failed[0].remedy)
