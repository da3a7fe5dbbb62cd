from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labs.cleared import clear, cleared
from labs.dataplane.counters import AsicCounters, EcmpCounters, Held, decode
from labs.dataplane.load import load_profile
from labs.dataplane.plan import plan
from topologies.builders import leaf_spine
from topologies.ecmp import EcmpMode

PLAN = plan(load_profile("roce_default"), leaf_spine(spines=1, leaves=2, hosts_per_leaf=1))


def counted() -> AsicCounters:
    nothing = decode("a-lab", PLAN, {})
    asicd = replace(nothing.asicd, pid=5, started_ns=77, fifo=True, reactions=tuple(range(513)))
    ports = tuple(replace(port, pfc_rx=tuple(range(8)), lost_veth=n) for n, port in enumerate(nothing.ports))
    queues = tuple(
        replace(queue, sent_packets=n, depth_bytes=-n, stormed=True) for n, queue in enumerate(nothing.queues)
    )
    ecmp = (EcmpCounters("leaf1", "eth1", EcmpMode.SPRAY, 1, 2, 3, 4, 5),)
    return replace(nothing, ecmp=ecmp, engine=True, asicd=asicd, ports=ports, queues=queues, moving=True)


def test_what_was_cleared_is_kept_to_the_last_number(tmp_path: Path) -> None:
    at = clear(tmp_path, "queue", counted()).at
    found = cleared(tmp_path, "queue")
    assert found
    assert (found.at, found.counters) == (at, counted())
    assert not [queue for queue in (counted() - found.counters).queues if queue.sent_packets]


def test_a_lab_whose_hash_engine_was_never_on(tmp_path: Path) -> None:
    clear(tmp_path, "ecmp", replace(counted(), ecmp=(), engine=False))
    found = cleared(tmp_path, "ecmp")
    assert found
    assert not found.counters.engine
    assert (counted() - found.counters).ecmp == counted().ecmp
    clear(tmp_path, "ecmp", counted())
    kept = cleared(tmp_path, "ecmp")
    assert kept
    assert type(kept.counters.ecmp[0].mode) is EcmpMode


def test_charged_words_are_no_counters(tmp_path: Path) -> None:
    clear(tmp_path, "port", replace(counted(), held=(Held("leaf1", "eth1", "eth2", 3, 1, 60),)))
    found = cleared(tmp_path, "port")
    assert found
    assert found.counters.held == ()


def test_what_was_never_cleared(tmp_path: Path) -> None:
    clear(tmp_path, "queue", counted())
    assert cleared(tmp_path, "pfc") is None
