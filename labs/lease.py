"""The measurement lease: while a run measures, nothing of ours takes the kernel's networking lock.

A change of a queue waits for that lock, which the kernel has once for all namespaces. Making or removing interfaces and
namespaces holds it for milliseconds, and a measured reaction (a PFC pause) then shows the neighbour, not the fabric.

    with lease.measuring("a", "pause reaction") as held:      one at a time; waits until no change is going on
        …
    assert held.disturbed() is None                           else the run is INVALID, and this says why

    with lease.changing("b", "up"):                           many at once; waits while somebody measures
        …

Who measures a lab may change that lab: such a change does not wait, it is counted (`Lease.own_changes`). A measurement
that waits goes before changes that have not begun, so labs that come and go do not keep it out.

Three files below the index's folder, each locked with flock, so a lock goes with its holder's life; a file that nobody
holds is removed:

    lease/turn        EX: who measures, or is next to; its text says who. Changes pass it on their way in.
    lease/networking  EX: the measurement. SH: changes. Its text is one JSON line for the begin of each change, and one
                      for its end: what is in it beyond where it ended at the start has come in between.
    lease/own         SH: changes of the measured lab, so that the next measurement waits for them too.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from labs import index
from labs.errors import NotReady
from labs.telemetry.awake import is_wanted, kept_awake
from labs.telemetry.net_watch import NetChanges, NetWatch
from labs.waiting import wait_until

# The longest change is an `up` that does not converge (130 s), the longest measurement some minutes of traffic.
WITHIN_S = 300.0

_TURN, _NETWORKING, _OWN = "turn", "networking", "own"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who measures or changes what, for people; `lab` is empty for what belongs to none."""

    lab: str
    what: str
    pid: int
    since: str

    @classmethod
    def here(cls, lab: str, what: str) -> Holder:
        """This process, now."""
        return cls(lab, what, os.getpid(), datetime.now(UTC).strftime("%H:%M:%S UTC"))

    def __str__(self) -> str:
        of = f" of lab {self.lab}" if self.lab else ""
        return f"{self.what}{of} (pid {self.pid}, since {self.since})"


class _Here(threading.local):
    """What this thread holds: it must not wait for itself, and flock does not know it."""

    def __init__(self) -> None:
        self.changing: list[str] = []
        self.measuring: Lease | None = None


_here = _Here()


class Lease:
    """A measurement that is going on, or was. Inside its block the answers are of the time so far, then of all."""

    def __init__(self, lab: str, log: int, watch: NetWatch) -> None:
        self.lab = lab
        self._log = log
        self._watch = watch
        self._start = os.fstat(log).st_size
        self._final: tuple[tuple[Holder, ...], bool] | None = None

    def disturbed(self) -> str | None:
        """Why the run is INVALID: which change of another lab came in between; None when none did."""
        changes, whole = self._seen()
        others = [str(one) for one in changes if one.lab != self.lab]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            return f"the kernel's networking lock was taken during the measurement: {others[0]}{more}"
        if not whole:
            return f"{_folder() / _NETWORKING} was removed during the measurement: nobody had to wait for it any more"
        return None

    @property
    def own_changes(self) -> int:
        """How many changes of the measured lab itself there were."""
        return sum(one.lab == self.lab for one in self._seen()[0])

    def foreign_changes(self) -> NetChanges:
        """What came or went on the workstation, whoever made it; changes of our own are among it."""
        return self._watch.changes()

    def evidence(self) -> Mapping[str, object]:
        """The numbers that belong into a verdict's evidence."""
        return {"own_changes": self.own_changes, "foreign_changes": self.foreign_changes().as_dict()}

    def end(self) -> None:
        """Keep the answers: the block is over."""
        self._final = self._seen()

    def _seen(self) -> tuple[tuple[Holder, ...], bool]:
        if self._final is not None:
            return self._final
        try:
            whole = os.fstat(self._log).st_ino == (_folder() / _NETWORKING).stat().st_ino
        except FileNotFoundError:
            whole = False
        return tuple(_begun(os.pread(self._log, 1 << 24, self._start)).values()), whole


def tell_on_stderr(line: str) -> None:
    """Say on stderr what is waited for."""
    sys.stderr.write(f"railbed: {line}\n")
    sys.stderr.flush()


@contextmanager
def measuring(
    lab: str, what: str = "measurement", *, within: float = WITHIN_S, tell: Callable[[str], None] = tell_on_stderr
) -> Iterator[Lease]:
    """Keep the networking lock to a lab for the length of a block: one measurement at a time, and no change of others.

    The processors are kept awake meanwhile. Inside a block of the same thread and lab it is that one. Raises NotReady,
    naming who holds it, when it cannot be had `within` seconds, and at once inside a change of the same thread, which
    would be waiting for itself.
    """
    outer = _here.measuring
    if outer is not None and outer.lab == lab:
        yield outer
        return
    if outer is not None or _here.changing:
        inside = f"a measurement of lab {outer.lab}" if outer else f"a change of lab {_here.changing[-1]}"
        raise NotReady(
            f"{what} of lab {lab} begins inside {inside}, and would wait for itself", remedy="end that first"
        )
    me = Holder.here(lab, what)
    is_wanted()  # what is wrong with that is said before anything is waited for
    with ExitStack() as stack:
        stack.callback(sweep)
        turn = _wait(me, lambda: _try(_TURN, fcntl.LOCK_EX), _measurer, within, tell)
        stack.callback(os.close, turn)
        _write(turn, me)
        stack.callback(os.ftruncate, turn, 0)
        log = _wait(me, lambda: _try(_NETWORKING, fcntl.LOCK_EX), _changer, within, tell)
        stack.callback(os.close, log)
        os.close(_wait(me, lambda: _try(_OWN, fcntl.LOCK_EX), _changer, within, tell))
        stack.enter_context(kept_awake())
        watch = stack.enter_context(NetWatch())
        _here.measuring = Lease(lab, log, watch)
        stack.callback(setattr, _here, "measuring", None)
        stack.callback(_here.measuring.end)
        yield _here.measuring


