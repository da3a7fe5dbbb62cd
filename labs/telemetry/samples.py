"""Frozen records of what was seen. Every verdict is a pure function of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class RouteTable:
    """What one node forwards by: prefix to the set of egress port names (one entry per parallel port)."""

    node: str
    routes: Mapping[Prefix, frozenset[str]]


@dataclass(frozen=True, slots=True)
class BgpSession:
    """One BGP session as its own daemon reports it. `state` is FRR's word (Established, Active, …)."""

    node: str
    peer: str
    port: str
    remote_asn: int
    state: str
    uptime_s: float
    prefixes_received: int

    @property
    def established(self) -> bool:
        """True when the session is up."""
        return self.state == "Established"


@dataclass(frozen=True, slots=True)
class PortSample:
    """The counters of one port at one moment, as the kernel keeps them (packets and bytes since creation)."""

    node: str
    port: str
    at_s: float
    up: bool
    tx_packets: int
    tx_bytes: int
    rx_packets: int
    rx_bytes: int
    tx_dropped: int
    rx_dropped: int


@dataclass(frozen=True, slots=True)
class PingSample:
    """One reachability probe between two hosts: `lost` of `sent` echo requests."""

    src: str
    dst: str
    family: int
    sent: int
    lost: int


@dataclass(frozen=True, slots=True)
class HostSample:
    """How the workstation itself fared during an interval.

    `steal` is the fraction of CPU time the hypervisor took (0 … 1), `starved_s` the latest that a thread which
    asked to wake at a moment did wake, `duration_s` the interval's length. `cpu_pressure` is the fraction of the
    interval in which some task waited for a CPU (the kernel's pressure stall information), None without it, and where
    this process kept processors awake (labs.telemetry.awake): then something always waits. `kept_awake` is the share
    of all processors' time that went into that.
    `steal_worst` is the fraction that the CPU lost from which most was taken: what depends on one may lose as much.
    """

    duration_s: float
    steal: float
    starved_s: float
    cpu_pressure: float | None = None
    steal_worst: float = 0.0
    kept_awake: float = 0.0


@dataclass(frozen=True, slots=True)
class ClockSample:
    """What became of the clocks in an interval of `lasted_s`.

    `stepped_s`: by how much the wall clock went ahead of the monotonic one (or fell behind: negative), `set_meanwhile`
    whether somebody set it at all, also there and back. `slewed`: the monotonic clock's error of rate against the
    hardware's, as a share. `slept_s`: how long the workstation was suspended.
    """

    lasted_s: float
    stepped_s: float = 0.0
    set_meanwhile: bool = False
    slewed: float = 0.0
    slept_s: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """For evidence."""
        return {
            "stepped_s": round(self.stepped_s, 6),
            "set_meanwhile": self.set_meanwhile,
            "slewed_ppm": round(self.slewed * 1e6, 1),
            "slept_s": round(self.slept_s, 3),
        }
