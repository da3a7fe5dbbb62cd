"""The books of a small fabric in which every fate occurs; then each equation is seen failing, by one number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from labs.dataplane import abi
from labs.dataplane.counters import AsicCounters, Held, decode
from labs.dataplane.load import load_profile
from labs.dataplane.plan import plan
from labs.errors import RunInvalid
from labs.verdicts.ledger import Equation, ledger, lost_in_kernel, nothing_left, packets_conserved
from topologies.builders import leaf_spine

PLAN = plan(load_profile("roce_default"), leaf_spine(spines=2, leaves=2, hosts_per_leaf=2))
SIZE = 1000


def untouched() -> AsicCounters:
    states = (abi.PortState * (len(PLAN.ports) + 1))()
    for port in PLAN.ports:
        states[port.number].profile = port.profile
    return decode("a-lab", PLAN, {"ports": bytes(states), "profiles": b"".join(PLAN.profiles)})


def changed(counters: AsicCounters, what: str, *key: object, **by: int) -> AsicCounters:
    """The same counters, one record of which has more of something."""
    record: Any = getattr(counters, what)(*key)
    new = replace(record, **{name: getattr(record, name) + more for name, more in by.items()})
    records: dict[str, Any] = {
        f"{what}s": tuple(new if one is record else one for one in getattr(counters, f"{what}s"))
    }
    return replace(counters, **records)


def packets(**counts: int) -> dict[str, int]:
    return {
        f"{name}_{unit}": n * size for name, n in counts.items() for unit, size in (("packets", 1), ("bytes", SIZE))
    }


def played(*, times: int = 1, waiting: int = 10) -> AsicCounters:
    """100 packets from host1; 2 die on the wire, 1 in leaf1's routing; 97 meet all the fates that leaf1 has."""
    n, seen = times, untouched()
    sent = {"sent": 64 * n - waiting, "tail": 3 * n, "wred": 4 * n, "watchdog": 5 * n, "ingress": 6 * n}
    seen = changed(seen, "queue", "host1", "eth1", 3, **packets(own=100 * n, sent=100 * n))
    seen = changed(seen, "port", "leaf1", "eth3", wire_lost=2 * n)
    seen = changed(
        seen, "queue", "leaf1", "eth1", 3, **packets(**sent, emptied=7 * n, lost=8 * n, depth=waiting, marked=20 * n)
    )
    seen = changed(seen, "port", "leaf1", "eth1", lost_veth=5 * n, lost_purged=3 * n)
    # leaf1's own: five to queue 7, one of which finds it full
    seen = changed(seen, "queue", "leaf1", "eth2", 7, own_packets=5 * n, **packets(sent=4 * n, tail=n))
    headroom = SIZE if waiting else 0
    held = waiting * SIZE
    group: dict[str, int] = {"packets": 79 * n, "bytes": 79 * n * SIZE, "dropped_packets": 6 * n}
    group |= {"dropped_bytes": 6 * n * SIZE, "used_bytes": held - headroom, "headroom_bytes": headroom}
    seen = changed(seen, "group", "leaf1", "eth3", 3, **group)
    shared = max(0, held - headroom - seen.group("leaf1", "eth3", 3).reserved_bytes)
    pools = {"ingress_pool": (shared, headroom), "egress_lossless_pool": (held, 0)}
    drawn = [
        replace(pool, used_bytes=pools[pool.name][0], headroom_bytes=pools[pool.name][1])
        if pool.node == "leaf1" and pool.name in pools
        else pool
        for pool in seen.pools
    ]
    words = (Held("leaf1", "eth1", "eth3", 3, waiting, held),) if waiting else ()
    return replace(seen, pools=tuple(drawn), held=words)


def failing(before: AsicCounters | None, after: AsicCounters) -> set[str]:
    return {one.law for one in ledger(before, after) if not one.holds}


def pool_of_leaf2(**by: Any) -> Callable[[AsicCounters], AsicCounters]:
    def change(seen: AsicCounters) -> AsicCounters:
        old = seen.pool("leaf2", "ingress_pool")
        return replace(seen, pools=tuple(replace(one, **by) if one is old else one for one in seen.pools))

    return change


def in_record(what: str, *key: object, **by: int) -> Callable[[AsicCounters], AsicCounters]:
    return lambda seen: changed(seen, what, *key, **by)


