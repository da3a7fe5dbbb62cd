"""What kept a graph on queue pairs from its end, as one message that names the flow and its hosts. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from signal import Signals

from traffic.engines.base import CommandResult
from traffic.engines.rc_plan import Connection, RcPlans
from traffic.engines.rc_report import RcRank, SendResult, as_one

SAID = 400  # characters of what a program said
QP = re.compile(r"\bqp (\d+)\b")


def flow_name(connection: Connection, src: int) -> str:
    """A connection from one of its ends, for people: hosts, addresses, numbers."""
    near, far = connection.end(src), connection.far(src)
    addresses = f"{near.address}:{near.sport} > {far.address}"
    return f"{near.host} to {far.host} (rank {src} to {far.rank}, {addresses}, qp {near.number})"


def not_started(plans: RcPlans, rank: int, because: str) -> str:
    """A rank whose program does not come up, with the flows that cannot be without it."""
    named = (_named(plans, rank, because) or because)[-SAID:]
    return f"{where(plans, rank)}: rnic does not start: {named}{_cut_off(plans, rank)}"


def gone(plans: RcPlans, rank: int, ended: CommandResult) -> str:
    """A rank whose program ended without a report: killed, or a fault of its own."""
    how = f"with {ended.status}"
    with suppress(ValueError):
        how = f"by {Signals(-ended.status).name}" if ended.status < 0 else how
    said = f": {text[-SAID:]}" if (text := ended.stderr.strip()) else ""
    return f"{where(plans, rank)}: rnic was ended {how}{said}{_cut_off(plans, rank)}"


def failed(plans: RcPlans, rank: int, one: RcRank) -> str | None:
    """What kept a rank from its end, but for us; None where nothing did."""
    if one.failure:
        return _named(plans, rank, one.failure) or f"{where(plans, rank)}: {one.failure}"
    if one.ended in {"done", "stop"}:
        return None
    early = f"ended early ({one.ended}), {one.left} messages before its end"
    return f"{where(plans, rank)}: {early}{_cut_off(plans, rank)}"


def overdue(plans: RcPlans, waiting: Collection[int], sends: Sequence[SendResult], timeout: float) -> str:
    """Ranks that were not done in time, with the messages between hosts that were under way then."""
    under_way = [
        f"{plans.host(one.send.src)} to {plans.host(one.send.dst)} (rank {one.send.src} to {one.send.dst})"
        for one in sends
        if one.begun_s is not None and one.done_s is None and {one.send.src, one.send.dst} & set(waiting)
    ]
    ranks = as_one([where(plans, rank) for rank in sorted(waiting)], "ranks", between=", ")
    flows = as_one(list(dict.fromkeys(under_way)), "flows", between=", ")
    return f"{ranks}: not done within {timeout:g} s" + (f"; under way: {flows}" if flows else "")


def where(plans: RcPlans, rank: int) -> str:
    """A rank and its host."""
    return f"{plans.host(rank)} (rank {rank})"


def _cut_off(plans: RcPlans, rank: int) -> str:
    flows = [flow_name(one, rank) for one in plans.connections if rank in {one.one.rank, one.other.rank}]
    return f"; its flows: {as_one(flows, 'flows', between=', ')}" if flows else ""


def _named(plans: RcPlans, rank: int, because: str) -> str | None:
    """What rnic says of a queue pair, with its flow and its hosts; None where it names none."""
    said = QP.search(because)
    for one in plans.connections if said else ():
        if said and rank in {one.one.rank, one.other.rank} and one.end(rank).number == int(said[1]):
            return because.replace(said[0], flow_name(one, rank))
    return None
