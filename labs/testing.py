"""The names that tests import: values, plans, judges and waits, from one place."""

from __future__ import annotations

from labs.errors import CapabilityMissing, LabError, RunInvalid, SpecError
from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict
from labs.verdicts.balance import completion, in_order
from labs.verdicts.bandwidth import busbw_reached
from labs.verdicts.carried import carried_as_planned
from labs.verdicts.ecmp import ecmp_spread, flows_needed, spread_over_ports
from labs.verdicts.flows import no_flow_lost_for_good, path_prediction
from labs.verdicts.pfc import Measured, incast_goodput, lossless, pause_share, reaction, watchdog_timing
from labs.verdicts.routes import routes_match
from labs.waiting import Waited, wait_until
from topologies.fabric import Fabric, Link, Node, Port, Tier
from topologies.units import GBIT, GIB, KBIT, KIB, MBIT, MIB, MICROSECOND, MILLISECOND, SECOND
from traffic.collectives import permutation
from traffic.engines.crafted_bursts import Ecn, RocePacket, ecn_probe, entropy_set, pause_frames, roce_write
from traffic.engines.rc_settings import Congestion, RcSettings, Recovery
from traffic.flows import FiveTuple, Flow, TrafficPlan, TrafficReport, Transport
from traffic.operations import (
    Operation,
    all_gather,
    all_to_all,
    broadcast,
    gather,
    halving_doubling_all_reduce,
    operation,
    reduce_scatter,
    ring_all_reduce,
)
from traffic.pauses import quanta_of

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
    "Congestion",
    "Ecn",
    "Evidence",
    "Fabric",
    "Fidelity",
    "FiveTuple",
    "Flow",
    "LabError",
    "Link",
    "Measured",
    "Node",
    "Operation",
    "Port",
    "RcSettings",
    "Recovery",
    "RocePacket",
    "RunInvalid",
    "SpecError",
    "Tier",
    "TrafficPlan",
    "TrafficReport",
    "Transport",
    "Verdict",
    "Waited",
    "all_gather",
    "all_to_all",
    "broadcast",
    "busbw_reached",
    "carried_as_planned",
    "completion",
    "ecmp_spread",
    "ecn_probe",
    "entropy_set",
    "flows_needed",
    "gather",
    "halving_doubling_all_reduce",
    "in_order",
    "incast_goodput",
    "lossless",
    "no_flow_lost_for_good",
    "operation",
    "path_prediction",
    "pause_frames",
    "pause_share",
    "permutation",
    "quanta_of",
    "reaction",
    "reduce_scatter",
    "ring_all_reduce",
    "roce_write",
    "routes_match",
    "spread_over_ports",
    "wait_until",
    "watchdog_timing",
]
