"""FAULT-2: every fault of cables and wires bites, and is gone when it is taken back.

           spine1                 leaf1 asks spine1 over their own cable, 200 echo requests 2 ms apart, before and
             |  the faulted        during the fault; what else crosses the cable (sessions, LLDP) goes on beside it.
           leaf1

Bounds. Before: nothing is lost of 200. The rate at which that is seen once in a thousand times is 1 - 0.001^(1/200) =
3.4 %, and of 200 at that rate more than 17 are lost once in a thousand times: LEAVES is what no wire without a fault
loses. A chance p must then show as itself: between the 10^-9 quantiles of the binomial law.
Sessions: BFD (300 ms x 3) takes them down within 0.9 s; they come back with BGP's connect timer of 10 s, twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from scipy.stats import binom

from labs.errors import CapabilityMissing, SpecError
from labs.faults import catalogue
from labs.faults.injecting import active_faults, add
from labs.lab import Lab
from labs.load_bridge import five_tuple, send
from labs.observe import port_samples
from labs.pytest_plugin import Faults
from labs.telemetry.asic_counters import PortCounters
from labs.testing import MBIT, SECOND, Verdict, permutation, wait_until
from labs.traffic_bridge import LabTraffic
from labs.verdicts.cabling import SizeProbe, every_size_passes
from topologies import addressing
from traffic.engines.rnic import RawFlow

CABLE, NEAR, FAR = "leaf1:spine1", "leaf1", "spine1"
PROBES = 200
LEAVES = int(binom.ppf(0.999, PROBES, 1 - 0.001 ** (1 / PROBES)))
BACK_WITHIN = 30 * SECOND
SESSION_WITHIN = 5 * SECOND
PACKET_BYTES = 4000
MTU = 9216


def lost(lab: Lab, probes: int = PROBES, packet_bytes: int = 84) -> int:
    """How many echo requests of leaf1 to spine1, over their cable, were not answered."""
    far = lab.fabric.link(CABLE).far(NEAR)
    address = str(addressing.port_interface(lab.fabric, far).ip)
    said = lab.node(NEAR).channel.kernel(
        *(
            "fping",
            "-q",
            "-c",
            str(probes),
            "-p",
            "2",
            "-i",
            "1",
            "-t",
            "200",
            "-M",
            "-b",
            str(packet_bytes - 28),
            address,
        )
    )
    words = next(line for line in said.stderr.splitlines() if "xmt/rcv/%loss" in line).split()
    sent, received = (int(number) for number in words[4].split("/")[:2])
    assert sent == probes, said.stderr
    return sent - received


def some_lost(lab: Lab) -> bool:
    """More than any wire without a fault loses."""
    return lost(lab) > LEAVES


def share_lost(lab: Lab, p: float) -> bool:
    """As many as a chance of p loses, but for once in 10^9 times."""
    low, high = binom.interval(1 - 1e-9, PROBES, p)
    return bool(LEAVES < low <= lost(lab) <= high)


def nth_lost(lab: Lab, n: int) -> bool:
    """One of n; the other frames of a cable, some ten a second, take some of the n-ths."""
    found = lost(lab)
    return found > LEAVES and abs(found - PROBES / n) <= PROBES / n / 4


def wire(lab: Lab, node: str) -> PortCounters:
    """What the soft ASIC has counted on the wire into a node's first port."""
    assert lab.asic
    return next(one for one in lab.asic.counters().ports if (one.node, one.name) == (node, "eth1"))


def fcs_counted(lab: Lab) -> bool:
    """The receiving port counts what it drops."""
    before = wire(lab, FAR).wire_fcs_errors
    found = lost(lab)
    counted = wire(lab, FAR).wire_fcs_errors - before
    return LEAVES < found <= counted


def session_goes(lab: Lab) -> bool:
    """The session of the cable goes down, while nothing of what else crosses it is lost."""
    down = wait_until(
        "the session is down", lambda: established(lab), lambda up: not up, within=SESSION_WITHIN * lab.timeout_scale
    )
    return down.held and not lost(lab)


