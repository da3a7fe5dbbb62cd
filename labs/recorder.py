"""A lab's Recorder: the one process a running lab has. It alone writes the timeline, and runs the timers of faults.

    python -m labs.recorder LAB

One loop, no threads: it sleeps until something is heard, or a beat is due. It listens to every node's kernel (links,
routes) from inside its network namespace, to the logs of the switches (BGP and BFD sessions), to the container engine,
and to whoever tells it something over its socket; every `cadence_s` it samples ports, queues, asicd and workstation.

What one source cannot say is `Missed`, and keeps it from none of the others (labs/telemetry/guarding.py); its own
troubles go to logs/recorder.log of the run directory.

Everything is stamped with CLOCK_MONOTONIC when it happened, as far as its source says so, else when it was heard, and
written HOLD_S later, in order. docs/timeline.md says how exact each kind of record is.

It carries the lab's start token, by which `down` ends it; it ends by itself when the lab's folder in the index is gone.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import selectors
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from labs import index
from labs.dataplane.queue_watch import QueueWatch
from labs.fault_ending import FaultEnding
from labs.journal import JOURNAL_FILE, boot_id
from labs.telemetry import inotify, listening
from labs.telemetry.engine_watch import EngineWatch
from labs.telemetry.frr_log import Offset
from labs.telemetry.guarding import Guard
from labs.telemetry.host_beat import BEAT_NS, HostBeat
from labs.telemetry.inotify import Inotify
from labs.telemetry.kernel_watch import KernelWatch
from labs.telemetry.listening import Listening
from labs.telemetry.log_watch import LogWatch
from labs.telemetry.records import Clock, FaultEvent, Record
from labs.telemetry.telling import HOLD_S, Written
from labs.telemetry.told import Ask, Teller, ToldSocket
from labs.telemetry.writing import Writer

NETNS_DIR = Path("/run/netns")
HOLD_NS = int(HOLD_S * 1e9)
# A name of a namespace is made first and gets its namespace a moment later, of which nothing tells.
UNSETTLED_NS = 3_000_000_000
ENGINE_AGAIN_NS = 2_000_000_000
# Ahead of what it watches, as it sleeps nearly always: a late stamp is a wrong one.
NICE = -10
LOCK = "recorder.lock"
# A loop that fails in every turn does nothing but that: it ends, its log says why, and the next command starts another.
MOST_FAILED_TURNS = 100


class Recorder:
    """Everything that one lab's Recorder listens to, and where it goes."""

    def __init__(self, told: Listening) -> None:
        self._plan = told
        self._selector = selectors.DefaultSelector()
        self._writer = Writer(Path(told.file), HOLD_NS)
        self._guard = Guard(self._writer.add)
        self._rested: list[tuple[int, Callable[[], None]]] = []
        self._socket = ToldSocket(told.lab, self._selector)
        self._inotify = Inotify()
        self._kernels = {name: KernelWatch(name, node) for name, node in told.nodes.items()}
        self._logs = LogWatch(told.nodes, self._inotify)
        self._engine = EngineWatch(told.engine, told.labels, told.since_s) if told.engine else None
        self._endings = FaultEnding(told.lab, partial(self._register, "the end of a fault"), self._forget)
        self._journal_changed = True
        self._queues: QueueWatch | None = None
        self._beat = HostBeat()
        self._flushes: list[tuple[int, Teller]] = []
        self._folders = {
            self._inotify.add(NETNS_DIR, inotify.CREATE | inotify.DELETE | inotify.MOVED_TO): self._netns_changed,
            self._inotify.add(index.lab_dir(told.lab), inotify.MODIFY | inotify.MOVED_TO): self._lab_changed,
        }
        self._began_ns = self._beat_due = self._sample_due = time.monotonic_ns()
        # When it last began to wait, and the time before that: what is readable now was not so then.
        self._entered_ns = self._listened_ns = self._began_ns
        self._unsettled_until = self._began_ns + UNSETTLED_NS
        self._engine_due = self._began_ns

    def _register(self, source: str, fd: int, call: Callable[[], None]) -> None:
        """Have a source heard, from now on, whenever its descriptor is readable; one that fails rests for a beat."""

        def heard() -> None:
            if not self._hear(source, call) and self._is_heard(fd, heard):
                self._forget(fd)
                self._rested.append((fd, heard))

        self._selector.register(fd, selectors.EVENT_READ, heard)

    def _is_heard(self, fd: int, by: Callable[[], None]) -> bool:
        """Whether a descriptor is still that of a source: one that was closed may be another's by now."""
        key = self._selector.get_map().get(fd)
        return key is not None and key.data is by

    def _hear(self, source: str, call: Callable[[], None]) -> bool:
        """Hear a source that says by its descriptor when it has something to say; False when it failed."""
        return self._guard.call(source, call, since=self._listened_ns)

    def begin(self) -> None:
        """Write which time it is, and begin to listen."""
        now = time.monotonic_ns()
        wall = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")
        self._writer.add(Clock(t=now, wall=wall, boot=boot_id()))
        self._register("its socket", self._socket.socket.fileno(), lambda: self._hear_told(self._socket.accept()))
        self._register("files", self._inotify.fd, self._hear_files)
        self._guard.call("the soft ASIC", self._queues_changed)
        self._rescan()
        self._look()

    def run(self) -> None:
        """Listen until the lab is gone."""
        failed = 0
        while failed < MOST_FAILED_TURNS:
            failed = 0 if self._guard.call("the Recorder's loop", self._turn) else failed + 1
            if self._sample_due <= time.monotonic_ns() and not self._sample():
                return

    def _turn(self) -> None:
        """Wait for the next beat at most, and deal with what has come."""
        ending = self._endings.due_ns()
        due = min(self._beat_due, self._sample_due, self._beat_due if ending is None else ending)
        entered = time.monotonic_ns()
        self._listened_ns, self._entered_ns = self._entered_ns, entered
        heard = self._selector.select(max(0, due - entered) / 1e9)
        now = time.monotonic_ns()
        if entered < due < now:
            self._beat.late(now - due)
        for key, _ in heard:
            if isinstance(key.data, Teller):
                self._hear("what is told", partial(self._hear_teller, key.data, now))
            else:
                key.data()
        if now >= self._beat_due:
            self._beat_due = now + BEAT_NS
            self._guard.call("what was away", partial(self._listen_again, now))
        self._guard.call("ends of faults", lambda: self._take(self._endings.act(now)))
        self._writer.write_until(now)
        self._answer(now)

    def _listen_again(self, now: int) -> None:
        """Hear what is not listened to: a namespace that is new, an engine that was away, what had failed."""
        self._look()
        rested, self._rested = self._rested, []
        for fd, heard in rested:
            with suppress(KeyError, ValueError, OSError):  # closed meanwhile, or opened anew
                self._selector.register(fd, selectors.EVENT_READ, heard)
        for name in self._logs.listen():
            self._hear(f"the log of {name}", partial(self._hear_log, name))
        if now < self._unsettled_until:
            self._rescan()
        if self._engine is not None and self._engine.socket is None and now >= self._engine_due:
            self._engine_due = now + ENGINE_AGAIN_NS
            if self._engine.open() and self._engine.socket is not None:
                self._register("the container engine", self._engine.socket.fileno(), self._hear_engine)

    def _take(self, records: Iterable[Record]) -> None:
        for record in records:
            self._writer.add(record)

    def _hear_told(self, said: Iterable[tuple[Teller, Record | Ask]]) -> None:
        now = time.monotonic_ns()
        for teller, one in said:
            if isinstance(one, Ask):
                self._asked(teller, one.ask, now)
                continue
            if isinstance(one, FaultEvent):
                self._endings.seen(one)
            self._writer.add(one if one.t <= now else msgspec.structs.replace(one, t=now))

    def _hear_teller(self, teller: Teller, now: int) -> None:
        self._hear_told(self._socket.hear(teller, now))

    def _asked(self, teller: Teller, what: str, now: int) -> None:
        if what == "flush":
            self._flushes.append((now, teller))
            return
        if what == "finish":
            self._hear_everything()
            self._writer.write_all()
        teller.answer(self._status())

    def _hear_everything(self) -> None:
        for name, kernel in self._kernels.items():
            self._hear(f"the kernel of {name}", partial(self._hear_kernel, kernel))
            if self._plan.nodes[name].log:
                self._hear(f"the log of {name}", partial(self._hear_log, name))
        self._hear("the container engine", self._hear_engine)

    def _answer(self, now: int) -> None:
        """Answer those who wait for what they told to be in the file."""
        ready = [teller for asked, teller in self._flushes if asked <= now - HOLD_NS]
        self._flushes = [(asked, teller) for asked, teller in self._flushes if asked > now - HOLD_NS]
        for teller in ready:
            teller.answer(self._status())

    def _status(self) -> Written:
        used = os.times()
        return Written(
            written=self._writer.written,
            lost=self._writer.lost,
            pid=os.getpid(),
            up_s=(time.monotonic_ns() - self._began_ns) / 1e9,
            cpu_s=used.user + used.system,
            late_worst_s=self._beat.late_worst_ns / 1e9,
            full=self._writer.full,
        )

    def _hear_log(self, name: str) -> None:
        self._take(self._logs.news(name))

    def _hear_files(self) -> None:
        for number, name in self._inotify.read():
            if number == inotify.OVERFLOWED:
                self._hear_all_files()
            elif number in self._folders:
                self._hear(f"the file {name}", partial(self._folders[number], name))
            else:
                self._hear("the log of a switch", partial(self._hear_numbered, number))

    def _hear_all_files(self) -> None:
        """Nobody knows which files have changed."""
        for name in (JOURNAL_FILE, listening.FILE):
            self._hear(f"the file {name}", partial(self._lab_changed, name))
        for name in self._logs.names:
            self._hear(f"the log of {name}", partial(self._hear_log, name))
        self._unsettled_until = time.monotonic_ns() + UNSETTLED_NS

    def _hear_numbered(self, number: int) -> None:
        self._take(self._logs.heard(number))

    def _netns_changed(self, name: str) -> None:
        if any(node.netns.endswith(f"/{name}") for node in self._plan.nodes.values()):
            self._unsettled_until = time.monotonic_ns() + UNSETTLED_NS
            self._rescan()

    def _lab_changed(self, name: str) -> None:
        if name == JOURNAL_FILE:
            self._journal_changed = True
            self._look()
        elif name == listening.FILE:
            with suppress(OSError, msgspec.MsgspecError):
                self._plan = listening.read(self._plan.lab)
                self._queues_changed()

    def _look(self) -> None:
        """Take in what the journal says; where that fails, again with the next beat, as nothing else may change it."""
        if self._journal_changed and self._hear("the journal", self._endings.look):
            self._journal_changed = False

    def _queues_changed(self) -> None:
        self._queues = QueueWatch(self._plan.lab, self._plan.asic) if self._plan.asic else None

    def _hear_engine(self) -> None:
        if self._engine is None or self._engine.socket is None:
            return
        fd = self._engine.socket.fileno()
        self._take(self._engine.events(Offset(time.time_ns(), time.monotonic_ns())))
        if self._engine.socket is None:
            self._forget(fd)

    def _rescan(self) -> None:
        """Listen to the namespaces that the nodes have now."""
        for name, kernel in self._kernels.items():
            self._guard.call(f"the namespace of {name}", partial(self._keep_up, name, kernel))

    def _keep_up(self, name: str, kernel: KernelWatch) -> None:
        if not kernel.is_stale:
            return
        self._leave(kernel)
        if kernel.open() and kernel.socket is not None:
            self._register(f"the kernel of {name}", kernel.socket.fileno(), partial(self._hear_kernel, kernel))
            if kernel.end_fd is not None:
                self._register(f"the end of {name}", kernel.end_fd, partial(self._leave, kernel))

    def _hear_kernel(self, kernel: KernelWatch) -> None:
        self._take(kernel.events())

    def _leave(self, kernel: KernelWatch) -> None:
        """Let go of a namespace: at once when its first process is gone, for the socket keeps it alive."""
        if kernel.socket is None:
            return
        self._take(kernel.events())
        for fd in (kernel.socket.fileno(), kernel.end_fd):
            if fd is not None:
                self._forget(fd)
        self._take(kernel.close(time.monotonic_ns()))

    def _forget(self, fd: int) -> None:
        """Hear a descriptor no more, neither now nor after its rest: its number may be another's soon."""
        self._rested = [(resting, heard) for resting, heard in self._rested if resting != fd]
        with suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def _sample(self) -> bool:
        """Sample everything; False when the lab is gone."""
        now = time.monotonic_ns()
        cadence = int(self._plan.cadence_s * 1e9)
        self._sample_due = max(self._sample_due + cadence, now)
        for name, kernel in self._kernels.items():
            self._hear(f"the kernel of {name}", partial(self._hear_kernel, kernel))  # an overflow is no older than this
            self._guard.call(f"the counters of {name}", partial(self._sample_ports, kernel))
        self._guard.call("the soft ASIC", self._sample_queues)
        self._guard.call("the workstation", lambda: self._take([self._beat.sample()]))
        self._rescan()
        return listening.path_of(self._plan.lab).exists() and Path(self._plan.file).exists()

    def _sample_ports(self, kernel: KernelWatch) -> None:
        self._take(kernel.ports())

    def _sample_queues(self) -> None:
        if self._queues is not None:
            self._take(self._queues.sample())


def _make_room(nodes: int) -> None:
    """Descriptors for a lab of many nodes: three of each, and of whoever tells something."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, 4 * nodes + 256)), most))


def main(lab_name: str) -> int:
    """Record a lab until it is gone; a second Recorder of the same lab ends at once."""
    lock = os.open(index.lab_dir(lab_name) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    told = listening.read(lab_name)
    _make_room(len(told.nodes))
    recorder = Recorder(told)
    recorder.begin()
    gc.freeze()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    recorder.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
