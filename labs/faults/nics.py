"""Faults of hosts' cards and of the ranks on them."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ctypes import sizeof
from pathlib import Path
from typing import Any

from labs import kernel
from labs.dataplane import abi, place
from labs.dataplane.asic import SoftAsic
from labs.dataplane.maps import read_maps
from labs.errors import LabError, SpecError
from labs.faults import host_traffic, processes
from labs.faults.fault import Example, Fault, On, Param, Site, Step, some
from labs.faults.profiles import playing, soft_asic
from labs.faults.storm import pause
from labs.faults.undoing import Verb
from labs.lab import Lab
from labs.undo import identity, is_process
from topologies.fabric import Port
from traffic.pauses import MOST_QUANTA, QUANTUM_BITS

STORM_OVER, RECEIVER, GO_ON, HOST_TRAFFIC = "storm-over", "receiver", "go-on", "host-traffic"
RNIC = "rnic"


def _nic_pfc_storm(site: Site) -> Sequence[Step]:
    """A pause lasts as long as 802.1Qbb can say; the next one comes when half of it is over, at the latest."""
    lab, host, priority = site.lab, site.target, int(site.params["priority"])
    soft_asic(lab)
    ports = _ports(site)
    netdevs, token = [site.netdev(port) for port in ports], processes.new_token(lab)
    rate = max(lab.fabric.link_at(port.node, port.name).rate_bps for port in ports)
    every_s = min(1 / float(site.params["per_s"]), MOST_QUANTA * QUANTUM_BITS / rate / 2)
    argv = (sys.executable, "-m", "labs.faults.storm", str(priority), str(MOST_QUANTA), f"{every_s:.6f}", *netdevs)

    def make() -> None:
        processes.start(lab, token, argv, netns=lab.deployment.netns(host))

    args = {"token": token, "node": host, "netdevs": netdevs, "priority": priority}
    return [Step(STORM_OVER, args, make, tuple(f"{host}/{port.name}/pauses" for port in ports))]


def _storm_over(lab: Lab, args: Mapping[str, Any]) -> None:
    """End the storm, and the last pause with it, which could last a third of a second more."""
    processes.end(args["token"])
    with suppress(OSError, LabError), kernel.inside_netns(lab.deployment.netns(args["node"])):
        pause(args["netdevs"], {int(args["priority"]): 0})


def _slow_receiver(site: Site) -> Sequence[Step]:
    lab, asic, share = site.lab, soft_asic(site.lab), float(site.params["share"])
    ports = _ports(site)
    drains = {port.name: max(1, round(share * lab.fabric.link_at(port.node, port.name).rate_bps)) for port in ports}
    if int(site.params["xon"]) >= int(site.params["xoff"]):
        raise SpecError(f"xon={site.params['xon']}", allowed=f"below xoff={site.params['xoff']}")

    def make() -> None:
        for name, drain in drains.items():
            asic.slow_receiver(site.target, name, drain, xoff=int(site.params["xoff"]), xon=int(site.params["xon"]))

    former = [{"port": port.name, **_received(lab, asic, port)} for port in ports]
    claims = tuple(f"{site.target}/{port.name}/receiver" for port in ports)
    return [Step(RECEIVER, {"node": site.target, "ports": former}, make, claims)]


def _received(lab: Lab, asic: SoftAsic, port: Port) -> Mapping[str, int]:
    """How a host's port takes packets now."""
    size = sizeof(abi.Receiver)
    number = asic.port(port.node, port.name).number
    found = abi.Receiver.from_buffer_copy(
        read_maps(place.maps(lab.name), {"receivers": size})["receivers"], number * size
    )
    return {
        "drain_bps": int(found.drain_bps),
        "xoff": int(found.xoff_bytes),
        "xon": int(found.xon_bytes),
        "limit": int(found.limit_bytes),
    }


def _as_received(lab: Lab, args: Mapping[str, Any]) -> None:
    asic = playing(lab)
    for one in args["ports"]:
        was = {name: one[name] for name in ("xoff", "xon", "limit")}
        asic.slow_receiver(args["node"], one["port"], one["drain_bps"], **(was if one["drain_bps"] else {}))


def _paused_rank(site: Site) -> Sequence[Step]:
    """Stop those that run now: each by its pid and start time, so that no other process is ever meant."""
    found = [identity(pid) for pid in _ranks(site.lab, site.target)]
    if not found:
        busy = [node.name for node in site.lab.fabric.hosts if _ranks(site.lab, node.name)]
        allowed = some(busy) if busy else "a host while RoCE traffic runs: railbed traffic …"
        raise SpecError(f"{site.target} plays no rank now", allowed=allowed)

    def make() -> None:
        for one in found:
            _signalled(one, signal.SIGSTOP)

    return [Step(GO_ON, {"processes": found}, make, (f"{site.target}/rank",))]


def _go_on(lab: Lab, args: Mapping[str, Any]) -> None:
    """Let go on what has not ended meanwhile."""
    del lab
    for one in args["processes"]:
        _signalled(one, signal.SIGCONT)