@contextmanager
def changing(
    lab: str, what: str, *, within: float = WITHIN_S, tell: Callable[[str], None] = tell_on_stderr
) -> Iterator[None]:
    """Around everything of ours that makes, changes or removes interfaces, namespaces or queues.

    Waits while another lab is measured, and says so. Inside a block of the same thread it is part of that. Raises
    NotReady, naming who measures, when that has not ended `within` seconds: nothing was changed then.
    """
    if lab in _here.changing:
        yield
        return
    me = Holder.here(lab, what)
    with ExitStack() as stack:
        if _here.measuring is None and not _here.changing:  # else this thread would be waiting for itself
            stack.callback(sweep)
            stack.callback(os.close, _wait(me, lambda: _admitted(lab), _measurer, within, tell))
        number = f"{me.pid}.{next(_numbers)}"
        _note({"n": number, **asdict(me)})
        stack.callback(_note, {"of": number})
        _here.changing.append(lab)
        stack.callback(_here.changing.remove, lab)
        yield


def sweep() -> None:
    """Remove what nobody holds any more, also what a killed holder has left."""
    for name in (_OWN, _NETWORKING, _TURN):
        path = _folder() / name
        if not path.exists():
            continue
        fd = _try(name, fcntl.LOCK_EX)
        if fd is None:
            return  # a change that outlives its lab's measurement is named in the log, so that stays too
        path.unlink(missing_ok=True)
        os.close(fd)
    index.tidy()


def _folder() -> Path:
    return index.state_dir() / "lease"


def _try(name: str, how: int) -> int | None:
    """The file, locked; None when somebody holds it."""
    try:
        return index.take(_folder() / name, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _admitted(lab: str) -> int | None:
    """A lock under which a change of this lab may go on; None while another lab is measured."""
    turn = _try(_TURN, fcntl.LOCK_SH)
    if turn is not None:
        try:
            return _try(_NETWORKING, fcntl.LOCK_SH)
        finally:
            os.close(turn)
    before = _measurer()
    if before is None or before.lab != lab:
        return None
    own = _try(_OWN, fcntl.LOCK_SH)
    if own is not None and _measurer() != before:  # another's turn has come meanwhile, which may not have seen us
        os.close(own)
        return None
    return own


def _wait(
    me: Holder,
    ask: Callable[[], int | None],
    who: Callable[[], Holder | None],
    within: float,
    tell: Callable[[str], None],
) -> int:
    """Ask until there is a lock. Raises NotReady that names who has it."""
    told = False

    def probe() -> int | None:
        nonlocal told
        fd = ask()
        if fd is None and not told and (other := who()) is not None:
            told = True
            tell(f"{me.what}{f' of lab {me.lab}' if me.lab else ''} waits for {other}")
        return fd

    waited = wait_until("nobody else holds the networking lock", probe, lambda fd: fd is not None, within=within)
    if waited.last is not None:
        return waited.last
    other = who()
    raise NotReady(
        f"{me.what}{f' of lab {me.lab}' if me.lab else ''} has waited {waited.took_s:.3g} s for "
        f"{other or 'another railbed command'}",
        remedy=f"wait for it to end, or, if it hangs: kill {other.pid}" if other else "try again",
    )


def _write(fd: int, me: Holder) -> None:
    os.ftruncate(fd, 0)
    os.write(fd, json.dumps(asdict(me)).encode())


def _measurer() -> Holder | None:
    """Who measures or is next to; the text of a file that nobody holds says nothing."""
    fd = _try(_TURN, fcntl.LOCK_SH)
    if fd is not None:
        os.close(fd)
        return None
    try:
        return Holder(**json.loads((_folder() / _TURN).read_text()))
    except (OSError, ValueError, TypeError):  # this moment it is being written, or goes
        return None


def _changer() -> Holder | None:
    """The oldest change that has not ended and whose process lives."""
    try:
        begun = _begun((_folder() / _NETWORKING).read_bytes(), going_on=True)
    except OSError:
        return None
    return next((one for one in begun.values() if Path(f"/proc/{one.pid}").exists()), None)


def _begun(log: bytes, *, going_on: bool = False) -> dict[str, Holder]:
    """The changes in a piece of the log, by number; with `going_on` those only that have not ended."""
    found: dict[str, Holder] = {}
    for line in log.splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            continue  # torn by a full disk
        if "n" in data:
            number = data.pop("n")
            found[number] = Holder(**data)
        elif going_on:
            found.pop(data["of"], None)
    return found


def _note(line: Mapping[str, object]) -> None:
    """Add a line to the log: in one write, so that it stays whole beside others."""
    with suppress(FileNotFoundError):  # removed under its holder: `disturbed` says so
        fd = os.open(_folder() / _NETWORKING, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        finally:
            os.close(fd)
