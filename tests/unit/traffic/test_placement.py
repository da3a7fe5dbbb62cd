from __future__ import annotations

import pytest

from topologies.errors import SpecError
from traffic.bounds import placed_ideal_s
from traffic.collectives import all_to_all, gather, pipeline, ring_all_reduce
from traffic.placement import Load, Placement, Rank, checked_placement, one_each
from traffic.step_model import makespan


def test_a_rank_for_every_card() -> None:
    place = one_each(["a", "b"], nics=2, rate_bps=8.0)
    assert place.hosts == ("a", "a", "b", "b")
    assert [rank.nics for rank in place.ranks] == [(1,), (2,), (1,), (2,)]
    sent = place.fabric_matrix(all_to_all(4, size=16))
    assert sent.tolist() == [[0, 0, 4, 4], [0, 0, 4, 4], [4, 4, 0, 0], [4, 4, 0, 0]]


def test_cards_are_shared_and_bundled() -> None:
    """Host a has two ranks on one card, host b one rank on two: each of b's carries half, a's carries all."""
    ranks = [Rank("a", (1,), 8.0), Rank("a", (1,), 8.0), Rank("b", (1, 2), 8.0)]
    place = checked_placement(ranks)
    graph = all_to_all(3, size=12)
    assert place.loads(graph) == {("a", 1): Load(8, 8), ("b", 1): Load(4, 4), ("b", 2): Load(4, 4)}
    assert placed_ideal_s(graph, place) == 8.0
    assert placed_ideal_s(graph, place, efficiency=0.5) == 16.0


def test_who_sends_slower_than_its_link_still_receives_at_its_rate() -> None:
    """A gather into one: at a tenth of the rate its senders bound it, not what the root takes."""
    ranks = [Rank(name, rate_bps=800.0, receive_bps=8000.0) for name in "abcd"]
    assert placed_ideal_s(gather(4, size=4000, root=0), checked_placement(ranks)) == pytest.approx(1000 * 8 / 800)
    assert placed_ideal_s(ring_all_reduce(4, size=4000), checked_placement(ranks)) == pytest.approx(6000 * 8 / 800)


def test_the_slowest_card_bounds() -> None:
    """A ring of four, one host on a tenth of the rate: its card takes ten times as long; a gather's root decides."""
    ranks = [Rank(name, rate_bps=800.0 if name == "slow" else 8000.0) for name in ("a", "b", "slow", "c")]
    place = checked_placement(ranks)
    ring = ring_all_reduce(4, size=4000)
    assert placed_ideal_s(ring, place) == pytest.approx(6000 * 8 / 800)
    assert placed_ideal_s(ring, one_each("abcd", rate_bps=8000.0)) == pytest.approx(6000 * 8 / 8000)
    assert placed_ideal_s(gather(4, size=4000, root=2), place) == pytest.approx(3000 * 8 / 800)
    assert placed_ideal_s(gather(4, size=4000, root=0), place) == pytest.approx(1000 * 8 / 800)


def test_slower_accelerators_compute_longer() -> None:
    graph = pipeline(2, microbatches=3, size=8, forward_s=1.0, backward_s=2.0)
    even = checked_placement([Rank("a"), Rank("b")]).place(graph)
    mixed = checked_placement([Rank("a"), Rank("b", compute_scale=2.0)]).place(graph)
    assert (even.hosts, even.sends) == (("a", "b"), graph.sends)
    assert makespan(mixed, lambda _: 0.0).computes_s == (9.0, 18.0)
    assert makespan(mixed, lambda _: 0.0).makespan_s > makespan(even, lambda _: 0.0).makespan_s


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([], "no ranks"),
        ([Rank("a", ())], r"rank 0 on a: cards \[\]; allowed: from 1, each once"),
        ([Rank("a", (1, 1))], "each once"),
        ([Rank("a", (0,))], "from 1"),
        ([Rank("a", rate_bps=0.0)], "rate 0.0, scale 1.0; allowed: more than 0"),
        ([Rank("a", compute_scale=0.0)], "scale 0.0; allowed: more than 0"),
        ([Rank("a", rate_bps=1.0), Rank("a", rate_bps=2.0)], "rank 1: card 1 of a at 2.0; allowed: 1.0 bit/s"),
    ],
)
def test_what_is_no_placement_is_refused(ranks: list[Rank], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        checked_placement(ranks)


def test_a_placement_of_other_ranks_or_without_rates_is_refused() -> None:
    place = Placement((Rank("a"), Rank("b")))
    with pytest.raises(SpecError, match="2 places for 3 ranks"):
        place.place(ring_all_reduce(3, size=12))
    with pytest.raises(SpecError, match="rank 0 on a has no rate"):
        placed_ideal_s(ring_all_reduce(2, size=8), place)
    with pytest.raises(SpecError, match="0 cards a host"):
        one_each(["a"], nics=0)
