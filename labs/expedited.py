"""`/sys/kernel/rcu_expedited`, which asicd has on while it attaches: put back after one that was killed then.

asicd turns it under a lock, and what it was stands in the locked file until it is so again (labs/dataplane/asicd,
attach.c). Without words in that file, what the setting is, is its owner's.
"""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path

from labs.journal import Entry

SETTING = Path("/sys/kernel/rcu_expedited")
HELD = Path("/run/railbed.rcu")


def put_back(lab: str, entries: tuple[Entry, ...]) -> None:
    """Put back what a killed asicd has left on. Where one is at it, it knows the value and puts it back itself."""
    del lab, entries
    with suppress(FileNotFoundError), HELD.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        was = file.read().strip()
        if was:
            SETTING.write_text(was)
            file.truncate(0)
