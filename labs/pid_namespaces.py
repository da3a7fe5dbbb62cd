"""Which processes are in a node's process namespace, and whether they are frozen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def held(init: int) -> Iterator[Callable[[], set[int]]]:
    """For the length of a block, a question: the pids of everything in the process namespace of `init`.

    The namespace is held open, for neither its number nor the init's pid says which one it is once it has ended:
    the kernel gives both away again, the pid perhaps to a process of the workstation's own.
    """
    try:
        fd = os.open(f"/proc/{init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield set
        return
    try:
        inode = os.fstat(fd).st_ino
        ours = Path("/proc/self/ns/pid").stat().st_ino
        yield lambda: set() if inode == ours else _in_namespace(inode)
    finally:
        os.close(fd)


def _in_namespace(inode: int) -> set[int]:
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(entry.path, "ns/pid").stat().st_ino == inode:
                    found.add(int(entry.name))
    return found


def outside(netns: Path, inside: int, name: str) -> int | None:
    """The workstation's pid of the process called `name` that a node, by its network namespace, counts as `inside`."""
    network = netns.stat().st_ino
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                status = Path(entry.path, "status").read_text().splitlines()
                facts = {key: rest.strip() for key, _, rest in (line.partition(":") for line in status)}
                counted = facts["NSpid"].split()[-1]
                if facts["Name"] == name and counted == str(inside) and _in_network(entry.path, network):
                    return int(entry.name)
    return None


def _in_network(process: str, inode: int) -> bool:
    return Path(process, "ns/net").stat().st_ino == inode


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def frozen_by_namespace(init: str) -> Mapping[int, bool]:
    """For each process namespace, by inode: whether everything in it is frozen. One look at /proc.

    `init` is the program of each namespace's first process, which is left aside.
    """
    found: dict[int, bool] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                pid = int(entry.name)
                namespace = Path(f"/proc/{pid}/ns/pid").stat().st_ino
                if str(Path(f"/proc/{pid}/exe").readlink()) != init:
                    found[namespace] = found.get(namespace, True) and _is_frozen(pid)
    return found


def _is_frozen(pid: int) -> bool:
    return _status(pid) in "TtZ"


def sleepers_of(init: int) -> set[int]:
    """The children of a process that are a ``sleep``."""
    found = set()
    with suppress(OSError):
        for word in Path(f"/proc/{init}/task/{init}/children").read_text().split():
            with suppress(OSError):
                if Path(f"/proc/{word}/comm").read_text().strip() == "sleep":
                    found.add(int(word))
    return found
