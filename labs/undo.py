"""How each kind of change on the workstation is undone. Every verb is idempotent and touches only what is ours.

process   whatever carries the lab's start token in its environment, and the pids that were recorded
netns     members of the namespace, then its mount and its name
sysctl    a setting of the whole workstation, shared by the labs that need it
containers         the containers that carry the lab's labels, and whatever else was started in their networks
container-network  a management network, with our labels
containerlab       what containerlab leaves beside containers: names of namespaces, host names, ssh configuration
foreign-network    a management network that containerlab made for somebody else's file, once nobody uses it
setting            a setting of the workstation that containerlab overwrites
expedited          a setting of the workstation that asicd has on for moments, should one have been killed in such
paused             a container that was paused
soft-asic          asicd, its queues on the ports, and its maps
adopted            nothing: a lab that goes on without us
fault              the steps of a fault, each by a verb of its own (labs/faults/undoing.py)
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from labs import container_network, engine, expedited, hosts_file, kernel, sysctl
from labs.errors import NotReady
from labs.journal import Entry, Journal, Undo, boot_id
from labs.waiting import wait_until

TOKEN_VARIABLE = "RAILBED_TOKEN"  # noqa: S105 - a mark, not a secret
NETNS_DIR = Path("/run/netns")
KILL_WITHIN = 20.0
ASICD_ENDS_WITHIN = 5.0  # then it is killed: a lab that goes down does not wait for one that hangs
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
SSH_CONFIG_DIR = Path("/etc/ssh/ssh_config.d")
PARKED = "clab-park-"  # where containerlab keeps a stopped node's interfaces
# A container takes the engine a tenth of a second to make; ten times that for a workstation that does much else.
LAST_REQUEST_S = 1.0


def undo_all(lab: str, journal: Journal) -> int:
    """Undo everything in the journal that is not yet undone; returns how many changes that were."""
    entries = journal.open_entries()
    undo(lab, journal, entries)
    return len(entries)


def undo(lab: str, journal: Journal, entries: tuple[Entry, ...]) -> None:
    """Undo some of a journal's changes.

    Processes first: one that is still making things would race with what removes them. Then the rest, last
    change first, neighbours of one verb together.
    """
    processes = tuple(entry for entry in entries if entry.change.undo == "process")
    rest = [entry for entry in reversed(entries) if entry.change.undo != "process"]
    for verb, group in (("process", processes), *_runs(rest)):
        if group:
            UNDO[verb](lab, group)
            journal.done(group)


def _runs(entries: Iterable[Entry]) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    """Split into runs of neighbours with the same verb."""
    group: list[Entry] = []
    for entry in entries:
        if group and group[-1].change.undo != entry.change.undo:
            yield group[-1].change.undo, tuple(group)
            group = []
        group.append(entry)
    if group:
        yield group[-1].change.undo, tuple(group)


def end_processes(lab: str, entries: tuple[Entry, ...]) -> None:
    """End what was started: recorded pids whose start time and boot match, and all that carry the start token.

    Among them may be a containerlab that has outlived us: it is not ended while it rewrites /etc/hosts.
    """
    del lab
    facts = [fact for entry in entries for fact in entry.facts]
    marks = {f"{TOKEN_VARIABLE}={entry.change.args['token']}".encode() for entry in entries}
    with hosts_file.unedited():
        kill_until_gone(lambda: _recorded(facts) | carriers(marks))


def _recorded(facts: Iterable[Mapping[str, object]]) -> set[int]:
    return {int(str(fact["pid"])) for fact in facts if is_process(fact)}


def carriers(marks: set[bytes]) -> set[int]:
    """The processes that have one of these ``NAME=value`` in their environment."""
    found = set()
    for pid in _pids():
        with suppress(OSError):
            if marks & set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                found.add(pid)
    return found


def remove_netns(lab: str, entries: tuple[Entry, ...]) -> None:
    """Remove named network namespaces and whatever still runs in them."""
    del lab
    paths = [NETNS_DIR / str(entry.change.args["name"]) for entry in entries]
    inodes = set()
    for path in paths:
        with suppress(OSError):
            inodes.add((path.stat().st_dev, path.stat().st_ino))
    kill_until_gone(lambda: _members(inodes))
    for path in paths:
        kernel.detach(path)
        path.unlink(missing_ok=True)


def _members(inodes: set[tuple[int, int]]) -> set[int]:
    """Who is in one of these network namespaces; the workstation's own is never meant."""
    found = set()
    for own in ("self", "1"):
        with suppress(OSError):
            stat = Path(f"/proc/{own}/ns/net").stat()
            inodes = inodes - {(stat.st_dev, stat.st_ino)}
    for pid in _pids():
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/ns/net").stat()
            if (stat.st_dev, stat.st_ino) in inodes:
                found.add(pid)
    return found


