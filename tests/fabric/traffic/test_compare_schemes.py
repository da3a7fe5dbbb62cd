"""Comparing schemes on a lab: each goes its own ways while it is played, and the lab's own profile is back after it.

        spine1          spine2            host1 > host3 and back, one connection; later every host to every other.
       /  |  |  \\      /  |  |  \\
     leaf1   leaf2   leaf3   leaf4        By the kernel's hash all packets of a flow take one uplink of leaf1; the
      / \\     / \\     / \\     / \\         other carries the acknowledgements of the flow that comes back at most:
     h1 h2   h3 h4   h5 h6   h7 h8        of 66 bytes for a packet of 4160. Sprayed, either has half.

What is judged are counts and orders of packets, not times: no moment at which the workstation was slow changes them.
Half is to be within 5 standard deviations of a binomial draw (5.7e-7 of false alarms), and those of the kernel's
hash are seen outside it: that is the negative control. So is the profile, which differs while schemes are played.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from labs.cli import run
from labs.collective_bridge import ranks_on
from labs.dataplane.asic import SoftAsic
from labs.dataplane.ecmp_schemes import scheme, with_scheme
from labs.dataplane.ecmp_state import live_ecmp
from labs.lab import Lab, adopt_lab
from labs.scheme_bridge import Comparison, Entry, compared, size_of
from labs.testing import MIB
from topologies.ecmp import EcmpMode, EcmpRule
from traffic.engines.rc_settings import RcSettings, Recovery
from traffic.patterns import pattern

RDMA_CLASS, DSCP = 3, 26
SIGMAS = 5
LAB = str(Path(__file__).parent / "clos_2x4_100mbit.yaml")
pytestmark = pytest.mark.lab(LAB, profile="roce_default")

Rules = dict[tuple[str, str], EcmpRule | None]


def rules(lab: Lab, asic: SoftAsic) -> Rules:
    """What the switches' programs go by, read from their maps: by switch and port, of the RDMA class."""
    live = live_ecmp(lab.name, asic.plan)
    assert live is not None
    ports = [(node.name, port.name) for node in lab.fabric.switches for port in lab.fabric.ports(node)]
    return {(node, port): live.rule(node, port, DSCP) for node, port in ports}


def two_schemes(lab: Lab, asic: SoftAsic) -> Comparison:
    """One message from host1 to host3 and one back, by the kernel's hash and sprayed."""
    found, placement = pattern("sendrecv"), ranks_on(lab, ["host1", "host3"])
    size = size_of(found, placement, 4 * MIB)
    kinds = (("kernel", Recovery.GO_BACK_N, 3), ("spray", Recovery.SELECTIVE_REPEAT, 256))
    entries = tuple(
        Entry(
            one := scheme(name),
            "none",
            with_scheme(asic.profile, one, classes=(RDMA_CLASS,), gap_us=500),
            RcSettings(recovery=recovery, reorder=reorder, seed=7),
        )
        for name, recovery, reorder in kinds
    )
    return Comparison(found, placement, size, entries, found.graph(2, size.size), repeats=1)


def test_each_scheme_goes_its_own_ways(lab: Lab, asic: SoftAsic, note: Callable[[object], None]) -> None:
    own, before = asic.profile, rules(lab, asic)
    uplinks = [link.end("leaf1").name for link in lab.fabric.uplinks("leaf1")]
    shares: dict[str, float] = {}
    sent: dict[str, int] = {}
    seen: dict[str, Rules] = {}
    start = asic.counters()
    with closing(compared(lab, asic, two_schemes(lab, asic))) as playing:
        for entry, repeat in playing:
            taken = asic.counters() - start
            start = asic.counters()
            by_port = {one.port: one.sent_bytes for one in taken.queues if (one.node, one.queue) == ("leaf1", 3)}
            packets = {one.port: one.sent_packets for one in taken.queues if (one.node, one.queue) == ("leaf1", 3)}
            carried = [by_port[port] for port in uplinks]
            name = entry.scheme.name
            shares[name], sent[name] = min(carried) / sum(carried), sum(packets[port] for port in uplinks)
            seen[name] = rules(lab, asic)
            note(f"{name}: {carried} bytes by {uplinks}, {repeat.reorder} out of order, {repeat.retransmits} again")
            assert repeat.wrong == 0
            assert repeat.retransmits == 0
            if name == "spray":
                assert all(taken.chosen("leaf1", port, EcmpMode.SPRAY).packets for port in uplinks)
            else:
                assert not taken.ecmp
    assert asic.profile is own
    assert rules(lab, asic) == before
    assert set(seen["kernel"].values()) == {None}
    assert {rule.mode for rule in seen["spray"].values() if rule} == {EcmpMode.SPRAY}
    assert seen["spray"] != before
    within = SIGMAS * 0.5 / math.sqrt(sent["spray"] / 2)  # half of the packets are acknowledgements, of few bytes
    assert abs(shares["spray"] - 0.5) < within
    assert shares["kernel"] < 0.5 - SIGMAS * 0.5 / math.sqrt(sent["kernel"] / 2)
    assert shares["kernel"] <= 66 / (66 + 4160) + 0.01


def test_the_command_compares_and_leaves_the_lab_as_it_was(
    lab: Lab, asic: SoftAsic, tmp_path: Path, capsys: pytest.CaptureFixture[str], note: Callable[[object], None]
) -> None:
    """Whether its times count or not (exit 3), its rows say in which order packets came, and the profile is back."""
    before = (asic.profile.name, asic.profile.tables, rules(lab, asic))
    plot = tmp_path / "plot.png"
    argv = ["alltoall", "--lab", lab.name, "--lb", "kernel,spray", "--cc", "none", "--repeat", "1", "-b", "2M"]
    code = run(["traffic", "compare", *argv, "--plot", str(plot), "--format", "json"])
    words = capsys.readouterr()
    note(words.err)
    assert code in {0, 3}
    kernel, spray = json.loads(words.out)["rows"]
    assert (kernel["reorder"], kernel["retransmits"], kernel["recovery"]) == (0, 0, "gbn")
    assert spray["reorder"] > 0
    assert spray["retransmits"] == 0
    assert {one["wrong"] for row in (kernel, spray) for one in row["repeats"]} == {0}
    assert plot.read_bytes().startswith(b"\x89PNG")
    again = adopt_lab(lab.name)
    assert again.asic is not None
    assert (again.asic.profile.name, again.asic.profile.tables, rules(again, again.asic)) == before
    assert not list((lab.run_dir / "schemes").glob("*.json"))


def test_an_interrupt_half_way_leaves_the_lab_as_it_was(lab: Lab, asic: SoftAsic) -> None:
    before, wanted = rules(lab, asic), two_schemes(lab, asic)
    playing = compared(lab, asic, replace(wanted, entries=wanted.entries[1:]))
    next(playing)
    inside = rules(lab, asic)
    with pytest.raises(KeyboardInterrupt):
        playing.throw(KeyboardInterrupt())
    assert rules(lab, asic) == before
    assert inside != before