def _signalled(one: Mapping[str, object], number: signal.Signals) -> None:
    """Signal a process through a handle on it, opened before it is known to be the one that is meant."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(int(str(one["pid"])))
        try:
            if is_process(one):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _ranks(lab: Lab, host: str) -> tuple[int, ...]:
    """The processes of rnic in a host's network."""
    with suppress(OSError, LabError):
        here = lab.deployment.netns(host).stat().st_ino
        return tuple(sorted(pid for pid in _programs(RNIC) if _network(pid) == here))
    return ()


def _programs(name: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "exe").readlink().name == name:
                found.append(int(entry.name))
    return found


def _network(pid: int) -> int | None:
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    return None


def _dcqcn_off(site: Site) -> Sequence[Step]:
    return [_said_of(site, host_traffic.UNCONTROLLED, (site.target,))]


def _fixed_source_port(site: Site) -> Sequence[Step]:
    hosts, only = [node.name for node in site.lab.fabric.hosts], str(site.params["host"])
    if only and only not in hosts:
        raise SpecError(f"host={only}", allowed=some(hosts))
    return [_said_of(site, host_traffic.FIXED_PORT, (only,) if only else tuple(hosts))]


def _said_of(site: Site, setting: str, hosts: Sequence[str]) -> Step:
    token = secrets.token_hex(8)

    def make() -> None:
        host_traffic.change(site.lab.name, token, setting, hosts)

    return Step(HOST_TRAFFIC, {"token": token}, make, tuple(f"traffic/{setting}/{host}" for host in hosts))


def _unsaid(lab: Lab, args: Mapping[str, Any]) -> None:
    host_traffic.take_back(lab.name, args["token"])


def _ports(site: Site) -> tuple[Port, ...]:
    """A host's ports."""
    return tuple(site.lab.fabric.ports(site.node.node))


NIC_PFC_STORM = Fault(
    name="nic-pfc-storm",
    on=On.HOST,
    imitates="a card that has gone mad, or whose receive pipeline hangs, and sends XOFF without end on all its ports",
    detected_by="the PFC watchdog of the switch port, within detection_time and a poll (`no_storms` is false)",
    recovers="the watchdog restores the queue; other priorities never lose anything",
    steps=_nic_pfc_storm,
    params=(
        Param("priority", "the one it pauses", default=3, kind=int, most=7),
        Param("per_s", "frames a second, at least", default=200, kind=float, least=1, most=5000, unit="a second"),
    ),
)
SLOW_RECEIVER = Fault(
    name="slow-receiver",
    on=On.HOST,
    imitates="a host that takes packets slower than they come (PCIe, page misses) and pauses its switch meanwhile",
    detected_by="pauses from the host: its switch port is paused 1 - share of the time (`pause_share`)",
    recovers="pause share; rate of flows through the ports that waited",
    steps=_slow_receiver,
    params=(
        Param("share", "of its link's rate that it takes", default=0.4, kind=float, least=0.001, most=1),
        Param("xoff", "it pauses above so much of its memory", default=200_000, kind=int, least=1, unit="bytes"),
        Param("xon", "it lets go on below", default=100_000, kind=int, unit="bytes"),
    ),
)
PAUSED_RANK = Fault(
    name="paused-rank",
    on=On.HOST,
    imitates="a straggler: a rank that garbage collection, a checkpoint or the scheduler holds up. Its card stands "
    "still too, which a real one's does not: peers' retries are spent after some 30 s, and the job is over",
    detected_by="step times: all ranks wait for one (`stragglers`); nothing moves while every link is up",
    recovers="bus bandwidth; step times of all ranks",
    steps=_paused_rank,
)
DCQCN_OFF = Fault(
    name="dcqcn-off",
    on=On.HOST,
    imitates="a host whose card has congestion control off: it slows down for nobody and notifies nobody. "
    "For connections that start afterwards; those that run keep what they began with",
    detected_by="unfair shares (Jain's index, `fair_rates` is false)",
    recovers="equal shares of the next traffic that starts",
    steps=_dcqcn_off,
)
FIXED_SOURCE_PORT = Fault(
    name="fixed-source-port",
    on=On.LAB,
    imitates="a driver that gives all queue pairs one UDP source port (49152): no entropy for ECMP. "
    "For connections that start afterwards; those that run keep theirs",
    detected_by="entropy: as many five-tuples as pairs of hosts, however many queue pairs (`hash_entropy` is false)",
    recovers="spread over equal-cost paths of the next traffic that starts",
    steps=_fixed_source_port,
    params=(Param("host", "the only host with that driver; none: all", default=""),),
)

FAULTS = (NIC_PFC_STORM, SLOW_RECEIVER, PAUSED_RANK, DCQCN_OFF, FIXED_SOURCE_PORT)
EXAMPLES: Mapping[str, Example] = {
    "nic-pfc-storm": Example("host1", {"priority": "3"}),
    "slow-receiver": Example("host1", {"share": "0.4"}),
    "paused-rank": Example("host1", needs=RNIC),
    "dcqcn-off": Example("host1"),
    "fixed-source-port": Example(),
}
VERBS: Mapping[str, Verb] = {
    STORM_OVER: _storm_over,
    RECEIVER: _as_received,
    GO_ON: _go_on,
    HOST_TRAFFIC: _unsaid,
}