def _guests(inodes: set[tuple[int, int]], ours: frozenset[str]) -> set[int]:
    """Who is in one of these network namespaces, but for containers of others that share it."""
    return {pid for pid in _members(inodes) if _containers_of(pid) <= ours}


def _containers_of(pid: int) -> frozenset[str]:
    """The containers that a process is in, by its control groups: the engine names those by the container's id."""
    try:
        return frozenset(CONTAINER_ID.findall(Path(f"/proc/{pid}/cgroup").read_text()))
    except OSError:
        return frozenset()


def remove_containers(lab: str, entries: tuple[Entry, ...]) -> None:
    """Remove the containers that carry the labels of `entries`, and end what else is in their network namespaces.

    A deployment that was killed may have left the engine last requests, for containers or for the network: it is
    looked again until none has come for LAST_REQUEST_S.
    """
    del lab
    for entry in entries:
        at, labels = str(entry.change.args["engine"]), _labels(entry)
        look = partial(engine.containers, labels, at)
        interrupted = not any(fact.get("deployed") for fact in entry.facts)
        within = LAST_REQUEST_S if interrupted else 0.0
        while found := wait_until("a last container", look, bool, within=within).last:
            with ExitStack() as stack:
                inodes = set(_networks(found, at, stack))
                engine.remove_containers(found, at)
                kill_until_gone(partial(_guests, inodes, frozenset(one.id for one in found)))


