"""Faults of what runs over a cable whose carrier stays: losses, blackholes, corruption, a lower rate.

Where the lab has a soft ASIC, the program at the receiving port does it, and counts it. Without one, tc's ingress hook
of that port drops what needs no memory: blackholes, control traffic, random losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from labs.dataplane.abi import Match
from labs.dataplane.asic import SoftAsic
from labs.dataplane.wires import Impairment
from labs.errors import CapabilityMissing, SpecError
from labs.faults.fault import Example, Fault, On, Param, Site, Step, some
from labs.faults.filters import programs
from labs.faults.profiles import playing
from labs.faults.undoing import Verb
from labs.lab import Lab
from labs.node import LiveNode
from topologies import addressing
from topologies.fabric import Fabric, Link, Port

WIRE_BACK, FILTERS_OFF, RATES_BACK = "wire", "filters", "rates"
# Of our filters, the first; nobody's own stand there, and tc gives numbers by itself from 49152 down.
FIRST_PRIO = 48000
LEAST_RATE_BPS = 8000  # the soft ASIC's
LEAST_CHANCE = 2.0**-32  # its draws have 32 bits
PROTOCOLS = {"any": None, "icmp": 1, "tcp": 6, "udp": 17}
BY_PROFILE = "railbed up --profile roce_default gives the lab's ports a soft ASIC"


def _impaired(wrong: Callable[[Site], Impairment]) -> Callable[[Site], Sequence[Step]]:
    """The steps of a fault that is an impairment of each receiving port."""

    def steps(site: Site) -> Sequence[Step]:
        chosen, asic = wrong(site), site.lab.asic
        if asic is not None:
            return [_wire(asic, port, chosen) for port in site.ports]
        if chosen.every or chosen.corrupt or chosen.bad_fcs:
            because = "without a soft ASIC a port cannot count frames, nor change them"
            raise CapabilityMissing("soft-asic", because, remedy=BY_PROFILE)
        return [_filtered(site, port, programs(chosen)) for port in site.ports]

    return steps


def _wire(asic: SoftAsic, port: Port, wrong: Impairment) -> Step:
    args = {"node": port.node, "port": port.name, "was": asic.wire(port.node, port.name)}
    return Step(WIRE_BACK, args, partial(asic.impair, port.node, port.name, wrong), _claims(port))


def _claims(port: Port) -> tuple[str, ...]:
    return (f"{port.node}/{port.name}/wire",)


def _wire_back(lab: Lab, args: Mapping[str, Any]) -> None:
    """What was wrong before, mostly nothing."""
    playing(lab).rewire(args["node"], args["port"], args["was"])


def _filtered(site: Site, port: Port, codes: Sequence[str]) -> Step:
    node, netdev = site.lab.node(port.node), site.netdev(port)
    had = _has_clsact(site.lab, port.node, netdev)

    def make() -> None:
        if not had:
            node.kernel("tc", "qdisc", "add", "dev", netdev, "clsact")
        for at, code in enumerate(codes):
            where = ("dev", netdev, "ingress", "protocol", "all", "prio", str(FIRST_PRIO + at))
            node.kernel("tc", "filter", "add", *where, "bpf", "da", "bytecode", code)

    args = {"node": port.node, "netdev": netdev, "filters": len(codes), "clsact": had}
    return Step(FILTERS_OFF, args, make, _claims(port))


def _filters_off(lab: Lab, args: Mapping[str, Any]) -> None:
    """Take our filters off, and the hook they hang on where it was not there before and nobody else uses it."""
    node, netdev = lab.node(args["node"]), str(args["netdev"])
    if not _has_clsact(lab, node.name, netdev):
        return
    there = {one["pref"] for one in _filters(node, netdev) if "pref" in one}
    for prio in range(FIRST_PRIO, FIRST_PRIO + int(args["filters"])):
        if prio in there:
            node.kernel("tc", "filter", "del", "dev", netdev, "ingress", "prio", str(prio))
    left = [node.kernel("tc", "filter", "show", "dev", netdev, way).stdout.strip() for way in ("ingress", "egress")]
    if not args["clsact"] and not any(left):
        node.kernel("tc", "qdisc", "del", "dev", netdev, "clsact")


def _filters(node: LiveNode, netdev: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        node.kernel("tc", "-j", "filter", "show", "dev", netdev, "ingress").stdout or "[]"
    )
    return found


def _has_clsact(lab: Lab, node: str, netdev: str) -> bool:
    found = json.loads(lab.node(node).kernel("tc", "-j", "qdisc", "show", "dev", netdev).stdout or "[]")
    return any(one["kind"] == "clsact" for one in found)


def _blackhole(site: Site) -> Impairment:
    """Everything, or the IPv4 packets of a five-tuple."""
    params, flow = site.params, dict[str, str | int]()
    for name in ("src", "dst"):
        if params[name]:
            flow[name] = _address(site, name, params[name])
    for name in ("sport", "dport"):
        if params[name]:
            flow[name] = params[name]
    protocol = PROTOCOLS[params["protocol"]]
    if protocol is not None:
        flow["protocol"] = protocol
    return Impairment(blackhole=flow)


def _address(site: Site, name: str, given: str) -> str:
    fabric = site.lab.fabric
    if any(given == node.name for node in fabric.hosts):
        return _host_address(fabric, site.cable, name, given)
    try:
        return str(IPv4Address(given))
    except ValueError:
        raise SpecError(f"{name}={given}", allowed="an IPv4 address, or a host's name") from None


def _host_address(fabric: Fabric, cable: Link, name: str, host: str) -> str:
    """A host's only address, or that of the card behind this very cable: one match has one address."""
    cards = addressing.nics(fabric, host)
    here = [card for card in cards if set(card.ports) & set(cable.ends)] or list(cards)
    found = [str(addressing.host_address(fabric, host, card.number, 4)) for card in here]
    if len(found) != 1:
        raise SpecError(f"{name}={host}: it has {len(found)} addresses", allowed=some(found) or "one that has a link")
    return found[0]


