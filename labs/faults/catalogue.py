"""The faults there are, each a context manager.

Journaled before it is made; undone when the block ends, by `railbed down`, and by `railbed reap` after a crash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from labs import kernel
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
    with lab.changed(*changes):
        for port in ends:
            try:
                with kernel.inside_netns(lab.deployment.netns(port.node)):
                    kernel.set_link(_netdev(lab, port), up=False)
            except OSError as error:
                raise NotReady(f"{port} cannot be set down: {error}") from None
        yield cut


def _netdev(lab: Lab, port: Port) -> str:
    node = lab.node(port.node)
    return driver(node.kind).netdev(node, port.name)