def _networks(found: Iterable[engine.Container], at: str, stack: ExitStack) -> Iterator[tuple[int, int]]:
    """The network namespaces that running containers have to themselves.

    They are kept open until `stack` closes: the kernel gives the number of one that is gone to the next that is made,
    which may be another lab's.
    """
    for one in found:
        inspected = engine.inspect(one.id, at) if one.state in {"running", "paused"} else None
        if inspected is not None and inspected.pid:
            with suppress(OSError):
                fd = os.open(f"/proc/{inspected.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                yield os.fstat(fd).st_dev, os.fstat(fd).st_ino


def remove_container_network(lab: str, entries: tuple[Entry, ...]) -> None:
    """Remove management networks that carry our labels."""
    del lab
    for entry in entries:
        container_network.remove(str(entry.change.args["name"]), _labels(entry), str(entry.change.args["engine"]))


def _labels(entry: Entry) -> Mapping[str, str]:
    labels = entry.change.args["labels"]
    return {str(k): str(v) for k, v in labels.items()} if isinstance(labels, Mapping) else {}


def remove_traces(lab: str, entries: tuple[Entry, ...]) -> None:
    """Remove what containerlab has written for a lab outside its folder."""
    del lab
    for entry in entries:
        hosts_file.remove(str(entry.change.args["lab"]))
        (SSH_CONFIG_DIR / f"clab-{entry.change.args['lab']}.conf").unlink(missing_ok=True)
        names = entry.change.args["containers"]
        for name in names if isinstance(names, list) else []:
            parked = NETNS_DIR / f"{PARKED}{name}"
            kernel.detach(parked)
            parked.unlink(missing_ok=True)
            if (NETNS_DIR / str(name)).is_symlink():
                (NETNS_DIR / str(name)).unlink()


def remove_foreign_network(lab: str, entries: tuple[Entry, ...]) -> None:
    """Remove management networks that containerlab has made, with its firewall rules; one that is in use stays."""
    del lab
    for entry in entries:
        container_network.remove_foreign(str(entry.change.args["name"]), str(entry.change.args["engine"]))


def restore_setting(lab: str, entries: tuple[Entry, ...]) -> None:
    """Write back what containerlab has overwritten, should it not have come to it."""
    del lab
    for entry in entries:
        path = sysctl.path_of(str(entry.change.args["key"]))
        if path.read_text().strip() != entry.change.args["was"]:
            path.write_text(str(entry.change.args["was"]))


def let_go_on(lab: str, entries: tuple[Entry, ...]) -> None:
    """Let paused containers go on; one that is gone or runs needs nothing."""
    del lab
    for entry in entries:
        name, at = str(entry.change.args["container"]), str(entry.change.args["engine"])
        found = engine.inspect(name, at)
        if found is not None and found.state == "paused":
            engine.pause(name, on=False, at=at)


def remove_soft_asic(lab: str, entries: tuple[Entry, ...]) -> None:
    """End asicd in good order, so that it takes itself off every port; what it cannot is taken off for it.

    Where the ports are the lab's own they go next, with all that is on them.
    """
    del lab
    for entry in entries:
        folder, binary = Path(str(entry.change.args["folder"])), str(entry.change.args["asicd"])
        marks = {f"{TOKEN_VARIABLE}={entry.change.args['token']}".encode()}
        find = partial(carriers, marks)
        ours = bool(entry.change.args.get("own_ports"))
        for pid in find():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_until("asicd has ended", find, lambda pids: not pids, within=ASICD_ENDS_WITHIN)
        kill_until_gone(find)
        if not ours and (folder / "ports").exists() and Path(binary).exists():
            subprocess.run([binary, "--strip", str(folder)], capture_output=True, check=False, timeout=60)
        kernel.detach(folder / "maps")
        shutil.rmtree(folder, ignore_errors=True)


def forget_adopted(lab: str, entries: tuple[Entry, ...]) -> None:
    """Nothing was made, so nothing is removed."""
    del lab, entries


def restore_sysctl(lab: str, entries: tuple[Entry, ...]) -> None:
    """Give up what this lab wanted of the workstation's settings."""
    sysctl.release(lab, [str(entry.change.args["key"]) for entry in entries])


def revert_faults(lab: str, entries: tuple[Entry, ...]) -> None:
    """Undo the steps of faults. What does that knows running labs, so it is above us: it is found by its name."""
    import_module("labs.faults.undoing").undo_faults(lab, entries)


def kill_until_gone(find: Callable[[], set[int]]) -> None:
    """KILL what `find` finds, wait for its end, and look again until nothing is left.

    Never ourselves: a test may run inside a namespace of its own making. A process that a KILL has not ended in
    KILL_WITHIN seconds hangs in the kernel; raises NotReady that names it.
    """
    deadline = time.monotonic() + KILL_WITHIN
    while pids := {pid for pid in find() if pid != os.getpid() and start_time(pid) is not None}:
        if time.monotonic() > deadline:
            raise NotReady(f"processes do not end: {sorted(pids)}", remedy="railbed reap, once they have")
        waiting = []
        for pid in pids:
            with suppress(ProcessLookupError):
                waiting.append(os.pidfd_open(pid))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for fd in waiting:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(int(1000 * KILL_WITHIN))
            os.close(fd)


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None for one that is not there, or only not yet buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_process(fact: Mapping[str, object]) -> bool:
    """Whether the process that `identity()` once described still runs."""
    start = start_time(int(str(fact["pid"])))
    return start is not None and fact.get("boot") == boot_id() and fact.get("start") == start


def identity(pid: int) -> Mapping[str, object]:
    """What tells this process from a later one of the same pid."""
    return {"pid": pid, "start": start_time(pid), "boot": boot_id()}


def _pids() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


UNDO: Mapping[str, Undo] = MappingProxyType(
    {
        "process": end_processes,
        "netns": remove_netns,
        "sysctl": restore_sysctl,
        "containers": remove_containers,
        "container-network": remove_container_network,
        "containerlab": remove_traces,
        "foreign-network": remove_foreign_network,
        "setting": restore_setting,
        "expedited": expedited.put_back,
        "paused": let_go_on,
        "fault": revert_faults,
        "soft-asic": remove_soft_asic,
        "adopted": forget_adopted,
    }
)
