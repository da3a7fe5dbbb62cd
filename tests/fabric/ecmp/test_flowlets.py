"""HASH-4: sprayed packets overtake each other; flowlets do not, where their gap is longer than the ways differ (F12).

    host1 ─ leaf1 ═ spine1/spine2 ═ leaf2 ─ host3          spine1's links at 200 Mbit/s, all others at 1 Gbit/s

20 flows send bursts of 16 frames of 4138 bytes, one burst each every 44 ms, 2.2 ms apart. A shaper lets some 10 kB pass
at once; each further frame takes 4162 · 8 / 200 Mbit/s = 0.17 ms a hop by spine1. A whole burst there takes 2.7 ms, and
half of all bursts are there, 0.6 of what its links carry: a burst waits for one or two others, and then for the second
hop. Below 10 ms, so a gap of 16 ms is above what the ways differ, and below the 43 ms of silence between a flow's
bursts. Sprayed, eight of a burst go by spine1; the last five of them come 0.1 to 0.8 ms late.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labs import lease
from labs.dataplane.asic import SoftAsic
from labs.lab import Lab
from labs.load_bridge import five_tuple, send
from labs.telemetry.host_watch import HostWatch
from labs.testing import MBIT, MILLISECOND, Verdict, in_order
from traffic.engines.rnic import RawFlow

pytestmark = [pytest.mark.lab("clos_2x4", profile="roce_default"), pytest.mark.valid_of(3)]

FLOWS, BURST, EVERY_S, APART_S = 20, 16, 44 * MILLISECOND, 2.2 * MILLISECOND
GAP_S = 16 * MILLISECOND
PACKETS = 1600  # of each flow: 32 000 in all, 30 000 are needed to say 1e-4
PAYLOAD, WIRE_BYTES = 4096, 4096 + 66
MODE = """
base: roce_default
RAILBED_ECMP:
  "*": {{mode: {mode}}}
"""

Play = Callable[..., object]
Note = Callable[[object], None]


def slow_spine(lab: Lab) -> dict[str, int]:
    return {link.name: 200 * MBIT for link in lab.fabric.links_of("spine1")}


def bursts(lab: Lab) -> list[RawFlow]:
    return [
        RawFlow(
            "host1",
            "host3",
            five_tuple(lab, "host1", "host3", sport=50_000 + number),
            packets=PACKETS,
            payload_bytes=PAYLOAD,
            rate_bps=round(BURST * WIRE_BYTES * 8 / EVERY_S),
            burst=BURST,
            dscp=3,
            ecn=2,
            start_s=number * APART_S,
        )
        for number in range(FLOWS)
    ]


def judged(lab: Lab) -> Verdict:
    with lease.measuring(lab.name, "bursts"), HostWatch() as watch:
        report = send(lab, bursts(lab), within=20.0)
        return in_order(report, gap_s=GAP_S, host=watch.sample())


def test_flowlets_keep_their_order(lab: Lab, asic: SoftAsic, play: Play, note: Note) -> None:
    """Fewer than 1e-4 of 32 000 packets come after a later one, and both ways carry half of the flowlets."""
    play(MODE.format(mode=f"flowlet, gap_us: {GAP_S * 1e6:.0f}"), rates=slow_spine(lab))
    start = asic.counters()
    verdict = judged(lab)
    note(verdict)
    began = {row.port: row.flowlets for row in (asic.counters() - start).ecmp if row.node == "leaf1"}
    note(f"flowlets: {began}")
    assert verdict
    # 2000 bursts, each a flowlet of its own, half of them by either way: 1000 ± 22.
    assert min(began["eth1"], began["eth2"]) > FLOWS * PACKETS / BURST / 2 - 110


@pytest.mark.parametrize("by", ["random", "round_robin"])
def test_sprayed_packets_overtake_each_other(lab: Lab, play: Play, note: Note, by: str) -> None:
    """Control: the same bursts packet by packet over both ways; some of sixteen are late."""
    play(MODE.format(mode=f"spray, by: {by}"), rates=slow_spine(lab))
    verdict = judged(lab)
    note(verdict)
    share = verdict.evidence.numbers["share"]
    # Whether the workstation was starved or not: that may move a burst, not one packet in a hundred.
    assert not verdict.held
    assert isinstance(share, float)
    assert share > 0.01