def _control(site: Site) -> Impairment:
    ends = [site.lab.fabric.node(port.node) for port in site.cable.ends]
    if not all(node.is_switch for node in ends):
        raise SpecError(f"{site.target} keeps no sessions", allowed="a link between two switches")
    wanted = {"bgp": Match.BGP, "bfd": Match.BFD, "both": Match.BGP | Match.BFD}
    return Impairment(control=wanted[site.params["what"]])


def _rate_degrade(site: Site) -> Sequence[Step]:
    """Both ends send at a share of the link's rate, as after a link that trained with fewer lanes."""
    asic = site.lab.asic
    if asic is None:
        raise CapabilityMissing("soft-asic", "a link's rate is played by the soft ASIC", remedy=BY_PROFILE)
    share = float(site.params["fraction"])
    was = {port: asic.rate(port.node, port.name) for port in site.cable.ends}
    now = {(port.node, port.name): max(LEAST_RATE_BPS, round(rate * share)) for port, rate in was.items()}
    args = {"ports": [[port.node, port.name, rate] for port, rate in was.items()]}
    claims = tuple(f"{port.node}/{port.name}/rate" for port in was)
    return [Step(RATES_BACK, args, partial(asic.turn, now), claims)]


def _rates_back(lab: Lab, args: Mapping[str, Any]) -> None:
    playing(lab).turn({(node, port): rate_bps for node, port, rate_bps in args["ports"]})


def _chance(means: str) -> Param:
    return Param("p", means, kind=float, least=LEAST_CHANCE, most=1)


