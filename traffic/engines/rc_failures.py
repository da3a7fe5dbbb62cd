"""What kept a graph on queue pairs from its end, as one message that names the flow and its hosts. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
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
        if one.begun_s is not None
        and one.done_s is None
        and {plans.leaders[one.send.src], plans.leaders[one.send.dst]} & set(waiting)
    ]
    ranks = as_one([where(plans, rank) for rank in sorted(waiting)], "ranks", between=", ")
    flows = as_one(list(dict.fromkeys(under_way)), "flows", between=", ")
    return f"{ranks}: not done within {timeout:g} s" + (f"; under way: {flows}" if flows else "")


def where(plans: RcPlans, rank: int) -> str:
    """A host, by its first rank, and its ranks."""
    ranks = [str(number) for number, leader in enumerate(plans.leaders) if leader == rank]
    return f"{plans.host(rank)} (rank{'s' if ranks[1:] else ''} {', '.join(ranks)})"


def _cut_off(plans: RcPlans, rank: int) -> str:
    flows = [flow_name(one, end) for one, end in _ends(plans, rank)]
    return f"; its flows: {as_one(flows, 'flows', between=', ')}" if flows else ""


def _named(plans: RcPlans, rank: int, because: str) -> str | None:
    """What rnic says of a queue pair, with its flow and its hosts; None where it names none."""
    said = QP.search(because)
    for one, end in _ends(plans, rank) if said else ():
        if said and one.end(end).number == int(said[1]):
            return because.replace(said[0], flow_name(one, end))
    return None


def _ends(plans: RcPlans, rank: int) -> Iterator[tuple[Connection, int]]:
    """A host's connections, each with the rank that it ends at there."""
    for one in plans.connections:
        yield from ((one, end.rank) for end in (one.one, one.other) if plans.leaders[end.rank] == rank)