def established(lab: Lab) -> bool:
    """Whether leaf1's session with spine1 is up."""
    peer = str(addressing.port_interface(lab.fabric, lab.fabric.link(CABLE).far(NEAR)).ip)
    return any(one.peer == peer and one.established for one in lab.sessions(NEAR))


def large_ones_lost(lab: Lab) -> bool:
    """The verdict on sizes is false, and names the size."""
    verdict = sizes(lab)
    return verdict.valid and not verdict.held and f"{PACKET_BYTES} B do not" in verdict.evidence.rows[0]


def sizes(lab: Lab) -> Verdict:
    """The verdict on what sizes pass between the two."""
    probes = [SizeProbe(NEAR, FAR, size, 20, 20 - lost(lab, 20, size)) for size in (84, PACKET_BYTES)]
    return every_size_passes(probes, largest_bytes=PACKET_BYTES)


def carrier_comes_and_goes(lab: Lab) -> bool:
    """Carrier is lost, is back, and is lost again, at a port that nobody has set down."""

    def up() -> bool:
        return port_samples(lab.node(FAR))["eth1"].up

    turns = [wait_until("carrier", up, wanted.__eq__, within=5.0) for wanted in (False, True) * 2]
    return all(turn.held for turn in turns)


@dataclass(frozen=True)
class Case:
    """A fault of the cable, and how it shows. `sender` names a direction."""

    fault: str
    bites: Callable[[Lab], bool]
    params: dict[str, object] = field(default_factory=dict)
    sender: str | None = None

    def __str__(self) -> str:
        return "-".join([self.fault, *(str(value) for value in self.params.values()), *filter(None, [self.sender])])


CASES = (
    Case("blackhole", some_lost, sender=NEAR),
    Case("blackhole", some_lost, {"protocol": "icmp"}),
    Case("random-loss", partial(share_lost, p=0.4), {"p": 0.4}, sender=FAR),
    Case("random-loss", partial(share_lost, p=1 - 0.7**2), {"p": 0.3}),
    Case("nth-loss", partial(nth_lost, n=4), {"n": 4}, sender=NEAR),
    Case("fcs-errors", fcs_counted, {"p": 0.4}, sender=NEAR),
    Case("control-partition", session_goes, {"what": "bfd"}, sender=NEAR),
    Case("control-partition", session_goes),
    Case("mtu-mismatch", large_ones_lost, {"end": FAR}),
    Case("flap", carrier_comes_and_goes, {"period": 0.6, "end": NEAR}),
)


@pytest.fixture
def clean(lab: Lab) -> Iterator[None]:
    """Before, the cable carries everything; afterwards, it does again. The `faults` fixture compares all else."""
    wait_until("the session is up", lambda: established(lab), bool, within=BACK_WITHIN * lab.timeout_scale)
    assert not lost(lab)
    assert sizes(lab)
    yield
    assert not active_faults(lab.name)
    assert not lost(lab)


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("clean")
def test_it_bites_and_is_gone(lab: Lab, faults: Faults, case: Case) -> None:
    """During the fault its metric is what a sound wire's cannot be; afterwards it is what it was."""
    made = getattr(faults, case.fault.replace("-", "_"))
    with made(CABLE, sender=case.sender, **case.params):
        assert case.bites(lab), case


@pytest.mark.lab("clos_frr")
@pytest.mark.usefixtures("clean")
def test_a_blackhole_of_one_flow_spares_the_others(lab: Lab, faults: Faults) -> None:
    """Control: what does not match the five-tuple is not lost."""
    with faults.blackhole(CABLE, protocol="udp", dport=4791):
        assert not lost(lab)


