"""Packet captures of chosen ports, into the lab's run directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from labs import run_dir
from labs.channels.namespaces import in_network
from labs.kinds import driver
from labs.lab import Lab
from topologies.errors import SpecError
from topologies.fabric import Port

READY = "listening on"


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
            argv = ("tcpdump", "-i", netdev, "-U", "-w", str(target), "--immediate-mode", "-Z", "root")
            process = in_network(node.name, lab.deployment.netns(node.name), argv)
            stack.callback(process.stop)
            process.wait_ready(READY, timeout=10.0)
        yield


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
