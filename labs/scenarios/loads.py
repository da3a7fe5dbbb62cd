"""Load of a scenario: raw packets from hosts to one, and what queues, pauses and watchdogs did meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass

from labs.lab import Lab
from labs.load_bridge import incast, measure
from labs.scenarios.scenario import LoadStep
from labs.telemetry.asic_counters import AsicCounters
from labs.verdicts.pfc import Measured, PortName
from labs.verdicts.signals import Signalled

# Queues of 2 MiB that are offered 5 MB/s too much are full after 0.4 s: then it is steady.
RAMP_S = 0.5
SOME_PACKETS = 100


@dataclass(frozen=True, slots=True)
class Loaded:
    """Load that is over.

    `sink` is the switch port to the receiver, `paths` the ports that each flow left by (its host's first), `readings`
    what that port had marked, and all ports had paused, while queues filled.
    """

    measured: Measured
    sink: PortName
    paths: tuple[tuple[PortName, ...], ...]
    readings: tuple[Signalled, ...]


def put(lab: Lab, step: LoadStep) -> Loaded:
    """Put load on hosts, to its end. Raises NotReady where no packet leaves, CapabilityMissing without a soft ASIC."""
    near = lab.fabric.link_at(step.sink, "eth1").far(step.sink)
    sink = near.node, near.name
    flows = incast(lab, step.hosts, step.sink, rate_bps=step.rate_bps, duration_s=None, dscp=step.dscp)
    paths = lab.paths([flow.five_tuple for flow in flows], step.hosts)
    began, readings = time.monotonic(), [Signalled(0.0, 0, 0)]
    moving: list[float] = []

    def steady(now: AsicCounters) -> bool:
        at = time.monotonic() - began
        marked = sum(one.marked_packets for one in now.queues if (one.node, one.port) == sink)
        readings.append(Signalled(at, marked, now.pauses))
        if not moving and sum(one.sent_packets for one in now.queues) > SOME_PACKETS:
            moving.append(at)
        return bool(moving) and at - moving[0] >= RAMP_S

    measured = measure(lab, flows, steady=steady, for_s=step.lasts_s)
    ports = tuple(tuple(_port(name) for name in path.ports) for path in paths)
    return Loaded(measured, sink, ports, tuple(readings))


def _port(name: str) -> PortName:
    node, _, port = name.partition(":")
    return node, port