def words(*held: Held) -> Callable[[AsicCounters], AsicCounters]:
    return lambda seen: replace(seen, held=held)


def test_books_that_balance() -> None:
    verdict = packets_conserved(None, played())
    assert verdict, verdict
    told = verdict.evidence.numbers
    assert told["kept_by_kernel"] == {"leaf1": 1, "leaf2": 0, "spine1": 54, "spine2": 4}
    fates = {"tail": 4, "wred": 4, "ingress": 6, "watchdog": 5, "emptied": 7, "lost": 8}
    assert told["fates"] == {"sent": 158, **fates, "waiting": 10}
    assert told["lost_in_kernel"] == {"veth": 5, "purged": 3, "qdisc": 0, "softnet": 0}
    laws = {one.law for one in ledger(None, played())}
    assert laws == {law for law, _, _ in BROKEN}, "each law is seen failing below"


def test_an_untouched_lab_balances() -> None:
    assert packets_conserved(None, untouched())
    assert packets_conserved(untouched(), untouched())


def test_books_of_an_interval() -> None:
    assert packets_conserved(played(), played(times=3))
    assert packets_conserved(played(), played(waiting=0)), "what had waited has been sent"
    assert packets_conserved(played(waiting=0), played(times=2, waiting=40)), "and more waits"


BROKEN: list[tuple[str, Callable[[AsicCounters], AsicCounters], set[str]]] = [
    ("host sends", in_record("queue", "host1", "eth1", 3, sent_packets=1), {"host sends"}),
    ("host sends", in_record("queue", "host2", "eth1", 0, own_packets=1), {"host sends"}),
    ("own", in_record("queue", "leaf1", "eth4", 0, own_packets=1), {"own", "PG admitted"}),
    ("marked", in_record("queue", "leaf1", "eth1", 3, marked_packets=35), {"marked"}),
    ("wire", in_record("port", "spine1", "eth2", wire_fcs_errors=1), {"wire"}),
    ("wire", in_record("port", "host2", "eth1", receiver_dropped=1), {"wire"}),
    ("lost", in_record("port", "leaf1", "eth1", lost_veth=1), {"lost"}),
    ("lost", in_record("port", "leaf2", "eth1", lost_purged=1), {"lost"}),
    ("PG dropped", in_record("group", "leaf1", "eth3", 3, dropped_packets=1), {"PG dropped"}),
    ("PG dropped bytes", in_record("group", "leaf1", "eth3", 3, dropped_bytes=-1), {"PG dropped bytes"}),
    ("PG admitted", in_record("group", "leaf1", "eth3", 3, packets=1), {"PG admitted"}),
    ("PG admitted", in_record("group", "leaf1", "eth3", 3, packets=-1), {"PG admitted"}),
    ("PG admitted bytes", in_record("group", "leaf1", "eth3", 3, bytes=5 * SIZE), {"PG admitted bytes"}),
    ("PG admitted bytes", in_record("queue", "leaf2", "eth1", 1, sent_bytes=1), {"PG admitted bytes"}),
    ("forwarded", in_record("port", "leaf1", "eth3", wire_blackholed=2), {"forwarded"}),
    ("forwarded", in_record("port", "leaf1", "eth3", watchdog_rx_dropped=2), {"forwarded"}),
    ("PG holds", in_record("group", "leaf1", "eth3", 3, used_bytes=1), {"PG holds"}),
    ("PG holds", words(Held("leaf1", "eth1", "eth4", 3, 10, 10 * SIZE)), {"PG holds"}),
    ("queue holds", words(), {"PG holds", "queue holds", "queue holds bytes"}),
    ("queue holds", words(Held("leaf1", "eth1", "eth3", 3, 11, 10 * SIZE)), {"queue holds"}),
    (
        "queue holds bytes",
        words(Held("leaf1", "eth1", "eth3", 3, 10, 9 * SIZE)),
        {"PG holds", "queue holds bytes"},
    ),
    ("pool", pool_of_leaf2(used_bytes=1), {"pool"}),
    ("headroom", pool_of_leaf2(headroom_bytes=1), {"headroom"}),
    ("levels", pool_of_leaf2(used_bytes=-1), {"pool", "levels"}),
]


