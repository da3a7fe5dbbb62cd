"""Is a node in maintenance out of everybody's way?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from labs.telemetry.samples import RouteTable
from labs.verdicts import Verdict
from labs.verdicts.routes import routes_match
from topologies import routing
from topologies.fabric import Fabric, Node


def drained(fabric: Fabric, node: str | Node, seen: Iterable[RouteTable]) -> Verdict:
    """Judge that no switch sends through `node` what has another way, and everything else is as designed.

    A prefix that only `node` leads to keeps its way: a drained leaf still has its hosts. `seen` are the tables of the
    switches. Invalid as `routes_match` is; raises Unpredictable for a lab that the oracle cannot predict.
    """
    name = fabric.node(str(node)).name
    whole, rest = routing.route_tables(fabric), routing.route_tables(fabric.without(name))
    expected = {
        switch: {prefix: rest[switch].get(prefix) or ports for prefix, ports in routes.items()}
        for switch, routes in whole.items()
        if switch != name
    }
    return replace(routes_match(expected, seen), claim=f"nothing goes through {name} that has another way")
