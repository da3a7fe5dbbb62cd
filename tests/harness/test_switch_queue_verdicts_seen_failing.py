"""Every judge of how a switch's queues are used is seen holding, false and INVALID."""

from __future__ import annotations

from typing import Any

from labs.telemetry.asic_counters import AsicCounters, PortCounters, QueueCounters
from labs.telemetry.asicd_counters import AsicdCounters
from labs.verdicts import Verdict
from labs.verdicts.switch_queues import absorbed, in_its_queue, no_storms


def counted(*queues: QueueCounters, paused: int = 0) -> AsicCounters:
    """What was counted since nothing was, on leaf1 and at the host that it may pause."""
    host = PortCounters("host1", "eth1", "leaf1:eth1", False, 10**8, pfc_rx=(0, 0, 0, paused, 0, 0, 0, 0))
    nothing = AsicdCounters(
        fifo=False, pauses=0, reaction_count=0, reaction_sum_ns=0, reaction_max_ns=0, reactions=(0,) * 513
    )
    return AsicCounters("lab", (host,), queues, (), (), nothing)


def queue(number: int, sent: int = 0, **counts: Any) -> QueueCounters:
    return QueueCounters("leaf1", "eth2", number, sent_packets=sent, **counts)


def outcome(verdict: Verdict) -> object:
    return verdict.held if verdict.valid else "INVALID"


def test_a_class_in_its_own_queue() -> None:
    assert outcome(in_its_queue(counted(queue(6, 40), queue(0)), "leaf1", queue=6, packets=40)) is True
    wrong = in_its_queue(counted(queue(6), queue(0, 40)), "leaf1", queue=6, packets=40)
    assert outcome(wrong) is False
    assert wrong.evidence.numbers["by_queue"] == {0: 40}
    assert outcome(in_its_queue(counted(queue(6)), "leaf1", queue=6, packets=0)) == "INVALID"
    assert outcome(in_its_queue(counted(queue(6, 3)), "leaf1", queue=6, packets=40)) == "INVALID"


def test_a_burst_is_kept() -> None:
    assert outcome(absorbed(counted(queue(3, 60, watermark_bytes=240_000)))) is True
    assert outcome(absorbed(counted(queue(3, 60, watermark_bytes=240_000), paused=1))) is False
    assert outcome(absorbed(counted(queue(3, 60, watermark_bytes=240_000, tail_packets=1)))) is False
    assert outcome(absorbed(counted(queue(3, 60)))) == "INVALID"


def test_a_storm_is_seen() -> None:
    assert outcome(no_storms(counted(queue(3, 100)))) is True
    assert outcome(no_storms(counted(queue(3, 100, storms_detected=1)), priority=3)) is False
    assert outcome(no_storms(counted(queue(3, 100, stormed=True)), priority=3)) is False  # detected before
    assert outcome(no_storms(counted(queue(3, 100), queue(4, 9, storms_detected=1)), priority=3)) is True
    assert outcome(no_storms(counted(queue(0, 100)))) == "INVALID"