@pytest.mark.parametrize(("law", "break_it", "fails"), BROKEN)
def test_each_equation_is_seen_failing(
    law: str, break_it: Callable[[AsicCounters], AsicCounters], fails: set[str]
) -> None:
    wrong = break_it(played())
    assert law in fails
    assert failing(None, wrong) == fails
    verdict = packets_conserved(None, wrong)
    assert not verdict
    assert any(row.startswith(f"{law}: ") and "allowed" in row for row in verdict.evidence.rows)
    assert f"{law}: " in str(verdict)


def test_a_packet_that_vanished_in_an_interval() -> None:
    """Before and after balance each by itself no more: the difference tells."""
    after = changed(played(times=2), "queue", "host1", "eth1", 3, sent_packets=-1)
    assert failing(played(), after) == {"host sends"}
    assert str(next(one for one in ledger(played(), after) if not one.holds)) == (
        "host sends: host1:eth1 queue 3: 100 - 99 = 1, allowed 0"
    )


def test_own_packets_that_wait_are_charged_to_nobody() -> None:
    own = changed(played(waiting=0), "queue", "leaf1", "eth2", 7, depth_packets=2, depth_bytes=128, own_packets=2)
    assert "queue holds" not in failing(None, own)
    through = changed(played(waiting=0), "queue", "leaf1", "eth4", 3, depth_packets=2, depth_bytes=128)
    assert "queue holds" in failing(None, through)


@pytest.mark.parametrize("who", ["before", "after"])
def test_books_read_while_packets_move_are_not_judged(who: str) -> None:
    before, after = untouched(), changed(played(), "group", "leaf1", "eth3", 3, packets=1)
    before, after = replace(before, moving=who == "before"), replace(after, moving=who == "after")
    with pytest.raises(RunInvalid, match="packets were on their way"):
        bool(packets_conserved(before, after))
    assert packets_conserved(replace(untouched(), moving=True), played()), "what balances, balances"


def test_books_of_two_runs_are_not_compared() -> None:
    anew = replace(played(), asicd=replace(played().asicd, started_ns=5))
    with pytest.raises(RunInvalid, match="started anew"):
        bool(packets_conserved(played(), anew))


def test_nothing_left() -> None:
    assert nothing_left(untouched())
    assert nothing_left(played(waiting=0)), "counters are no levels"
    verdict = nothing_left(played())
    assert not verdict
    assert verdict.evidence.rows == (
        "leaf1:eth1 queue 3 packets: 10",
        "leaf1:eth1 queue 3 bytes: 10000",
        "leaf1:eth3 PG 3 used: 9000",
        "leaf1:eth3 PG 3 headroom: 1000",
        "leaf1 ingress_pool headroom: 1000",
        "leaf1 egress_lossless_pool used: 10000",
        "leaf1:eth1 from eth3 PG 3: 10 packets, 10000 bytes",
    )
    with pytest.raises(RunInvalid, match="still on their way"):
        bool(nothing_left(replace(played(), moving=True)))


@pytest.mark.parametrize(
    "leaves",
    [
        in_record("queue", "host1", "eth1", 0, depth_packets=1),
        in_record("queue", "host1", "eth1", 0, depth_bytes=-1),
        in_record("group", "leaf1", "eth1", 0, used_bytes=1),
        in_record("group", "leaf1", "eth1", 0, headroom_bytes=1),
        pool_of_leaf2(used_bytes=1),
        pool_of_leaf2(headroom_bytes=1),
        words(Held("leaf1", "eth1", "eth2", 0, 0, 1)),
    ],
)
def test_every_place_is_looked_at(leaves: Callable[[AsicCounters], AsicCounters]) -> None:
    assert not nothing_left(leaves(untouched()))


def test_what_the_kernel_lost_is_told() -> None:
    seen = changed(untouched(), "port", "leaf1", "eth1", lost_qdisc=1)
    seen = replace(seen, asicd=replace(seen.asicd, softnet_dropped=7))
    assert lost_in_kernel(seen) == {"veth": 0, "purged": 0, "qdisc": 1, "softnet": 7}


def test_an_equation_says_what_is_allowed() -> None:
    assert str(Equation("own", "leaf1", 3, 5, most=None)) == "own: leaf1: 3 - 5 = -2, allowed 0 to any"
    assert str(Equation("PG admitted", "leaf1", 3, 1, 4, 5)) == "PG admitted: leaf1: 3 - 1 = 2, allowed 4 to 5"