BLACKHOLE = Fault(
    name="blackhole",
    on=On.LINK,
    imitates="a silent failure: carrier stays, frames are swallowed: all of them (one way or both), or the IPv4 "
    "packets of a five-tuple, as after a corrupt entry of a forwarding table. PFC frames still cross where a soft "
    "ASIC plays",
    detected_by="BFD (300 ms x 3: 0.6-0.9 s) or BGP's hold timer (6-9 s); by a five-tuple only probes of many ports do",
    recovers="longest outage of flows; lost probes",
    steps=_impaired(_blackhole),
    params=(
        Param("src", "source: an IPv4 address, or the name of a host that has one; empty is any", default=""),
        Param("dst", "destination: the same", default=""),
        Param("sport", "source port of TCP or UDP; 0 is any", default=0, kind=int, most=65535),
        Param("dport", "destination port; 0 is any", default=0, kind=int, most=65535),
        Param("protocol", "of the packets", default="any", choices=tuple(PROTOCOLS)),
    ),
    one_way=True,
)
RANDOM_LOSS = Fault(
    name="random-loss",
    on=On.LINK,
    imitates="a gray failure: a dirty fibre or a failing transceiver whose losses come at random. Real ones come in "
    "bursts, too; these are independent of each other",
    detected_by="the gap between what one end sent and the other received; probes (1e-3 needs some 10^4 of them)",
    recovers="goodput; lost probes",
    steps=_impaired(lambda site: Impairment(lose=site.params["p"])),
    params=(_chance("the chance that a frame is lost"),),
    one_way=True,
)
NTH_LOSS = Fault(
    name="nth-loss",
    on=On.LINK,
    imitates="a deterministic loss: every n-th frame, as after a hardware fault in one of n buffers or lanes",
    detected_by="the gap between what one end sent and the other received; probes: exactly 1/n",
    recovers="goodput; lost probes",
    steps=_impaired(lambda site: Impairment(every=site.params["n"])),
    params=(Param("n", "one of so many frames is lost", default=256, kind=int, least=1, most=2**32 - 1),),
    one_way=True,
)
CORRUPTION = Fault(
    name="corruption",
    on=On.LINK,
    imitates="a bit flipped inside a switch, behind its FCS check: the frame arrives, its payload is wrong. RoCE's "
    "ICRC and the checksums of TCP and UDP find it. IPv4 only",
    detected_by="ICRC errors at the receiving host",
    recovers="ICRC errors stop; goodput",
    steps=_impaired(lambda site: Impairment(corrupt=site.params["p"])),
    params=(_chance("the chance that a bit of a frame's payload is flipped"),),
    one_way=True,
)
FCS_ERRORS = Fault(
    name="fcs-errors",
    on=On.LINK,
    imitates="bit errors on the fibre: the receiving port's FCS check drops the frame and counts it. veths have no "
    "FCS: the count and the loss are played, the bits are not flipped",
    detected_by="the port's FCS error counter (railbed counters port)",
    recovers="the counter stands still; goodput",
    steps=_impaired(lambda site: Impairment(bad_fcs=site.params["p"])),
    params=(_chance("the chance that a frame has a bad FCS"),),
    one_way=True,
)
CONTROL_PARTITION = Fault(
    name="control-partition",
    on=On.LINK,
    imitates="a control plane that is cut off while data passes: a wrong filter (CoPP, ACL) or a CPU port that is "
    "stuck. TCP port 179 and UDP 3784 and 3785 are dropped, IPv4 and IPv6",
    detected_by="BFD, or BGP's hold timer, although the link is well",
    recovers="sessions; routes as designed; data meanwhile lost: none until the timer, then what rerouting loses",
    steps=_impaired(_control),
    params=(Param("what", "which sessions are cut off", default="both", choices=("both", "bgp", "bfd")),),
    one_way=True,
)
RATE_DEGRADE = Fault(
    name="rate-degrade",
    on=On.LINK,
    imitates="a link that trained at a lower speed (lanes lost, an older transceiver): both ends send at a share of "
    "its rate. Buffers and thresholds stay those of the designed rate",
    detected_by="the port's rate; utilisation that is uneven between equal links; a ring's busbw is that share",
    recovers="busbw",
    steps=_rate_degrade,
    params=(Param("fraction", "the share of its rate that is left", kind=float, least=0.001, most=0.999),),
)

FAULTS = (BLACKHOLE, RANDOM_LOSS, NTH_LOSS, CORRUPTION, FCS_ERRORS, CONTROL_PARTITION, RATE_DEGRADE)
EXAMPLES: Mapping[str, Example] = {
    "blackhole": Example("leaf1:spine1", sender="leaf1"),
    "random-loss": Example("leaf1:spine1", {"p": "0.01"}),
    "nth-loss": Example("leaf1:spine1", {"n": "100"}),
    "corruption": Example("leaf1:spine1", {"p": "0.01"}),
    "fcs-errors": Example("leaf1:spine1", {"p": "0.01"}),
    "control-partition": Example("leaf1:spine1"),
    "rate-degrade": Example("leaf1:spine1", {"fraction": "0.5"}),
}
VERBS: Mapping[str, Verb] = {WIRE_BACK: _wire_back, FILTERS_OFF: _filters_off, RATES_BACK: _rates_back}
