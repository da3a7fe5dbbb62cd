"""Hearing from the kernels themselves when their routes change: to the millisecond, and without asking all the time.

By hand, in a node: ``TZ=UTC ip -ts monitor route``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from labs.channel import Process
from labs.errors import RunInvalid
from labs.node import LiveNode

LISTEN = ("env", "TZ=UTC", "ip", "-ts", "monitor", "route")
_STAMP = re.compile(r"^\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)\]", re.MULTILINE)


@dataclass
class RouteEvents:
    """When each node's routes changed, in seconds since the epoch by the node's own clock; known after the block."""

    at: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def last(self, nodes: Collection[str], *, began: float, seen: float) -> float:
        """Seconds from `began` to the last change before `seen`, the moment at which all routes were found right.

        Args:
            nodes: those whose routes had to change; others may change or not.

        Raises RunInvalid when one of them was not heard in between: nobody listened, or its clock is not ours.
        """
        heard = {node: [at for at in stamps if began - SLACK_S <= at <= seen] for node, stamps in self.at.items()}
        deaf = sorted(node for node in nodes if not heard.get(node))
        if deaf:
            raise RunInvalid(
                f"{deaf[0]}'s kernel was not heard changing its routes ({len(deaf)} of {len(nodes)} nodes)"
            )
        return max(0.0, max(at for stamps in heard.values() for at in stamps) - began)


# A cut has two ends, one after the other, and is written down in between: the first node may be this much ahead.
SLACK_S = 0.1


@contextmanager
def hearing(nodes: Iterable[LiveNode]) -> Iterator[RouteEvents]:
    """Listen for the length of a block. Ask each node something first: by then its listener has started, too."""
    events = RouteEvents()
    started: dict[str, Process] = {}
    with ExitStack() as stack:
        for node in nodes:
            started[node.name] = node.start(*LISTEN)
            stack.callback(started[node.name].stop)
        yield events
        events.at = {name: stamps(process.stop().stdout) for name, process in started.items()}


def stamps(said: str) -> tuple[float, ...]:
    """The times in what ``ip -ts monitor`` said, in UTC."""
    return tuple(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in _STAMP.findall(said))
