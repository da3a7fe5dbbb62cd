"""What became of crafted bursts: every way of not being complete is seen, and named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from topologies.errors import SpecError
from traffic.engines.crafted_bursts import Ecn
from traffic.engines.crafted_counts import ClassCount, CraftedResult, PacketCount
from traffic.flows import FiveTuple, Transport

FLOW = FiveTuple("10.0.0.1", "10.0.0.2", Transport.UDP, 50_000, 4791, 3, 7)


def count(name: str = "ECT(0)", *, ecn: Ecn = Ecn.ECT_0, came: int = 10, sent: int = 10, **how: object) -> ClassCount:
    arrived = {(3, ecn): came}
    made = ClassCount("ECN probe", name, "h1", "h2", (PacketCount(name, 10, sent, came),), arrived, FLOW, ecn)
    return replace(made, **how)  # type: ignore[arg-type]


def test_all_that_left_came() -> None:
    result = CraftedResult((count(), count("CE", ecn=Ecn.CE)))
    assert result.complete
    assert (result.sent, result.received, result.marked, result.lost, result.error) == (20, 20, 0, (), None)
    assert result.received_by == {FLOW: 20}
    assert (result.flows, result.sources) == ((FLOW,), ("h1",))
    assert result.of("CE").codepoints == {Ecn.CE: 10}


@pytest.mark.parametrize(
    ("spoilt", "lost"),
    [
        (count(came=9), 1),
        (count(sent=9, came=9), 0),
        (count(came=11), 0),
    ],
    ids=["one lost", "one not sent", "one came twice"],
)
def test_what_is_not_complete_is_seen(spoilt: ClassCount, lost: int) -> None:
    result = CraftedResult((count("CE"), spoilt))
    assert not result.complete
    assert len(result.lost) == lost


def test_lost_packets_are_named() -> None:
    packets = tuple(PacketCount(f"psn {number}", 1, 1, int(number % 2)) for number in range(20))
    write = ClassCount("write", "WRITE Middle", "h1", "h2", packets, {}, FLOW, Ecn.ECT_0)
    probed, written = CraftedResult((count(came=7), write)).lost
    assert probed == "h1 > h2: ECN probe, ECT(0): 3 of 10 packets did not come"
    named = "psn 0, psn 2, psn 4, psn 6, psn 8, psn 10, psn 12, psn 14 and 2 more"
    assert written == f"h1 > h2: write, WRITE Middle: 10 of 20 packets did not come: {named}"


def test_a_mark_is_one_that_was_not_sent() -> None:
    some = count(arrived={(3, Ecn.ECT_0): 6, (3, Ecn.CE): 3, (0, Ecn.NOT_ECT): 1})
    assert some.marked == 3
    assert some.codepoints == {Ecn.NOT_ECT: 1, Ecn.ECT_0: 6, Ecn.CE: 3}
    assert some.dscps == {0: 1, 3: 9}
    assert CraftedResult((some, count("CE", ecn=Ecn.CE))).marked == 3


def test_what_kept_packets_from_leaving_is_said_once_with_its_host() -> None:
    broken = count(sent=0, came=0, error="5000 bytes: Message too long")
    result = CraftedResult((broken, broken), errors=("h3: not all was sent within 1 s",))
    assert result.error == "h3: not all was sent within 1 s; h1: 5000 bytes: Message too long"
    assert not result.complete


def test_a_receiver_without_room_cannot_vouch() -> None:
    assert CraftedResult((count(),)).invalid_because is None
    assert CraftedResult((count(),), overflow=3).invalid_because == "3 packets found a receiver's socket full"


def test_a_class_that_is_not_there() -> None:
    with pytest.raises(SpecError, match=r"no class 'ECT'; allowed: ECT\(0\)"):
        CraftedResult((count(),)).of("ECT")
