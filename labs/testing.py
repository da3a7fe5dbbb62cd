"""The names that tests import: values, plans, judges and waits, from one place."""

from __future__ import annotations

from labs.errors import CapabilityMissing, LabError, RunInvalid, SpecError
from labs.neighbors import neighbors
from labs.telemetry.live import read_first
from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict
from labs.verdicts import detected as _detected
from labs.verdicts import recovered as _recovered
from labs.verdicts.balance import completion, in_order
from labs.verdicts.bandwidth import busbw_reached
from labs.verdicts.cabling import Neighbor, SizeProbe, every_size_passes, wired_as_planned
from labs.verdicts.carried import carried_as_planned
from labs.verdicts.disruption import disruption
from labs.verdicts.drain import drained
from labs.verdicts.ecmp import ecmp_spread, flows_needed, spread_over_ports
from labs.verdicts.flows import no_flow_lost_for_good, path_prediction
from labs.verdicts.imbalance import busiest_member, collisions
from labs.verdicts.pfc import Measured, incast_goodput, lossless, pause_share, reaction, watchdog_timing
from labs.verdicts.polarisation import handed, hash_entropy, tiers_spread
from labs.verdicts.repeats import Repeat, kept_in
from labs.verdicts.routes import routes_match
from labs.verdicts.signals import (
    Signalled,
    Treated,
    dropped_if_not_markable,
    marks_before_pauses,
    silent_when_idle,
)
from labs.verdicts.storm import Crossing, head_of_line, may_be_paused, storm_spread
from labs.verdicts.stragglers import Message, fair_shares, stragglers
from labs.waiting import Waited, wait_until
from topologies.fabric import Fabric, Link, Node, Port, Tier
from topologies.member_loss import ChoosesBy
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

# The fixture `timeline` is that of a running lab: it is read when it is judged.
recovered = read_first(_recovered.recovered)
came_back = read_first(_recovered.came_back)
detected_within = read_first(_detected.detected_within)
nothing_lost = read_first(_recovered.nothing_lost)

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
    "ChoosesBy",
    "Congestion",
    "Crossing",
    "Ecn",
    "Evidence",
    "Fabric",
    "Fidelity",
    "FiveTuple",
    "Flow",
    "LabError",
    "Link",
    "Measured",
    "Message",
    "Neighbor",
    "Node",
    "Operation",
    "Port",
    "RcSettings",
    "Recovery",
    "Repeat",
    "RocePacket",
    "RunInvalid",
    "Signalled",
    "SizeProbe",
    "SpecError",
    "Tier",
    "TrafficPlan",
    "TrafficReport",
    "Transport",
    "Treated",
    "Verdict",
    "Waited",
    "all_gather",
    "all_to_all",
    "broadcast",
    "busbw_reached",
    "busiest_member",
    "came_back",
    "carried_as_planned",
    "collisions",
    "completion",
    "detected_within",
    "disruption",
    "drained",
    "dropped_if_not_markable",
    "ecmp_spread",
    "ecn_probe",
    "entropy_set",
    "every_size_passes",
    "fair_shares",
    "flows_needed",
    "gather",
    "halving_doubling_all_reduce",
    "handed",
    "hash_entropy",
    "head_of_line",
    "in_order",
    "incast_goodput",
    "kept_in",
    "lossless",
    "marks_before_pauses",
    "may_be_paused",
    "neighbors",
    "no_flow_lost_for_good",
    "nothing_lost",
    "operation",
    "path_prediction",
    "pause_frames",
    "pause_share",
    "permutation",
    "quanta_of",
    "reaction",
    "recovered",
    "reduce_scatter",
    "ring_all_reduce",
    "roce_write",
    "routes_match",
    "silent_when_idle",
    "spread_over_ports",
    "storm_spread",
    "stragglers",
    "tiers_spread",
    "wait_until",
    "watchdog_timing",
    "wired_as_planned",
]
