"""Judges of who holds a collective up, who gets how much, what is cabled to what, what sizes pass: each seen false."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from labs.errors import RunInvalid
from labs.telemetry.samples import HostSample
from labs.verdicts import Verdict
from labs.verdicts.cabling import Neighbor, SizeProbe, every_size_passes, wired_as_planned
from labs.verdicts.stragglers import Message, fair_shares, messages_of, stragglers
from topologies.builders import leaf_spine
from traffic.engines.rc_report import SendResult
from traffic.operations import ring_all_reduce

STOLEN = HostSample(2.0, steal=0.3, starved_s=0.001)
WELL = HostSample(2.0, steal=0.0, starved_s=0.001)


def invalid(verdict: Verdict) -> str:
    with pytest.raises(RunInvalid):
        bool(verdict)
    return str(verdict.invalid_because)


def ring(slow: Callable[[int, int, int], float] = lambda *_: 0.0, *, ranks: int = 4, steps: int = 6) -> list[Message]:
    """A ring's messages of 10 ms each; `slow(step, src, dst)` is what one takes longer."""
    return [
        Message(step, src, (src + 1) % ranks, 0.010 + slow(step, src, (src + 1) % ranks))
        for step in range(steps)
        for src in range(ranks)
    ]


def at_rank(rank: int, by: float) -> Callable[[int, int, int], float]:
    return lambda _, src, dst: by if rank in (src, dst) else 0.0


class TestStragglers:
    def test_a_ring_in_step_holds(self) -> None:
        assert stragglers(ring())
        assert stragglers(ring(at_rank(2, 0.0009)), host=WELL)

    def test_a_paused_rank_is_named_and_its_neighbours_are_not(self) -> None:
        verdict = stragglers(ring(at_rank(2, 0.004)), hosts={2: "host3"})
        assert not verdict
        assert verdict.evidence.summary == "rank 2 on host3 costs 28.6% of the time"
        assert len(verdict.evidence.rows) == 1

    def test_one_pause_of_one_step_counts_by_its_length(self) -> None:
        assert not stragglers(ring(lambda step, src, dst: 0.02 * (step == 3 and 1 in (src, dst))))
        assert stragglers(ring(lambda step, src, dst: 0.002 * (step == 3 and 1 in (src, dst))))

    def test_a_slow_link_is_no_rank(self) -> None:
        """Its two ends are slow on one side alone."""
        assert stragglers(ring(lambda _, src, dst: 0.01 * ((src, dst) == (1, 2))))

    def test_what_says_nothing(self) -> None:
        one_way = [Message(0, src, 9, 0.01) for src in range(4)]
        for messages in ([], one_way, ring(ranks=2)):
            assert "could be compared" in invalid(stragglers(messages))
        assert "starved" in invalid(stragglers(ring(at_rank(2, 0.004)), host=STOLEN))
        assert invalid(stragglers(ring(at_rank(2, 0.004)), late="paced badly")) == "paced badly"
        assert stragglers(ring(), late="paced badly")


def played(slow: Callable[[int, int, int], float]) -> list[Message]:
    """A ring all-reduce of four ranks as its engine reports it: a message begins when the one before has come."""
    graph = ring_all_reduce([f"host{number}" for number in range(1, 5)], size=4096).graph
    done: dict[int, float] = {}
    results = []
    for place, send in enumerate(graph.sends):
        begun = max((done[other] for other in send.after), default=5.0)
        done[place] = begun
        if send.src != send.dst:
            done[place] += 0.010 + slow(send.step, send.src, send.dst)
            results.append(SendResult(send, begun, done[place]))
    return list(messages_of(graph, results))


class TestMessages:
    def test_a_ring_that_was_played_in_step(self) -> None:
        messages = played(lambda *_: 0.0)
        assert len(messages) == 4 * 6
        assert {round(one.took_s, 6) for one in messages} == {0.010}
        assert stragglers(messages)

    def test_a_rank_that_stood_still_in_one_step_is_found(self) -> None:
        verdict = stragglers(played(lambda step, src, dst: 0.03 * (step == 2 and 1 in (src, dst))))
        assert not verdict
        assert verdict.evidence.numbers["worst"] == "rank 1"

    def test_messages_that_never_came_are_left_out(self) -> None:
        graph = ring_all_reduce(["host1", "host2", "host3"], size=4096).graph
        assert messages_of(graph, [SendResult(graph.sends[0], 1.0, None)]) == ()


