"""Keeps a virtual machine's processors from being given back while something is measured on them.

    with kept_awake():
        …

A virtual processor without work halts: the hypervisor gives it to others, and has to give it back for the next packet.
Where others want it that takes milliseconds, with each wake anew; it shows as stolen time and as packets that leave
late. So for the length of a block each processor has a process of the lowest class there is (spin.py), which runs where
it would halt. `scripts/bench_awake` shows what that is worth on a workstation.

RAILBED_KEEP_AWAKE: 0 never, 1 always, by default on virtual machines.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topologies.errors import SpecError

VARIABLE = "RAILBED_KEEP_AWAKE"
SPIN = Path(__file__).with_name("spin.py")
CPUINFO = Path("/proc/cpuinfo")

_CPU_CLOCK = 2  # CPUCLOCK_SCHED of linux/posix-timers.h: all that a process ran


class _Awake:
    """The processes of this one, and how many blocks want them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        self.running: list[subprocess.Popen[bytes]] = []
        self.ended_ns = 0

    def begin(self) -> None:
        """One more block."""
        with self.lock:
            self.blocks += 1
            if self.blocks > 1:
                return
            try:
                for processor in sorted(os.sched_getaffinity(0)):
                    words = [sys.executable, "-I", "-S", str(SPIN), str(processor), str(os.getpid())]
                    self.running.append(
                        subprocess.Popen(
                            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                        )
                    )
                said = [one.stdout.readline() if one.stdout else b"" for one in self.running]
            except BaseException:
                self.blocks -= 1
                self._stop()
                raise
            if any(
                words != b"awake\n" for words in said
            ):  # all or none: it may not have that class, or leave its group
                self._stop()

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

    def _stop(self) -> None:
        for one in self.running:
            one.kill()
        for one in self.running:
            self.ended_ns += _ran_ns(one)
            one.wait()
            if one.stdout:
                one.stdout.close()
        self.running = []


_awake = _Awake()


def _forget() -> None:
    """In a forked child: the processes are its parent's."""
    global _awake  # noqa: PLW0603 - what a fork copies is another process's
    _awake = _Awake()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def kept_awake() -> Iterator[None]:
    """Keep every processor this process may use from halting for the length of a block.

    Blocks may lie within each other, in all threads. Where it is not wanted, or not allowed (a container that may not
    leave its group), the block is as any other. Raises SpecError for another RAILBED_KEEP_AWAKE than 0 or 1.
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
    """Whether processors are kept awake here. Raises SpecError."""
    asked = os.environ.get(VARIABLE, "")
    if asked not in {"", "0", "1"}:
        raise SpecError(f"{VARIABLE}={asked}", allowed="0 (never), 1 (always), empty (on virtual machines)")
    return asked == "1" if asked else is_virtual()


def is_virtual(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processors are a hypervisor's, as far as they say so (x86 alone does)."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return "hypervisor" in flags.split()


def spun_ns() -> int:
    """Nanoseconds of processor time that went into keeping awake in this process so far: nobody else wanted them."""
    return _awake.spun_ns()


def _ran_ns(process: subprocess.Popen[bytes]) -> int:
    """What a process ran, also one that has ended and was not waited for."""
    try:
        return time.clock_gettime_ns(~process.pid << 3 | _CPU_CLOCK)
    except OSError:  # waited for
        return 0
