"""Keeps a virtual machine's processors from being given back while something is measured on them.

    with kept_awake():
        …

A virtual processor without work halts: the hypervisor gives it to others, and has to give it back for the next packet.
Where others want it that takes milliseconds, with each wake anew; it shows as stolen time and as packets that leave
late. So for the length of a block each processor has a process (spin.py) which runs where it would halt, of the lowest
class there is and in a control group of that class: between groups, and between sessions, a process's own class counts
nothing. `scripts/bench_awake` shows what that is worth on a workstation.

RAILBED_KEEP_AWAKE: 0 never, 1 always, by default on virtual machines whose processors are no hardware threads of one
core, as far as they say so: there, what spins slows its neighbour.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from topologies.errors import SpecError

VARIABLE = "RAILBED_KEEP_AWAKE"
SPIN = Path(__file__).with_name("spin.py")
CPUINFO = Path("/proc/cpuinfo")
SIBLINGS = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
NAMESPACE = Path("/proc/self/ns/cgroup")
GROUP = "railbed-awake-"
READY_WITHIN_S = 5.0  # an interpreter starts in 20 ms; a workstation that takes that long is INVALID anyway

_FIRST_NAMESPACE = 0xEFFFFFFB  # PROC_CGROUP_INIT_INO of linux/proc_ns.h
_CPU_CLOCK = 1  # CPUCLOCK_VIRT of linux/posix-timers.h: in user mode; interrupts that come meanwhile stay out


class _Awake:
    """The processes of this one, their group, and how many blocks want them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        self.running: list[subprocess.Popen[bytes]] = []
        self.group: Path | None = None
        self.ended_ns = 0

    def begin(self) -> None:
        """One more block."""
        with self.lock:
            self.blocks += 1
            if self.blocks > 1:
                return
            try:
                self._start()
            except OSError:  # not root, a file system that may only be read, a kernel before 5.15: then without
                self._stop()
            except BaseException:
                self.blocks -= 1
                self._stop()
                raise

    def end(self) -> None:
        """One less."""
        with self.lock:
            self.blocks -= 1
            if not self.blocks:
                self._stop()

    def spun_ns(self) -> int:
        """What all of them ran so far."""
        with self.lock:
            return self.ended_ns + sum(map(_ran_ns, self.running))

    def _start(self) -> None:
        root = tree()
        if root is None:
            return
        _sweep(root)
        self.group = root / f"{GROUP}{os.getpid()}"
        self.group.mkdir(exist_ok=True)
        (self.group / "cpu.idle").write_text("1", encoding="ascii")
        for processor in sorted(os.sched_getaffinity(0)):
            words = [sys.executable, "-I", "-S", str(SPIN), str(processor), str(os.getpid()), str(self.group)]
            self.running.append(
                subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            )
        deadline = time.monotonic() + READY_WITHIN_S
        for one in self.running:
            if not _is_ready(one, deadline - time.monotonic()):  # all or none
                self._stop()
                return
            (self.group / "cgroup.procs").write_text(str(one.pid), encoding="ascii")

    def _stop(self) -> None:
        running, self.running = self.running, []
        group, self.group = self.group, None
        if group is not None:
            with suppress(OSError):  # of the lowest class they would wait for a processor to end on
                (group / "cpu.idle").write_text("0", encoding="ascii")
        for one in running:
            with suppress(OSError):
                os.sched_setscheduler(one.pid, os.SCHED_OTHER, os.sched_param(0))
            self.ended_ns += _ran_ns(one)
            one.kill()
        for one in running:
            one.wait()
            if one.stdout:
                one.stdout.close()
        if group is not None:
            with suppress(OSError):
                group.rmdir()


_awake = _Awake()


def _forget() -> None:
    """In a forked child: the processes are its parent's."""
    global _awake  # noqa: PLW0603 - what a fork copies is another process's
    _awake = _Awake()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def kept_awake() -> Iterator[None]:
    """Keep every processor this process may use from halting for the length of a block.

    Blocks may lie within each other, in all threads. Where it is not wanted, or cannot be had (`tree`; not root), the
    block is as any other. Raises SpecError for another RAILBED_KEEP_AWAKE than 0 or 1.
    """
    if not is_wanted():
        yield
        return
    awake = _awake
    awake.begin()
    try:
        yield
    finally:
        awake.end()


def is_wanted() -> bool:
    """Whether processors are to be kept awake here. Raises SpecError."""
    asked = os.environ.get(VARIABLE, "")
    if asked not in {"", "0", "1"}:
        raise SpecError(f"{VARIABLE}={asked}", allowed="0 (never), 1 (always), empty (on virtual machines)")
    return asked == "1" if asked else is_virtual() and not has_siblings()


def is_virtual(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processors are a hypervisor's, as far as they say so (x86 alone does)."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return "hypervisor" in flags.split()


def has_siblings(siblings: Path = SIBLINGS) -> bool:
    """Whether a core has several hardware threads, as far as the workstation knows."""
    try:
        return not siblings.read_text(encoding="ascii").strip().isdecimal()
    except OSError:
        return False


def tree(groups: Path = GROUPS, membership: Path = MEMBERSHIP, namespace: Path = NAMESPACE) -> Path | None:
    """The root of the tree of control groups that shares out the processors; None where groups of it cannot be had.

    In a container they would be groups of the container's: idle among its own, with its whole share among others. And
    where no controller shares out processors, a session's share (`sched_autogroup_enabled`) is as good as a group's.
    """
    try:
        lines = membership.read_text(encoding="ascii").splitlines()
        if namespace.stat().st_ino != _FIRST_NAMESPACE:
            return None
        old = [controllers for _, controllers, _ in (line.split(":", 2) for line in lines) if controllers]
        for controllers in old:
            if "cpu" in controllers.split(",") and (groups / controllers / "cgroup.procs").exists():
                return groups / controllers
        shared = (groups / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except OSError:
        return None
    return groups if "cpu" in shared else None


def spun_ns() -> int:
    """Nanoseconds of user time that went into keeping awake in this process so far, as the kernel's ticks count."""
    return _awake.spun_ns()


def _sweep(root: Path) -> None:
    """Remove what killed processes have left, if their own have not."""
    for left in root.glob(f"{GROUP}*"):
        if not Path(f"/proc/{left.name.removeprefix(GROUP)}").exists():
            with suppress(OSError):
                left.rmdir()


def _is_ready(process: subprocess.Popen[bytes], within: float) -> bool:
    """Whether it says so in time."""
    if process.stdout is None:
        return False
    said = select.poll()
    said.register(process.stdout, select.POLLIN)
    return bool(said.poll(max(0.0, within) * 1000)) and os.read(process.stdout.fileno(), 64) == b"ready\n"


def _ran_ns(process: subprocess.Popen[bytes]) -> int:
    """What a process ran, also one that has ended and was not waited for."""
    try:
        return time.clock_gettime_ns(~process.pid << 3 | _CPU_CLOCK)
    except OSError:  # waited for
        return 0
