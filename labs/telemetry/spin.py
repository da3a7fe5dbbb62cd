"""Runs where a processor would halt: what `labs.telemetry.awake` starts, one a processor.

    python -I -S spin.py PROCESSOR PARENT GROUP

Says "ready" before it takes the lowest class there is, SCHED_IDLE, which gives way to whoever else wants the processor.
It ends when its parent is gone; the last one then removes the control group that they were put into.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

TURNS = 100_000  # some milliseconds between two looks at the parent


def main(processor: int, parent: int, group: Path) -> None:
    """Run. Raises OSError where it may not be what it has to be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who measures
    os.sched_setaffinity(0, {processor})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.nice(19)  # for people: top counts it as nice
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while os.getppid() == parent:
        for _ in range(TURNS):
            pass
    with suppress(OSError):
        if str(os.getpid()) in (group / "cgroup.procs").read_text(encoding="ascii").split():
            (group.parent / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    with suppress(OSError):  # another is still in there
        group.rmdir()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
