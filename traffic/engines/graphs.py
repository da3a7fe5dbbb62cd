"""Every engine that plays graphs, by what it is told: one call plans, whichever it is, and one starts.

The settings' type says the engine; a plan is pure and refuses what its engine cannot carry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from traffic.bounds import wire_efficiency
from traffic.engines.crafted import start_crafted
from traffic.engines.crafted_plan import CraftedSettings, crafted_plans
from traffic.engines.graph_engine import RunningGraph
from traffic.engines.iperf3_graph import start_iperf3
from traffic.engines.iperf3_plan import Iperf3Settings, iperf3_plans
from traffic.engines.rc_plan import plans
from traffic.engines.rc_settings import RcSettings
from traffic.engines.rnic import Starts
from traffic.engines.rnic_rc import start_rc
from traffic.graph import Graph
from traffic.placement import Addresses, Placement

EngineSettings = RcSettings | Iperf3Settings | CraftedSettings
# What a message may take iperf3 beside its sending, two processes of it, on a workstation that does other things too.
IPERF3_FLOW_S = 0.1


@dataclass(frozen=True, slots=True)
class PlannedGraph:
    """A graph that its engine can play. `extra_s` is what an engine may take beside the wire's own time."""

    graph: Graph
    start: Callable[[Starts], RunningGraph]
    extra_s: float = 0.0


def planned(
    graph: Graph,
    placement: Placement,
    addresses: Addresses,
    settings: EngineSettings | None = None,
    *,
    iterations: int = 1,
    check: bool = True,
) -> PlannedGraph:
    """Plan a graph for the engine whose settings these are; rnic where there are none.

    Args:
        check: have the data checked, by an engine that carries any.

    Raises SpecError for what the engine cannot play.
    """
    if isinstance(settings, Iperf3Settings):
        flows = iperf3_plans(graph, placement, addresses, settings, iterations=iterations)
        extra = len(flows.carried) * iterations * IPERF3_FLOW_S
        return PlannedGraph(flows.graph, lambda start: start_iperf3(flows, start), extra)
    if isinstance(settings, CraftedSettings):
        bursts = crafted_plans(graph, placement, addresses, settings, iterations=iterations)
        return PlannedGraph(bursts.graph, lambda start: start_crafted(bursts, start))
    pairs = plans(graph, placement, addresses, settings, iterations=iterations, check=check)
    # Queue pairs that spend their retries say more than a time limit does.
    spent = pairs.settings.timeout_s * (pairs.settings.retries + 2)
    return PlannedGraph(pairs.graph, lambda start: start_rc(pairs, start), spent)


def engine_name(settings: EngineSettings) -> str:
    """As `--engine` has it."""
    return {Iperf3Settings: "iperf3", CraftedSettings: "scapy"}.get(type(settings), "rnic")


def efficiency(settings: EngineSettings) -> float:
    """Payload bytes over bytes on the line."""
    return wire_efficiency(settings.mtu) if isinstance(settings, RcSettings) else settings.efficiency
