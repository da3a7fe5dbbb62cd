"""containerlab's entries in /etc/hosts: one block a lab, edited under containerlab's own lock."""

from __future__ import annotations

import fcntl
from pathlib import Path

HOSTS = Path("/etc/hosts")
LOCK = Path("/run/lock/clab-hosts.lock")


def remove(lab: str) -> None:
    """Remove a lab's block; every other line stays as it is.

    Written in place: in a container /etc/hosts is a mount of its own, which cannot be replaced.
    """
    begin, end = (f"###### CLAB-{lab}-{word} ######" for word in ("START", "END"))
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = HOSTS.read_text().splitlines(keepends=True) if HOSTS.exists() else []
        kept, inside = [], False
        for line in lines:
            inside = inside or line.strip() == begin
            if not inside:
                kept.append(line)
            inside = inside and line.strip() != end
        if kept != lines:
            HOSTS.write_text("".join(kept))
