"""Plans of `rnic rc`: what each rank reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from topologies.errors import SpecError
from traffic.collectives import all_to_all, ring_all_reduce, send_recv
from traffic.engines.rc_plan import AFTER_A_LINE, RcPlans, plans, source_port
from traffic.engines.rc_settings import FIRST_SPORT, Congestion, RcSettings
from traffic.graph import Graph, Send
from traffic.placement import Rank, checked_placement, one_each


def address(host: str, card: int) -> str:
    return f"10.{card}.0.{host.removeprefix('h')}"


def hosts(count: int) -> tuple[str, ...]:
    return tuple(f"h{number}" for number in range(1, count + 1))


def planned(graph: Graph, iterations: int = 1, **settings: Any) -> RcPlans:
    return plans(graph, one_each(hosts(graph.ranks)), address, RcSettings(**settings), iterations=iterations)


def words(text: str, first: str) -> list[dict[str, str]]:
    return [
        dict(word.split("=", 1) for word in line.split()[1:] if "=" in word)
        for line in text.splitlines()
        if line.split()[0] == first
    ]


def test_both_ends_of_a_connection_know_each_other() -> None:
    found = planned(send_recv(2, [1, 0], size=1000), mtu=1024, seed=3)
    (one,) = found.connections
    near, far = (words(found.texts[rank], "qp")[0] for rank in (0, 1))
    assert (near["dst"], far["dst"]) == ("10.1.0.2", "10.1.0.1")
    assert (near["dqpn"], far["dqpn"]) == (str(one.other.number), str(one.one.number))
    assert (near["psn"], near["epsn"]) == (far["epsn"], far["psn"])
    assert near["sport"] == far["sport"] == str(source_port(one.one.number, one.other.number))
    assert words(found.texts[0], "host")[0]["mtu"] == "1024"
    assert found.texts[0].splitlines()[-1] == "end"


def test_ports_are_those_linux_derives_and_the_same_for_one_seed() -> None:
    graph = all_to_all(6, size=6 * 16)
    ports = [one.one.sport for one in planned(graph, seed=1).connections]
    assert len(set(ports)) == 15
    assert all(FIRST_SPORT <= port <= 65535 for port in ports)
    assert ports == [one.one.sport for one in planned(graph, seed=1).connections]
    assert ports != [one.one.sport for one in planned(graph, seed=2).connections]
    assert {one.one.sport for one in planned(graph, fixed_port=True).connections} == {FIRST_SPORT}
    assert source_port(17, 18) == source_port(18, 17) == 0xC000 | 306


def test_messages_take_turns_or_are_split() -> None:
    graph = Graph("g", 2, tuple(Send(0, 1, 40, to_offset=40 * n) for n in range(3)), 40, 120)
    turns = planned(graph, qps=2)
    used = [task.connection for task in turns.tasks]
    assert used == [turns.connections[0], turns.connections[1], turns.connections[0]]
    split = planned(graph, qps=3, split=True)
    assert [(task.place, task.begin, task.size) for task in split.tasks][:3] == [(0, 0, 12), (0, 12, 12), (0, 24, 16)]
    tiny = planned(Graph("g", 2, (Send(0, 1, 4),), 4, 4), qps=3, split=True)
    assert [task.size for task in tiny.tasks] == [4]


def test_who_waits_for_a_split_message_waits_for_all_its_parts() -> None:
    graph = Graph("g", 2, (Send(0, 1, 40), Send(1, 0, 40, (0,))), 40, 40)
    (line,) = [one for one in planned(graph, qps=2, split=True).texts[1].splitlines() if one.startswith("send 2")]
    assert "after=0,1 " in line


def test_a_rank_with_two_cards_has_connections_on_both() -> None:
    placement = checked_placement([Rank("h1", (1, 2)), Rank("h2", (1,))])
    found = plans(send_recv(2, [1, 0], size=1000), placement, address)
    assert [one.one.address for one in found.connections] == ["10.1.0.1", "10.2.0.1"]
    assert [one.other.address for one in found.connections] == ["10.1.0.2", "10.1.0.2"]
    assert len(words(found.texts[0], "nic")) == 2


def test_no_line_is_too_long_for_rnic() -> None:
    count = 3 * AFTER_A_LINE
    sends = tuple(Send(0, 1, 4, to_offset=4 * n) for n in range(count))
    graph = Graph("g", 2, (*sends, Send(1, 0, 4, tuple(range(count)))), 4, 4 * count)
    found = planned(graph)
    assert max(map(len, found.texts[1].splitlines())) < 4000
    assert found.texts[1].count("size=0") == 3
    assert int(words(found.texts[0], "host")[0]["numbers"]) == int(words(found.texts[1], "host")[0]["numbers"]) > count


def test_every_rank_checks_its_sum_unless_nobody_asks() -> None:
    graph = ring_all_reduce(4, size=400)
    assert planned(graph).texts[2].count("check output:0 bytes=400 ranks=0-3 at=0\n") == 1
    bare = plans(graph, one_each(hosts(4)), address, check=False)
    assert "check" not in bare.texts[2]


def test_ranks_of_a_host_share_a_program_and_copy_what_they_send_each_other() -> None:
    """Ranks 0 and 2 on h1, which share its card; 1 and 3 on h2, each with its own."""
    placement = checked_placement([Rank("h1", (1,), 1e8), Rank("h2", (1,)), Rank("h1", (1,), 1e8), Rank("h2", (2,))])
    graph = ring_all_reduce(4, size=400)
    found = plans(graph, placement, address, RcSettings(local_bps=8e9))
    assert (list(found.texts), found.leaders) == ([0, 1], (0, 1, 0, 1))
    assert len(found.connections) == 4
    assert [word["src"] for word in words(found.texts[0], "nic")] == ["10.1.0.1"]
    assert [word["src"] for word in words(found.texts[1], "nic")] == ["10.1.0.2", "10.2.0.2"]
    assert words(found.texts[0], "holds") == [{"bytes": "400", "rank": "0"}, {"bytes": "400", "rank": "2"}]
    assert "buffer output 896\nbuffer" in found.texts[0]
    assert [line.split()[1] for line in found.texts[0].splitlines() if line.startswith("check")] == [
        "output:0", "output:448",
    ]  # fmt: skip
    pair = plans(send_recv(3, [2, 1, 0], size=1000), checked_placement([*placement.ranks[:3]]), address,
                 RcSettings(local_bps=8e9))  # fmt: skip
    copies = words(pair.texts[0], "copy")
    assert [(one["from"], one["to"], one["compute_ns"]) for one in copies] == [
        ("input:0", "output:1024", "1000"),
        ("input:1024", "output:0", "1000"),
    ]
    assert not pair.connections


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mtu": 1500}, "mtu 1500"),
        ({"qps": 0}, "qps 0"),
        ({"window": 0}, "window 0"),
        ({"dscp": 64}, "dscp 64"),
        ({"delay_s": 11}, "delay_s 11"),
        ({"retries": 101}, "retries 101"),
        ({"congestion": Congestion.NS3}, "without a rate"),
        ({"iterations": 1 << 32}, "iterations of"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        planned(ring_all_reduce(2, size=64), **settings)


def test_what_rnic_cannot_play_is_refused() -> None:
    graph = ring_all_reduce(2, size=64)
    with pytest.raises(SpecError, match="h1 has 17 cards"):
        plans(graph, checked_placement([Rank("h1", tuple(range(1, 18))), Rank("h2")]), address)
    with pytest.raises(SpecError, match="local_bps 0"):
        planned(graph, local_bps=0)
    with pytest.raises(SpecError, match="elements of 8 bytes"):
        planned(replace(graph, element_bytes=8))
    with pytest.raises(SpecError, match="2 places for 3 ranks"):
        plans(ring_all_reduce(3, size=96), one_each(hosts(2)), address)


def test_hosts_may_differ_in_congestion_control_and_source_ports() -> None:
    """Host h1 has neither; h2 keeps both, on the very connection that they share."""
    off = frozenset({"h1"})
    settings: dict[str, Any] = {"congestion": Congestion.SIGCOMM15, "rate_bps": 10**8, "seed": 3}
    found = planned(send_recv(2, [1, 0], size=1000), uncontrolled=off, fixed_port_hosts=off, **settings)
    usual = planned(send_recv(2, [1, 0], size=1000), **settings)
    assert [words(found.texts[rank], "host")[0]["cc"] for rank in (0, 1)] == ["none", "dcqcn-sigcomm15"]
    sports = [words(found.texts[rank], "qp")[0]["sport"] for rank in (0, 1)]
    assert sports == [str(FIRST_SPORT), words(usual.texts[1], "qp")[0]["sport"]]
