"""The verdicts on collectives, each seen false, invalid and held."""

from __future__ import annotations

import pytest

from labs.telemetry.asic_counters import AsicCounters, PortCounters, QueueCounters
from labs.telemetry.asicd_counters import AsicdCounters
from labs.testing import RunInvalid, busbw_reached, carried_as_planned
from labs.verdicts import Verdict
from labs.verdicts.carried import OWN_FRAME_BYTES, OWN_FRAMES
from traffic.carried import Carried

PLANNED = {
    ("leaf1", "eth1"): Carried(100, 417_800),
    ("leaf1", "eth3"): Carried(7, 434),
    ("host1", "eth1"): Carried(9, 9),
}


def counted(sent: dict[tuple[str, str], int], queue: int = 3) -> AsicCounters:
    ports = [("leaf1", f"eth{number}", True) for number in (1, 2, 3)] + [("host1", "eth1", False)]
    return AsicCounters(
        "lab",
        tuple(PortCounters(node, port, "peer", switch, 10**8) for node, port, switch in ports),
        tuple(
            QueueCounters(node, port, at, sent_packets=1, sent_bytes=sent.get((node, port), 0) if at == queue else 0)
            for node, port, _ in ports
            for at in range(8)
        ),
        (),
        (),
        AsicdCounters(),
    )


def judged(sent: dict[tuple[str, str], int], queue: int = 3) -> Verdict:
    return carried_as_planned(PLANNED, counted(sent, queue))


AS_PLANNED = {("leaf1", "eth1"): 417_800, ("leaf1", "eth3"): 434}


def test_what_was_planned_holds_and_hosts_are_not_looked_at() -> None:
    verdict = judged(AS_PLANNED)
    assert verdict
    assert verdict.evidence.numbers["worst_error"] == 0
    assert judged({**AS_PLANNED, ("leaf1", "eth1"): 417_800 + 2088})


@pytest.mark.parametrize(
    "changed",
    [
        {("leaf1", "eth1"): 417_800 + 2090},  # half a packet more than half a percent
        {("leaf1", "eth1"): 417_800 - 4178},  # one went another way, or was lost
        {("leaf1", "eth2"): 62},  # something on a port that nothing was planned for
        {("leaf1", "eth3"): 0},  # no answers
    ],
)
def test_a_port_that_carried_something_else_is_seen(changed: dict[tuple[str, str], int]) -> None:
    verdict = judged({**AS_PLANNED, **changed})
    assert verdict.valid
    assert not verdict
    assert verdict.evidence.numbers["ports_wrong"] == 1
    ((node, port),) = changed
    assert verdict.evidence.rows[0].startswith(f"{node}:{port}: ")


def test_another_class_is_seen() -> None:
    assert not judged(AS_PLANNED, queue=1)


def test_what_hosts_send_of_themselves_is_no_difference_where_their_class_is_judged() -> None:
    strays = {("leaf1", "eth2"): OWN_FRAMES * OWN_FRAME_BYTES, ("leaf1", "eth3"): 434 + 86}
    sent = counted({**AS_PLANNED, **strays})
    assert carried_as_planned(PLANNED, sent, own_frames=OWN_FRAMES)
    assert not carried_as_planned(PLANNED, sent, own_frames=OWN_FRAMES - 1)
    assert carried_as_planned(PLANNED, sent).evidence.numbers["ports_wrong"] == 2
    less = counted({**AS_PLANNED, ("leaf1", "eth3"): 434 - 62})
    assert not carried_as_planned(PLANNED, less, own_frames=OWN_FRAMES)


def test_a_ledger_of_nothing_proves_nothing() -> None:
    with pytest.raises(RunInvalid, match="nothing was planned on a switch"):
        bool(carried_as_planned({("host1", "eth1"): Carried(1, 1)}, counted({})))


@pytest.mark.parametrize(("ratio", "held"), [(0.90, True), (1.0, True), (0.899, False), (1.001, False)])
def test_bandwidth_is_judged_from_both_sides(ratio: float, held: bool) -> None:
    assert busbw_reached(ratio).held is held


def test_times_of_a_starved_run_are_neither_good_nor_bad() -> None:
    for ratio in (0.5, 0.95):
        with pytest.raises(RunInvalid, match="the CPU had nothing left"):
            bool(busbw_reached(ratio, invalid_because="the CPU had nothing left"))


def test_what_does_not_end_is_false_however_starved() -> None:
    verdict = busbw_reached(None, error="host3 is gone", invalid_because="the CPU had nothing left")
    assert verdict.valid
    assert not verdict
    assert "host3 is gone" in verdict.evidence.summary