def shares(*mbit: float, host: HostSample = WELL, because: str | None = None) -> Verdict:
    return fair_shares({f"host{at}": rate * 1e6 for at, rate in enumerate(mbit, 1)}, host=host, because=because)


class TestShares:
    def test_equal_enough(self) -> None:
        assert shares(25, 25, 25, 25)
        assert shares(23, 25, 27, 25)

    def test_one_that_does_not_slow_down_is_seen(self) -> None:
        verdict = shares(40, 20, 20, 20)
        assert not verdict
        assert verdict.evidence.numbers["most"] == "host1"

    def test_a_starved_one_among_many_is_seen(self) -> None:
        assert not shares(*[25] * 15, 17)

    def test_what_says_nothing(self) -> None:
        assert "1 flows sent" in invalid(shares(25))
        assert "4 flows sent 0" in invalid(shares(0, 0, 0, 0))
        assert "starved" in invalid(shares(40, 20, 20, 20, host=STOLEN))
        assert invalid(shares(25, 25, because="paced badly")) == "paced badly"


FABRIC = leaf_spine(2, 2, 1)
HEARD = [
    Neighbor(near.node, near.name, link.far(near.node).node, link.far(near.node).name)
    for link in FABRIC.fabric_links
    for near in link.ends
]


def swapped(one: int, other: int) -> list[Neighbor]:
    """Two cables of which the far ends were exchanged, as all four ports hear it."""
    links = FABRIC.fabric_links[one], FABRIC.fabric_links[other]
    joins = {**{link.a: links[1 - at].b for at, link in enumerate(links)}}
    joins |= {far: near for near, far in joins.items()}
    changed = [Neighbor(a.node, a.name, b.node, b.name) for a, b in joins.items()]
    return [*changed, *(one for one in HEARD if (one.node, one.port) not in {(n.node, n.port) for n in changed})]


class TestWiring:
    def test_as_planned(self) -> None:
        assert wired_as_planned(FABRIC, HEARD)
        assert wired_as_planned(FABRIC, [*HEARD, Neighbor("leaf1", "eth9", "printer", "eth0")])

    def test_swapped_cables_are_found_and_named(self) -> None:
        verdict = wired_as_planned(FABRIC, swapped(0, 1))
        assert not verdict
        assert "4 of 8 ports hear somebody else: swapped at leaf1:eth1 and leaf1:eth2" in verdict.evidence.summary
        assert "leaf1:eth1: hears spine2:eth1, planned spine1:eth1" in verdict.evidence.rows

    def test_a_cable_in_the_wrong_port_is_found(self) -> None:
        one = HEARD[0]
        assert not wired_as_planned(FABRIC, [Neighbor(one.node, one.port, "spine2", "eth9"), *HEARD[1:]])
        assert not wired_as_planned(FABRIC, [*HEARD, Neighbor(one.node, one.port, "spine2", "eth9")])

    def test_who_hears_nobody_says_nothing(self) -> None:
        assert "1 ports hear nobody" in invalid(wired_as_planned(FABRIC, HEARD[1:]))
        assert "ports hear nobody" in invalid(wired_as_planned(FABRIC, HEARD, hosts=True))
        assert "no links" in invalid(wired_as_planned(leaf_spine(1, 1, 1).without("leaf1:spine1"), []))


def sizes(answered: Iterable[tuple[int, int]], *, of: int = 3) -> Verdict:
    probes = [SizeProbe("host1", "host3", size, of, came) for size, came in answered]
    return every_size_passes(probes, largest_bytes=9000)


class TestSizes:
    def test_all_pass(self) -> None:
        assert sizes([(100, 3), (1500, 3), (9000, 3), (9001, 0)])

    def test_large_ones_alone_are_lost(self) -> None:
        verdict = sizes([(100, 3), (1500, 3), (4200, 0), (9000, 0)])
        assert not verdict
        assert verdict.evidence.rows == ("host1 to host3: 1500 B pass, 4200 B do not",)

    def test_what_says_nothing(self) -> None:
        assert "do not pass either" in invalid(sizes([(100, 0), (9000, 0)]))
        assert "are needed" in invalid(sizes([(9000, 3)]))
        assert "are needed" in invalid(sizes([(100, 3), (1500, 3)]))
        assert "some packets were lost" in invalid(sizes([(100, 3), (9000, 2)]))
        assert "nobody was asked" in invalid(sizes([]))
