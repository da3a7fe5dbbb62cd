"""QOS-2: a port shapes to its rate, serves strict queues first and shares the rest by DWRR weight.

    host1 ─ 100 Mbit/s ─┐
                        leaf1 ─ 100 Mbit/s ─ host3      twice as much comes as may go: packets wait in every queue
    host2 ─ 100 Mbit/s ─┘

Shares are bytes that left each queue between two readings of its counters, at both of which packets waited in it.

Bounds. Shares ± 5 %, as SONiC's own tests have it: a turn of DWRR is served whole, 9230 bytes for weight 1 and 7 × 9230
for all of 1, 2 and 4, so 100 turns or more between the readings leave 1 % to each end. Rate ± 1 %: what HTB sends at
once after an idle time (9300 bytes, or 400 us) in windows of 50 ms and more. On a wire, UDP payload of P bytes takes
P + 66: UDP 8, IPv4 20, Ethernet 14, FCS 4, preamble 8, gap 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from labs.collective_bridge import cpu_time
from labs.dataplane.asic import SoftAsic
from labs.dataplane.load import load_profile
from labs.lab import Lab
from labs.load_bridge import five_tuple, sending
from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.host_watch import HostWatch
from labs.telemetry.samples import HostSample
from labs.testing import GBIT, MBIT, SECOND, RunInvalid, wait_until
from labs.verdicts.ecn import Served, scheduling_shares
from traffic.certificate import Demands
from traffic.engines.rnic import RawFlow, read_log

pytestmark = pytest.mark.valid_of(3)  # what starves or disturbs a run is not the fabric's fault

PAYLOAD = 4096
FRAME = 9230
OVERHEAD = 66
WITHIN = 10 * SECOND
SECONDS_NS = 1_000_000_000
STEAL_MOST = 0.10  # as labs.verdicts.health has it
LASTS = 20 * SECOND  # at most: flows end with their block
TURNS = 100
DSCP_OF_QUEUE = {0: 8, 1: 0, 2: 5, 6: 48}

WEIGHTS = """
base: roce_default
SCHEDULER:
  one: {type: DWRR, weight: 1}
  two: {type: DWRR, weight: 2}
  four: {type: DWRR, weight: 4}
QUEUE:
  "*|0-2": ~
  "*|0": {scheduler: one}
  "*|1": {scheduler: two}
  "*|2": {scheduler: four}
