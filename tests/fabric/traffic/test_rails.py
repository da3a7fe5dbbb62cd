"""All-reduce on rails: four hosts of two cards, every card on its rail; between hosts bytes stay on their rail.

      pod1-leaf1  pod1-leaf2   pod2-leaf1  pod2-leaf2     leaf r of a group is its rail r
         eth1        eth2         eth1        eth2        ethN is network card N
           host1, host2             host3, host4          a rank on every card: 8

Functional: #wrong 0, and bytes between hosts only between cards of one number. The negative control is a ring in the
order of ranks, which leaves every host by its second card and comes to the next one's first.
"""

from __future__ import annotations

import pytest

from labs.collective_bridge import Played, play, ranks_on
from labs.lab import Lab
from labs.testing import KIB
from topologies.units import MBIT
from traffic.collectives import hierarchical_all_reduce
from traffic.patterns import pattern

pytestmark = pytest.mark.lab("rails_2x4x4", profile="roce_default")

CARDS = 2
RANKS = 8
SIZE = RANKS * 32 * KIB
RATE = 100 * MBIT  # which eight ranks in software keep up


def crossings(played: Played) -> set[tuple[int, int]]:
    """The cards, sending and receiving, of connections that carried something between hosts."""
    ends = [(one.connection.end(one.src), one.connection.far(one.src)) for one in played.rc.connections if one.bytes]
    return {(near.card, far.card) for near, far in ends}


def test_rail_aligned_all_reduce_stays_on_its_rails(lab: Lab) -> None:
    graph = hierarchical_all_reduce(RANKS, per_host=CARDS, size=SIZE)
    played = play(lab, graph, ranks_on(lab, rate_bps=RATE))
    assert (played.report.error, played.report.wrong) == (None, 0)
    assert crossings(played) == {(card, card) for card in range(1, CARDS + 1)}


def test_a_ring_in_the_order_of_ranks_does_not(lab: Lab) -> None:
    """Negative control."""
    played = play(lab, pattern("all_reduce").graph(RANKS, SIZE), ranks_on(lab, rate_bps=RATE))
    assert (played.report.error, played.report.wrong) == (None, 0)
    assert crossings(played) == {(CARDS, 1)}
