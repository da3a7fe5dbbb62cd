"""The faults there are, each a context manager.

Journaled before it is made; undone when the block ends, by `railbed down`, and by `railbed reap` after a crash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from labs import kernel, lease
from labs.errors import NotReady
from labs.journal import Change
from labs.kinds import driver
from labs.lab import Lab
from labs.undo import identity
from topologies.fabric import Link, Port


@contextmanager
def link_down(lab: Lab, link: Link | str) -> Iterator[Link]:
    """Cut a cable: both switches lose it at once, a host keeps its addresses and sees no carrier.

    Imitates a pulled cable or a dead transceiver. Detected by carrier loss at both ends. Setting a host's own
    interface down would also remove its static routes, which a cut cable does not.
    """
    cut = lab.fabric.link(str(link))
    ends = [port for port in cut.ends if lab.fabric.node(port.node).is_switch]
    by = identity(os.getpid())
    changes = [
        Change("link", {"netns": lab.deployment.netns(p.node).name, "netdev": _netdev(lab, p), "by": by}) for p in ends
    ]
    kept = [_kept(lab, port, by) for port in ends] if lab.fabric.given is not None else []
    with lab.changed(*kept, *changes):
        with lease.changing(lab.name, f"cutting {cut}"):
            for port in ends:
                try:
                    with kernel.inside_netns(lab.deployment.netns(port.node)):
                        kernel.set_link(_netdev(lab, port), up=False)
                except OSError as error:
                    raise NotReady(f"{port} cannot be set down: {error}") from None
        yield cut


def _kept(lab: Lab, port: Port, by: Mapping[str, object]) -> Change:
    """What a port of somebody else's lab loses for good when it is set down, to be given back once it is up again.

    Our nodes keep IPv6 addresses (keep_addr_on_down), and have no routes on switches but those of daemons, which
    come back by themselves.
    """
    netdev, node = _netdev(lab, port), lab.node(port.node)
    lines = []
    for link in json.loads(node.kernel("ip", "-j", "-6", "addr", "show", "dev", netdev).stdout):
        lines += [
            f"-6 addr replace {one['local']}/{one['prefixlen']} dev {netdev} nodad"
            for one in link.get("addr_info", ())
            if one.get("scope") == "global"
        ]
    for family in ("-4", "-6"):
        for protocol in ("boot", "static"):
            said = node.kernel("ip", family, "route", "show", "proto", protocol, "dev", netdev).stdout
            lines += [
                f"{family} route replace {line.replace(' linkdown', '').strip()} dev {netdev} proto {protocol}"
                for line in said.splitlines()
            ]
    return Change("kept", {"netns": lab.deployment.netns(port.node).name, "lines": lines, "by": by})


def _netdev(lab: Lab, port: Port) -> str:
    node = lab.node(port.node)
    return driver(node.kind).netdev(node, port.name)