"""


def flow(lab: Lab, src: str, sink: str, queue: int, rate_bps: int | None) -> RawFlow:
    """A flow through one queue, for as long as its block lasts."""
    way = five_tuple(lab, src, sink, sport=50_000 + queue)
    return RawFlow(
        src, sink, way, duration_s=LASTS, payload_bytes=PAYLOAD, rate_bps=rate_bps, dscp=DSCP_OF_QUEUE[queue]
    )


def served(
    lab: Lab,
    asic: SoftAsic,
    weights: Mapping[int, int | None],
    rates: Mapping[int, int],
    waiting: Sequence[int],
    turns: int = TURNS,
) -> list[Served]:
    """What leaf1 sent host3 of each queue while host1 and host2 each sent `rates` to it; `weights` None: strict.

    The clock is the port's own: from the moment packets wait in all of `waiting` until so many turns' bytes have left.
    """
    flows = [flow(lab, src, "host3", queue, rate) for src in ("host1", "host2") for queue, rate in rates.items()]
    total = FRAME * turns * sum(weight or 1 for weight in weights.values())

    def depths(now: AsicCounters) -> list[int]:
        return [now.queue("leaf1", "eth3", queue).depth_packets for queue in waiting]

    def sent(now: AsicCounters) -> int:
        return sum(now.queue("leaf1", "eth3", queue).sent_bytes for queue in weights)

    with sending(lab, flows):
        full = wait_until(
            "packets wait in every queue", asic.counters, lambda now: min(depths(now)) > 20, within=WITHIN
        )
        if not full.held:
            raise RunInvalid(f"{full}: {depths(full.last)}")
        done = wait_until(
            f"{total} bytes have left", asic.counters, lambda now: sent(now) - sent(full.last) > total, within=WITHIN
        )
        assert done.held, done
    before, after = full.last, done.last
    if min(depths(after)) == 0:
        raise RunInvalid(f"the senders did not keep packets waiting: {depths(after)}")
    grown = after - before
    return [
        Served(queue, weight, grown.queue("leaf1", "eth3", queue).sent_bytes, queue in waiting)
        for queue, weight in weights.items()
    ]


def play(asic: SoftAsic, text: str, folder: Path) -> None:
    """Turn the lab to a profile."""
    (folder / "scheduled.yaml").write_text(text)
    asic.apply(load_profile(str(folder / "scheduled.yaml")))


@pytest.mark.lab("star_3", profile="roce_default")
def test_dwrr_shares_by_weight(lab: Lab, asic: SoftAsic, tmp_path: Path) -> None:
    """Weights 1, 2, 4, each queue offered 64 of 100 Mbit/s; and by equal weights, which it is not: false."""
    play(asic, WEIGHTS, tmp_path)
    rates = dict.fromkeys((0, 1, 2), 32 * MBIT)
    seen = served(lab, asic, {0: 1, 1: 2, 2: 4}, rates, (0, 1, 2))
    assert scheduling_shares(seen, turn_bytes=FRAME, frame_bytes=FRAME)
    equal = [replace(one, weight=1) for one in seen]
    assert not scheduling_shares(equal, turn_bytes=FRAME, frame_bytes=FRAME).held


@pytest.mark.lab("star_3", profile="roce_default")
def test_equal_weights_share_equally(lab: Lab, asic: SoftAsic) -> None:
    """Control: the same load under the shipped weights, 14 each, gives equal shares."""
    asic.apply(load_profile("roce_default"))
    seen = served(lab, asic, {0: 1, 1: 1, 2: 1}, dict.fromkeys((0, 1, 2), 32 * MBIT), (0, 1, 2))
    assert scheduling_shares(seen, turn_bytes=FRAME, frame_bytes=FRAME)


@pytest.mark.lab("star_3", profile="roce_default")
def test_a_strict_queue_lets_nothing_pass(lab: Lab, asic: SoftAsic) -> None:
    """Queue 6 is strict and offered 120 of 100 Mbit/s: queue 1 sends nothing but what was on its way."""
    asic.apply(load_profile("roce_default"))
    seen = served(lab, asic, {1: 1, 6: None}, {1: 20 * MBIT, 6: 60 * MBIT}, (1, 6))
    assert scheduling_shares(seen, turn_bytes=FRAME, frame_bytes=FRAME)


@pytest.mark.lab("star_3", profile="roce_default")
def test_a_strict_queue_takes_what_it_is_offered(lab: Lab, asic: SoftAsic) -> None:
    """Queue 6, offered 60 of 100 Mbit/s, keeps nothing waiting and drops nothing; queues 0 and 1 share the rest.

    It sends 60 of 100 where the others send all that is left; those are offered 50 each and have 20. Where a starved
    workstation sends less than 100 in all, queue 6 has 60 of less: from 58 to 66 %, while a queue among equals has 33.
    """
    asic.apply(load_profile("roce_default"))
    before = asic.counters()
    with HostWatch() as watch:
        seen = served(lab, asic, {0: 1, 1: 1, 6: None}, {0: 25 * MBIT, 1: 25 * MBIT, 6: 30 * MBIT}, (0, 1))
        lost = taken(watch.sample())
    assert scheduling_shares(seen, turn_bytes=FRAME, frame_bytes=FRAME)
    sent = {one.queue: one.sent_bytes for one in seen}
    short = 1 - sent[6] / sum(sent.values()) / 0.60
    if short > 1 - 0.58 / 0.60 and lost > short:
        raise RunInvalid(f"queue 6 is {short:.1%} short: {lost:.1%} of a processor's time was taken from its senders")
    assert 0.58 < sent[6] / sum(sent.values()) < 0.66
    assert (asic.counters() - before).queue("leaf1", "eth3", 6).dropped_packets == 0


def taken(sample: HostSample) -> float:
    """The share of the time that one processor lost to the hypervisor, or for which a thread waited in vain for one."""
    return max(sample.steal, sample.steal_worst, sample.starved_s / sample.duration_s)


def goodput(lab: Lab, packets: int, log: Path) -> tuple[float, float, float, float]:
    """Payload bit/s at host3 while host1 sends as fast as its port lets it: over all, and the median of 20 windows.

    And what share of the processors' time nobody wanted meanwhile, and what share was `taken`.
    """
    one = replace(flow(lab, "host1", "host3", 1, None), packets=packets, duration_s=None)
    idle, ticks = cpu_time()
    with HostWatch() as watch, sending(lab, [one], {"host3": log}) as run:
        report = run.finish(WITHIN)
    left = [now - before for now, before in zip(cpu_time(), (idle, ticks), strict=True)]
    if report.receivers["host3"].overflow:
        raise RunInvalid("host3 could not take what came")
    assert report.results[0].received_packets == packets
    if watch.sample().steal > STEAL_MOST:
        raise RunInvalid(f"the workstation was starved: {watch.sample()}")
    times = [packet.arrived_ns for packet in read_log(log)]
    window = (packets - 1) // 20
    ends = [(times[at], times[at + window]) for at in range(0, packets - window, window)]
    rates = [window * PAYLOAD * 8 * SECONDS_NS / (last - first) for first, last in ends]
    whole = (packets - 1) * PAYLOAD * 8 * SECONDS_NS / (times[-1] - times[0])
    return whole, median(rates), left[0] / left[1], taken(watch.sample())


@pytest.mark.lab("star_3", profile="roce_default")
@pytest.mark.parametrize("rate_bps", [20 * MBIT, 100 * MBIT, GBIT], ids=["20M", "100M", "1G"])
def test_a_port_shapes_to_its_rate(lab: Lab, asic: SoftAsic, rate_bps: int, tmp_path: Path) -> None:
    """Goodput is the rate times the share of payload on the wire, ± 1 %, over 1 s of packets in 20 windows.

    The median window says what the port does; a window in which the workstation lost its CPUs for longer than HTB
    makes up for (400 us) has less. No window makes up for another one: over all it is never more than 1 % above.
    """
    asic.apply(load_profile("roce_default"), rates={link.name: rate_bps for link in lab.fabric.links})
    try:
        whole, typical, left, lost = goodput(lab, rate_bps // 8 // (PAYLOAD + OVERHEAD), tmp_path / "host3.log")
    finally:
        asic.apply(load_profile("roce_default"), rates={link.name: link.rate_bps for link in lab.fabric.links})
    efficiency = PAYLOAD / (PAYLOAD + OVERHEAD)
    short = 1 - typical / rate_bps / efficiency
    if short > 0.01 and (left < Demands().cpu_headroom or lost > short):
        raise RunInvalid(f"{short:.1%} short: the processors had {left:.1%} left, {lost:.1%} of one was taken")
    assert typical / rate_bps == pytest.approx(efficiency, rel=0.01)
    assert whole / rate_bps < 1.01 * efficiency