@pytest.mark.lab("clos_frr")
@pytest.mark.usefixtures("clean")
def test_corruption_is_counted_and_found(lab: Lab, faults: Faults) -> None:
    """Of 2000 packets the wire spoils those of the binomial law, and the host finds every one; afterwards none.

    rnic finds them by the pattern of their payload; one is lost whose head is spoilt, or whose UDP checksum the kernel
    looks at (where it is left to a card, which a veth is not, nobody does).
    """
    p = 0.05
    flow = five_tuple(lab, "host2", "host1", sport=50_000)
    sent = RawFlow("host2", "host1", flow, packets=2000, rate_bps=40 * MBIT, pattern=True)

    def found() -> int:
        got = send(lab, [sent], within=10 * SECOND)
        return sum(one.lost_packets for one in got) + sum(one.corrupted for one in got.receivers["host1"].flows)

    before = wire(lab, "host1").wire_corrupted
    with faults.corruption("leaf1:host1", sender="leaf1", p=p):
        wrong = found()
    spoilt = wire(lab, "host1").wire_corrupted - before
    assert binom.ppf(1e-9, 2000, p) <= spoilt <= binom.ppf(1 - 1e-9, 2000, p)
    assert wrong == spoilt
    assert found() == 0
    assert wire(lab, "host1").wire_corrupted == before + spoilt


@pytest.mark.lab("clos_frr")
@pytest.mark.usefixtures("clean")
def test_a_degraded_link_carries_its_share(lab: Lab, faults: Faults, traffic: LabTraffic) -> None:
    """A link that bulk TCP fills carries a quarter of its rate; sound, it carries twice what a quarter could.

    During: no more than the quarter, but for a tenth that was in queues and socket buffers when the second was over;
    no less than 80 % of it, as TCP has to find it within that second. Sound: half of the rate at least, as a busy
    workstation may not manage more.
    """
    plan = permutation(lab.fabric.hosts[:2], stride=1, duration_s=1.0, streams=2)
    of_a_second = lab.fabric.link("leaf1:host1").rate_bps / 8

    def share() -> float:
        return sum(flow.received_bytes for flow in traffic.run(plan) if flow.flow.dst == "host1") / of_a_second

    assert share() > 0.5
    with faults.rate_degrade("leaf1:host1", fraction=0.25):
        assert 0.8 * 0.25 < share() < 1.1 * 0.25
    assert share() > 0.5


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize(
    ("name", "target", "params", "said"),
    [
        ("control-partition", "leaf1:host1", {}, "keeps no sessions"),
        ("blackhole", CABLE, {"src": "host99"}, "allowed: an IPv4 address, or a host's name"),
        ("mtu-mismatch", CABLE, {"mtu": 9216}, "allowed: less than"),
        ("mtu-mismatch", CABLE, {"end": "leaf2"}, "allowed: leaf1 | spine1"),
        ("flap", "leaf1:host1", {"end": "host1"}, "a host's own end stays up"),
        ("random-loss", CABLE, {"p": 0}, "allowed: a number"),
    ],
)
def test_what_is_refused(lab: Lab, name: str, target: str, params: dict[str, object], said: str) -> None:
    """One clear message, and nothing was changed."""
    with pytest.raises(SpecError, match=said.replace("|", r"\|")):
        add(lab, catalogue.fault(name), target, params)
    assert not active_faults(lab.name)


@pytest.mark.lab("clos_frr")
@pytest.mark.usefixtures("clean")
def test_two_faults_on_one_wire(lab: Lab, faults: Faults) -> None:
    """One wire has one impairment: the second is refused and says who has it; the other direction is free."""
    with faults.nth_loss(CABLE, sender=NEAR, n=4):
        with pytest.raises(SpecError, match="spine1/eth1/wire is already faulted"):
            add(lab, catalogue.fault("blackhole"), CABLE)
        with faults.nth_loss(CABLE, sender=FAR, n=4):
            assert lost(lab) > LEAVES


@pytest.mark.lab("clos_frr")
def test_delay_says_what_it_needs(lab: Lab) -> None:
    """Beside the soft ASIC's queues it is refused, as on a kernel without netem."""
    with pytest.raises(CapabilityMissing, match=r"no netem|soft ASIC's queues"):
        add(lab, catalogue.fault("delay"), CABLE, {"delay": 5})
