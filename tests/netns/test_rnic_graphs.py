"""Graphs over `rnic rc` between namespaces on one cable: real frames, real data, real failures. As root."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from labs.channels.namespaces import BackgroundProcess, in_network
from topologies.units import MBIT, MIB
from traffic.collectives import all_to_all, ring_all_reduce, send_recv
from traffic.engines.rc_plan import plans
from traffic.engines.rc_report import RcReport
from traffic.engines.rc_settings import Congestion, RcSettings, Recovery
from traffic.engines.rnic_rc import RcRun, start_rc
from traffic.errors import TrafficError
from traffic.graph import Graph, Send
from traffic.placement import Rank, checked_placement, one_each

HOSTS = 3


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=10)


def netns(host: str) -> Path:
    return Path(f"/run/netns/graphs{os.getpid()}-{host}")


def address(host: str, card: int) -> str:
    assert card == 1
    return f"10.77.0.{host.removeprefix('h')}"


@pytest.fixture(scope="module")
def hosts(bridged: Callable[[str, Mapping[str, str]], None]) -> tuple[str, ...]:
    names = tuple(f"h{number}" for number in range(1, HOSTS + 1))
    bridged(netns("").name, {name: f"{address(name, 1)}/24" for name in names})
    return names


def start(node: str, argv: tuple[str, ...]) -> BackgroundProcess:
    return in_network(node, netns(node), argv)


def started(graph: Graph, hosts: tuple[str, ...], iterations: int = 1, **settings: object) -> RcRun:
    placement = one_each(hosts[: graph.ranks], rate_bps=200 * MBIT)
    return start_rc(plans(graph, placement, address, RcSettings(**settings), iterations=iterations), start)  # type: ignore[arg-type]


def played(graph: Graph, hosts: tuple[str, ...], iterations: int = 1, **settings: object) -> RcReport:
    return started(graph, hosts, iterations, **settings).finish(timeout=30)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("recovery", list(Recovery))
def test_a_ring_sums_everybodys_numbers(hosts: tuple[str, ...], in_place: bool, recovery: Recovery) -> None:
    report = played(ring_all_reduce(3, size=300_000, in_place=in_place), hosts, iterations=3, recovery=recovery)
    assert (report.error, report.wrong, report.retransmits) == (None, 0, 0)
    assert (report.took_s() or 0) > 0
    assert (report.took_s(warmup=2) or 0) > 0
    assert all(one.took_s and one.took_s > 0 for one in report.sends)
    carried = sum(one.sent.sent_bytes for one in report.connections if one.sent)
    assert carried == 3 * int(report.plans.graph.matrix.sum())


def test_parts_on_several_connections_and_by_turns(hosts: tuple[str, ...]) -> None:
    for split in (False, True):
        report = played(
            all_to_all(3, size=300_000), hosts, iterations=2, qps=4, split=split, congestion=Congestion.MELLANOX
        )
        assert (report.error, report.wrong) == (None, 0)
        assert len({one.connection.one.sport for one in report.connections}) > 4


def test_two_processes_on_one_card_name_the_port(hosts: tuple[str, ...]) -> None:
    graph = send_recv(2, size=64 * MIB)
    run = started(graph, hosts)
    try:
        with pytest.raises(
            TrafficError,
            match=r"h1 \(rank 0\): rnic does not start: .*port 4791: Address already in use"
            r".*; its flows: h1 to h2 \(rank 0 to 1, 10.77.0.1:",
        ):
            started(graph, hosts)
        assert all(process.running for process in run.processes.values())
    finally:
        report = run.stop()
    assert not any(process.running for process in run.processes.values())
    assert report.wrong is None


def test_a_host_that_falls_silent_is_named_and_what_others_did_is_kept(hosts: tuple[str, ...]) -> None:
    """Nobody acknowledges what goes to h3; ranks 0 and 1 still exchange theirs."""
    run = started(all_to_all(3, size=300_000, in_flight=None), hosts, timeout_s=0.05, retries=2)
    ip("-n", netns("h3").name, "link", "set", "eth1", "down")
    try:
        report = run.finish(timeout=5)
    finally:
        ip("-n", netns("h3").name, "link", "set", "eth1", "up")
    assert report.error is not None
    assert "to h3 (rank " in report.error
    assert "no acknowledgement after all retries" in report.error
    assert report.wrong is None
    assert report.took_s() is None
    done = {(one.send.src, one.send.dst) for one in report.sends if one.done_s}
    assert done == {(0, 1), (1, 0)}
    assert not any(process.running for process in run.processes.values())


def test_a_process_that_is_ended_is_named(hosts: tuple[str, ...]) -> None:
    run = started(ring_all_reduce(3, size=64 * MIB), hosts)
    run.processes[2].stop()
    report = run.finish(timeout=5)
    assert "h3 (rank 2): ended early (signal)" in str(report.error)
    assert "its flows: h3 to h" in str(report.error)
    assert not any(process.running for process in run.processes.values())


def test_a_process_that_is_killed_is_named_once_with_its_flows(hosts: tuple[str, ...]) -> None:
    """KILL leaves no report; what ranks 0 and 1 have exchanged is kept."""
    graph = Graph("pairs", 3, (Send(0, 1, 1000), Send(1, 2, 256 * MIB, to_offset=1000)), 256 * MIB, 257 * MIB)
    run = started(graph, hosts)
    first, killed = run.processes[0], run.processes[2]
    first.wait_ready("done\n", 10)
    assert isinstance(killed, BackgroundProcess)
    killed.signal(signal.SIGKILL)
    report = run.finish(timeout=10)
    assert len(report.errors) == 1
    flow = r"h3 to h2 \(rank 2 to 1, 10.77.0.3:\d+ > 10.77.0.2, qp \d+\)"
    assert re.fullmatch(rf"h3 \(rank 2\): rnic was ended by SIGKILL; its flows: {flow}", report.errors[0])
    assert [one.done_s is not None for one in report.sends] == [True, False]
    assert not any(process.running for process in run.processes.values())


@pytest.mark.parametrize("in_place", [False, True])
def test_ranks_of_one_host_share_its_card_and_memory(hosts: tuple[str, ...], in_place: bool) -> None:
    """Five ranks on three hosts, two of them on one card: sums are right, and what stays within costs no packet."""
    places = [Rank(hosts[0]), Rank(hosts[1]), Rank(hosts[0]), Rank(hosts[2]), Rank(hosts[1])]
    placement = checked_placement([replace(one, rate_bps=200 * MBIT) for one in places])
    graph = all_to_all(5, size=5 * 60_000, in_flight=None, in_place=in_place)
    ring = ring_all_reduce(5, size=300_000, in_place=in_place)
    for one in (graph, ring):
        found = plans(one, placement, address, RcSettings(local_bps=1e9), iterations=3)
        report = start_rc(found, start).finish(timeout=30)
        assert (report.error, report.wrong, sorted(report.ranks)) == (None, 0, [0, 1, 3])
        carried = sum(way.sent.sent_bytes for way in report.connections if way.sent)
        assert carried == 3 * int(placement.fabric_matrix(found.graph).sum())
    found = plans(ring, placement, address)
    texts = {**found.texts, 0: found.texts[0].replace("holds 0 bytes=300000 rank=0", "holds 0 bytes=300000 rank=9")}
    assert "rank=9" in texts[0]
    spoilt = start_rc(replace(found, texts=texts), start).finish(timeout=30)
    assert (spoilt.wrong or 0) > 0


def test_what_stays_within_a_host_takes_the_time_of_its_rate(hosts: tuple[str, ...]) -> None:
    """1 MB at 80 Mbit/s is 100 ms, and nothing where no rate is given."""
    placement = checked_placement([Rank(hosts[0]), Rank(hosts[0])])
    took = []
    for local_bps in (8e7, None):
        found = plans(send_recv(2, [1, 0], size=1_000_000), placement, address, RcSettings(local_bps=local_bps))
        report = start_rc(found, start).finish(timeout=10)
        assert (report.error, report.wrong) == (None, 0)
        took.append(report.took_s() or 0.0)
    assert took[0] >= 0.1 > took[1]


def test_a_peer_that_is_not_there_is_named(hosts: tuple[str, ...]) -> None:
    placement = one_each((*hosts[:1], "h9"))

    def missing(node: str, argv: tuple[str, ...]) -> BackgroundProcess:
        return start(hosts[1] if node == "h9" else node, argv)

    with pytest.raises(TrafficError, match=r"h9 \(rank 1\): rnic does not start: .*no interface has its src|to h9"):
        start_rc(plans(send_recv(2, size=1000), placement, address), missing)


def test_a_rank_that_expects_another_sum_counts_what_is_wrong(hosts: tuple[str, ...]) -> None:
    found = plans(ring_all_reduce(3, size=30_000), one_each(hosts), address)
    texts = {**found.texts, 1: found.texts[1].replace("ranks=0-2", "ranks=0-1")}
    report = start_rc(replace(found, texts=texts), start).finish(timeout=10)
    assert report.ranks[0].wrong == report.ranks[2].wrong == 0
    # Every element is a draw from 0 to 255: one in 256 of rank 2's is 0, and adds nothing.
    assert 0.98 * 7500 < (report.wrong or 0) <= 7500


def test_ranks_say_how_far_they_are_and_agree_on_their_last_iteration(hosts: tuple[str, ...]) -> None:
    """Data is put in anew where the last iteration begins, so what it ends with is checked."""
    run = started(ring_all_reduce(3, size=30_000, in_place=True), hosts, iterations=100_000)
    first = run.progress()
    assert [(one.host, one.of) for one in first] == [(host, 100_000) for host in hosts]
    last = run.end_soon()
    assert last > max(one.iterations for one in first)
    report = run.finish(timeout=30)
    assert (report.error, report.wrong, report.done) == (None, 0, last)
    # Four messages an iteration, 10 000 bytes each.
    assert all(one.sent.sent_bytes >= last * 40_000 for one in report.connections if one.sent and one.sent.sent_bytes)
    assert run.progress() == ()


def test_a_last_iteration_that_is_not_done_may_be_put_off(hosts: tuple[str, ...]) -> None:
    """As where some rank was too far for the first one: data is that of the last one played, on every rank."""
    run = started(ring_all_reduce(3, size=30_000, in_place=True), hosts, iterations=100_000)
    first = run.end_soon()
    for process in run.processes.values():
        process.write(f"last {first + 50}\n")
    run.plans = replace(run.plans, iterations=first + 50)
    report = run.finish(timeout=30)
    assert (report.error, report.wrong, report.done) == (None, 0, first + 50)


def test_who_is_ended_at_once_has_checked_nothing(hosts: tuple[str, ...]) -> None:
    run = started(ring_all_reduce(3, size=300_000), hosts, iterations=100_000)
    report = run.stop()
    assert (report.wrong, report.took_s()) == (None, None)
    assert not any(process.running for process in run.processes.values())
