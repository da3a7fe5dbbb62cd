"""Packet captures of chosen ports, into the lab's run directory."""

from __future__ import annotations

import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from labs import run_dir
from labs.channels.namespaces import BackgroundProcess, in_network
from labs.kinds import driver
from labs.lab import Lab
from labs.waiting import wait_until
from topologies.errors import SpecError
from topologies.fabric import Port

READY = "listening on"
TALLY = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel")
# In immediate mode every packet takes a slot as long as the longest that may come: by default (256 KiB in a ring of
# 2 MiB) there are 8, and a short burst is lost. A jumbo frame is 9216 + 14 bytes; 32 MiB hold 3600 of them.
ROOM = ("-s", "9230", "-B", "32768")
DRAINED_WITHIN = 10.0


@contextmanager
def capturing(lab: Lab, wanted: str, title: str) -> Iterator[None]:
    """Capture on ``leaf1:eth1,leaf2:eth3`` (or ``all`` ports of all switches) for the length of a block.

    One file a port, ``captures/<title>/<node>-<port>.pcap``. A capture sees what a port sends after everything that
    switch did to it, and what it receives before. Raises SpecError for a port that is not there.
    """
    folder = lab.run_dir / "captures" / "".join(c if c.isalnum() or c in "-_." else "_" for c in title)
    run_dir.create_folder(folder)
    with ExitStack() as stack:
        stack.callback(run_dir.hand_over, folder)
        for port in _ports(lab, wanted):
            node = lab.node(port.node)
            netdev = driver(node.kind).netdev(node, port.name)
            target = folder / f"{port.node}-{port.name}.pcap"
            argv = ("tcpdump", "-i", netdev, "-U", "-w", str(target), "--immediate-mode", "-Z", "root", *ROOM)
            process = in_network(node.name, lab.deployment.netns(node.name), argv)
            stack.callback(process.stop)
            process.wait_ready(READY, timeout=10.0)
            stack.callback(_drain, process, target.name)
        yield


def _drain(process: BackgroundProcess, name: str) -> None:
    """Wait until tcpdump has written what it had received when the block ended: at its end it drops the rest unread.

    Warns when the kernel has dropped packets before tcpdump: such a file does not hold all that went through.
    """
    waited = wait_until(
        f"the capture {name} is written",
        lambda: _tallies(process),
        lambda seen: not process.running or (bool(seen) and seen[-1][0] + seen[-1][2] >= seen[0][1]),
        within=DRAINED_WITHIN,
    )
    dropped = waited.last[-1][2] if waited.last else 0
    if dropped or not waited.held:
        reason = f"the kernel dropped {dropped} packets before tcpdump" if dropped else str(waited)
        warnings.warn(f"{name} is not complete: {reason}", stacklevel=2)


def _tallies(process: BackgroundProcess) -> list[tuple[int, ...]]:
    """What tcpdump has said so far, each time it was asked: packets written, received, dropped by the kernel."""
    process.signal(signal.SIGUSR1)
    return [tuple(map(int, tally)) for tally in TALLY.findall(process.said())]


def _ports(lab: Lab, wanted: str) -> list[Port]:
    if wanted == "all":
        return [port for node in lab.fabric.switches for port in lab.fabric.ports(node)]
    found = []
    for word in wanted.split(","):
        node, colon, port = word.strip().partition(":")
        if not colon:
            raise SpecError(f"--lab-pcap {word}", allowed="NODE:PORT, as in leaf1:eth1, or all")
        found.append(lab.fabric.link_at(node, port).end(node))
    return found
