"""FAULT-6: two cables in each other's port are found by LLDP beside the design, and are where they belong afterwards.

    spine1   spine2        swapped at spine1: leaf1's and leaf2's cables; at leaf1: those to both spines; below leaf1:
     |    \\ /   |          those to its hosts. Each port says who it is and hears who else does: 32 ports, both ends of
     |    / \\   |          both cables hear somebody else, no other does.
    leaf1    leaf2

A cable without carrier, or one that swallows frames, is silent: that is invalid, and no swap.
"""

from __future__ import annotations

import pytest

from labs.errors import RunInvalid, SpecError
from labs.faults import catalogue
from labs.faults.injecting import active_faults, add
from labs.kinds.frr.software import SOFTWARE
from labs.lab import Lab
from labs.node import LiveNode
from labs.pytest_plugin import Faults
from labs.telemetry.live import LiveTimeline
from labs.telemetry.records import Note
from labs.testing import Verdict, neighbors, wired_as_planned

SWAPS = [
    ("leaf1:spine1", "leaf2:spine1", {"spine1:eth1", "spine1:eth2", "leaf1:eth1", "leaf2:eth1"}),
    ("leaf1:spine1", "leaf1:spine2", {"leaf1:eth1", "leaf1:eth2", "spine1:eth1", "spine2:eth1"}),
    ("leaf1:host1", "leaf1:host2", {"leaf1:eth3", "leaf1:eth4", "host1:eth1", "host2:eth1"}),
]


def cabled(lab: Lab) -> Verdict:
    """What LLDP says of every cable, to hosts as well."""
    return wired_as_planned(lab.fabric, neighbors(lab), hosts=True)


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize(("one", "other", "wrong"), SWAPS)
def test_it_bites_and_is_gone(lab: Lab, faults: Faults, one: str, other: str, wrong: set[str]) -> None:
    """During the fault the verdict is false and names the ports; after it, it holds, and the lab is as it was."""
    assert cabled(lab)
    with faults.swapped_cables(one, other=other):
        verdict = cabled(lab)
        assert not verdict
        assert {row.partition(": hears")[0] for row in verdict.evidence.rows} == wrong, verdict
        assert verdict.evidence.summary.startswith("4 of 32 ports hear somebody else: swapped at"), verdict
    assert cabled(lab)


@pytest.mark.lab("clos_frr")
def test_silence_is_no_swap(lab: Lab, faults: Faults) -> None:
    """Control: a cable without carrier, and one that swallows what a spine says, make the verdict invalid."""
    with faults.link_down("leaf1:spine1"), pytest.raises(RunInvalid, match="2 ports hear nobody, as leaf1:eth1"):
        bool(cabled(lab))
    with (
        faults.blackhole("leaf1:spine1", sender="spine1"),
        pytest.raises(RunInvalid, match="1 ports hear nobody, as leaf1:eth1"),
    ):
        bool(cabled(lab))
    assert cabled(lab)


@pytest.mark.lab("clos_frr")
def test_bgp_that_has_lost_its_next_hops_is_started_anew(
    lab: Lab, faults: Faults, timeline: LiveTimeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FRR 8.4 seldom does so; here it is made to seem so. What nobody saved comes back, too."""
    node, line = lab.node("spine1"), "bgp cluster-id 192.0.2.9"
    words = ("vtysh", "-c", "configure terminal", "-c", f"router bgp {node.node.asn}", "-c")
    first = bgpd(node)
    monkeypatch.setattr(SOFTWARE, "forgetful", lambda one: ("192.0.2.1",) if bgpd(one) == first else ())
    node.run(*words, line)  # that nobody saved
    with faults.swapped_cables("leaf1:spine1", other="leaf2:spine1"):
        anew = bgpd(node)
        assert anew != first
    assert bgpd(node) == anew
    assert line in node.run("vtysh", "-c", "show running-config").stdout
    node.run(*words, f"no {line}")
    assert any("spine1: bgpd was started anew: it had lost 192.0.2.1" in one.text for one in timeline.read().of(Note))


def bgpd(node: LiveNode) -> str:
    """The pid of a switch's bgpd."""
    return node.run("cat", "/run/frr/bgpd.pid").stdout.strip()


@pytest.mark.lab("clos_frr")
def test_what_is_taken_is_refused(lab: Lab, faults: Faults) -> None:
    """A port whose cable is elsewhere is not faulted otherwise, nor swapped again; nothing is changed then."""
    with faults.swapped_cables("leaf1:spine1", other="leaf2:spine1"):
        for name, target, params in (
            ("swapped-cables", "leaf2:spine1", {"other": "leaf3:spine1"}),
            ("link-down", "leaf1:spine1", {}),
            ("node-crash", "spine1", {}),
        ):
            with pytest.raises(SpecError, match="already faulted by"):
                add(lab, catalogue.fault(name), target, params)
        assert len(active_faults(lab.name)) == 1
