"""The names that tests import: values, plans, judges and waits, from one place."""

from __future__ import annotations

from labs.errors import CapabilityMissing, LabError, RunInvalid
from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict
from labs.verdicts.balance import completion, in_order
from labs.verdicts.ecmp import ecmp_spread, flows_needed, spread_over_ports
from labs.verdicts.flows import no_flow_lost_for_good, path_prediction
from labs.verdicts.pfc import Measured, incast_goodput, lossless, pause_share, reaction, watchdog_timing
from labs.verdicts.routes import routes_match
from labs.waiting import Waited, wait_until
from topologies.fabric import Fabric, Link, Node, Port, Tier
from topologies.units import GBIT, GIB, KBIT, KIB, MBIT, MIB, MICROSECOND, MILLISECOND, SECOND
from traffic.collectives import permutation
from traffic.flows import FiveTuple, Flow, TrafficPlan, TrafficReport, Transport

__all__ = [
    "FALSE_ALARM",
    "GBIT",
    "GIB",
    "KBIT",
    "KIB",
    "MBIT",
    "MIB",
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "CapabilityMissing",
    "Evidence",
    "Fabric",
    "Fidelity",
    "FiveTuple",
    "Flow",
    "LabError",
    "Link",
    "Measured",
    "Node",
    "Port",
    "RunInvalid",
    "Tier",
    "TrafficPlan",
    "TrafficReport",
    "Transport",
    "Verdict",
    "Waited",
    "completion",
    "ecmp_spread",
    "flows_needed",
    "in_order",
    "incast_goodput",
    "lossless",
    "no_flow_lost_for_good",
    "path_prediction",
    "pause_share",
    "permutation",
    "reaction",
    "routes_match",
    "spread_over_ports",
    "wait_until",
    "watchdog_timing",
]
