"""What is about to be changed on the workstation, with its undo: written and synced before it is made.

One file of JSON lines per lab. A line is either a change (``{"n": 3, "undo": "netns", "args": {...}}``), a fact
learned once it was made (``{"of": 3, "fact": {"pid": …}}``) or its end (``{"of": 3, "done": true}``). Taking a
lab down, reaping what a crash left and reverting a fault are all the same act: undo what is not yet done.

RAILBED_CRASH_AFTER=N kills the process after its N-th line, so that tests can die at every point there is.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

JOURNAL_FILE = "journal.jsonl"


@cache
def boot_id() -> str:
    """The kernel's identifier of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Change:
    """Something about to be made: `undo` names the verb in `labs.undo` that removes it, `args` what it needs."""

    undo: str
    args: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Entry:
    """A change in a journal: its number, and the facts learned after it was made."""

    n: int
    change: Change
    facts: tuple[Mapping[str, object], ...] = ()
    done: bool = False


class Undo(Protocol):
    """Undoes all the entries of one verb at once; idempotent, whether or not the change was ever made."""

    def __call__(self, lab: str, entries: tuple[Entry, ...]) -> None:
        """Undo `entries` of `lab`."""
        ...


@dataclass
class _Crash:
    """Counts the lines this process has written, for RAILBED_CRASH_AFTER."""

    after: int = field(default_factory=lambda: int(os.environ.get("RAILBED_CRASH_AFTER", "0")))
    written: int = 0

    def room(self) -> int | None:
        """How many more lines may be written before the end; None for no end."""
        return self.after - self.written if self.after else None


_crash = _Crash()


class Journal:
    """The journal of one lab. Writers hold the lab's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Entry] = list(_read(path))

    def will(self, *changes: Change) -> tuple[Entry, ...]:
        """Write down changes that are about to be made, synced to disk; returns their entries."""
        first = self._entries[-1].n + 1 if self._entries else 1
        made = tuple(Entry(first + i, change) for i, change in enumerate(changes))
        self._write({"n": e.n, "undo": e.change.undo, "args": dict(e.change.args)} for e in made)
        self._entries.extend(made)
        return made

    def learned(self, entry: Entry, *facts: Mapping[str, object]) -> None:
        """Write down what became known once the change was made, such as a process's pid and start time."""
        self._write({"of": entry.n, "fact": dict(fact)} for fact in facts)
        at = next(i for i, known in enumerate(self._entries) if known.n == entry.n)
        known = self._entries[at]
        self._entries[at] = Entry(known.n, known.change, (*known.facts, *facts), known.done)

    def done(self, entries: Iterable[Entry]) -> None:
        """Write down that these changes are undone."""
        numbers = {entry.n for entry in entries}
        self._write({"of": n, "done": True} for n in sorted(numbers))
        self._entries = [Entry(e.n, e.change, e.facts, e.done or e.n in numbers) for e in self._entries]

    def open_entries(self) -> tuple[Entry, ...]:
        """The changes that are not undone yet, oldest first."""
        return tuple(entry for entry in self._entries if not entry.done)

    def _write(self, lines: Iterable[Mapping[str, object]]) -> None:
        encoded = [json.dumps(line, separators=(",", ":")) + "\n" for line in lines]
        if not encoded:
            return
        room = _crash.room()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        with self.path.open("a") as out:
            out.write("".join(encoded if room is None else encoded[:room]))
            out.flush()
            os.fsync(out.fileno())
        _crash.written += len(encoded)
        if room is not None and room <= len(encoded):
            os.kill(os.getpid(), signal.SIGKILL)


def _drop_torn_line(path: Path) -> None:
    """Take away what a crash in mid-write has left, so that the next line does not become part of it."""
    text = path.read_bytes() if path.exists() else b""
    if text and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def _read(path: Path) -> Iterable[Entry]:
    """The entries of a journal file. A last line without its end is what a crash leaves: its change was not made."""
    if not path.exists():
        return ()
    entries: dict[int, Entry] = {}
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            break
        if "n" in data:
            entries[data["n"]] = Entry(data["n"], Change(data["undo"], data["args"]))
            continue
        known = entries.get(data["of"])
        if known is None:
            continue  # of a lab of the same name that is no more
        facts = (*known.facts, data["fact"]) if "fact" in data else known.facts
        entries[known.n] = Entry(known.n, known.change, facts, known.done or bool(data.get("done")))
    return entries.values()
