"""Runs where a processor would halt, until its parent is gone: what `labs.telemetry.awake` starts, one a processor.

    python -I -S spin.py PROCESSOR PARENT

Says "awake" once it is of the lowest class there is, SCHED_IDLE, which gives way to whatever else wants the processor.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TURNS = 100_000  # some milliseconds between two looks at the parent
GROUPS = Path("/sys/fs/cgroup")


def leave_groups(membership: str, groups: Path = GROUPS) -> None:
    """Go to the root of the group tree that shares out the processor; `membership` is ``/proc/self/cgroup``.

    Between groups a class counts nothing: a group that has only this to run takes its whole share from the others'.
    Raises OSError where it cannot.
    """
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        root = groups / controllers
        shares = "cpu" in controllers.split(",") if controllers else (groups / "cgroup.controllers").exists()
        if shares and path != "/":
            (root / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def main(processor: int, parent: int) -> None:
    """Run. Raises OSError where it may not be what it has to be."""
    os.sched_setaffinity(0, {processor})
    os.nice(19)  # for people: top counts it as nice
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    leave_groups(Path("/proc/self/cgroup").read_text(encoding="ascii"))
    sys.stdout.write("awake\n")
    sys.stdout.flush()
    while os.getppid() == parent:
        for _ in range(TURNS):
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
