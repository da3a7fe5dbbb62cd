"""Sends crafted bursts between hosts, and counts what comes.

    run = start_bursts(bursts, wiring, lambda node, argv: in_network(node, netns(node), argv))
    result = run.finish(timeout=30)

Every packet is made before anything is sent, and every receiver's socket is open before the first one leaves. One
program a node does both (`on_host/crafted.py`); nothing is written there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from topologies.ecmp import ROCE_PORT
from topologies.errors import RailbedError, SpecError
from traffic.engines.base import CommandResult
from traffic.engines.crafted_bursts import Crafted, CraftedBurst, Ecn, PacketClass, PauseBurst
from traffic.engines.crafted_counts import ClassCount, CraftedResult, PacketCount
from traffic.engines.crafted_packets import NO_ADDRESS, Addresses, class_packets
from traffic.engines.on_host import program
from traffic.engines.rnic import REPORTED_S, SpokenTo, Starts
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport
from traffic.pauses import pfc_frame

# Wire bit/s of each burst: a tenth of the 100 Mbit/s that hosts of the catalog's labs have, so that no queue fills.
RATE_BPS = 10_000_000.0
ETHERNET_BYTES = 38  # around an IP packet, with FCS, preamble and gap
READY_S = 20.0
# How long one process is looked at before the next: what is done meanwhile is not missed, it stays done.
LOOK_S = 0.02
# How long packets are waited for that are still on the way once all have left.
LINGER_S = 2.0


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where hosts are: a card's address by family, and the (node, port) at the other end of a (node, port)'s cable."""

    address: Addresses
    far_end: Callable[[str, str], tuple[str, str]]


@dataclass
class _Class:
    """A class on its way into a result: where its packets leave (node, burst there, places) and arrive."""

    count: ClassCount
    leaves: tuple[str, int, tuple[int, ...]]
    arrives: tuple[str, tuple[int, ...]]


@dataclass
class BurstPlans:
    """What every node's program reads."""

    nodes: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    classes: list[_Class] = field(default_factory=list)
    known: dict[str, set[str]] = field(default_factory=dict)

    def node(self, name: str) -> dict[str, list[Any]]:
        """A node's own."""
        return self.nodes.setdefault(name, {"receives": [], "listens": [], "expects": [], "sends": []})

    def expect(self, node: str, how: str, at: str, keys: Sequence[tuple[str, int]]) -> tuple[int, ...]:
        """Let a node expect packets at an address or port; their places. Raises SpecError for one it cannot tell."""
        there = self.node(node)
        if at not in there[how]:
            there[how].append(at)
        known = self.known.setdefault(node, set())
        before = len(known)
        known.update(key for key, _ in keys)
        if len(known) < before + len(keys):
            raise SpecError(f"{node} cannot tell packets of its bursts from one another", allowed="no two alike")
        there["expects"] += keys
        return tuple(range(len(there["expects"]) - len(keys), len(there["expects"])))


def burst_plans(bursts: Sequence[Crafted], wiring: Wiring, rate_bps: float = RATE_BPS) -> BurstPlans:
    """What every node has to send and to expect. Raises SpecError for hosts that are not there and packets alike."""
    if not bursts:
        raise SpecError("no burst", allowed="1 or more")
    if not 0 < rate_bps < float("inf"):
        raise SpecError(f"a rate of {rate_bps:g} bit/s", allowed="more than 0")
    plans = BurstPlans()
    for burst in bursts:
        if isinstance(burst, CraftedBurst):
            _plan_packets(plans, burst, wiring, rate_bps)
        else:
            _plan_pauses(plans, burst, wiring)
    return plans


def _plan_packets(plans: BurstPlans, burst: CraftedBurst, wiring: Wiring, rate_bps: float) -> None:
    if burst.src == burst.dst:
        raise SpecError(f"{burst.name} from {burst.src} to itself", allowed="two hosts")
    ends = [wiring.address(*one, burst.family) for one in ((burst.src, burst.src_nic), (burst.dst, burst.dst_nic))]
    made = class_packets(burst, wiring.address)
    first = [sum(map(len, made[:place])) for place in range(len(made))]
    sends = plans.node(burst.src)["sends"]
    for place, (one, packets) in enumerate(zip(burst.classes, made, strict=True)):
        keys = [(packet_key(packet), one.times) for packet in packets]
        arrives = plans.expect(burst.dst, "receives", ends[1], keys)
        leaves = (burst.src, len(sends), tuple(range(first[place], first[place] + len(packets))))
        plans.classes.append(_Class(_empty(burst, one, ends), leaves, (burst.dst, arrives)))
    flat = [packet for packets in made for packet in packets]
    gaps = [round((len(packet) + ETHERNET_BYTES) * 8e9 / rate_bps) for packet in flat]
    sends.append(
        {
            "from": ends[0],
            "to": ends[1],
            "packets": [(packet.hex(), gap) for packet, gap in zip(flat, gaps, strict=True)],
            "order": [first[place] + number for place, number in burst.order],
        }
    )


def _empty(burst: CraftedBurst, one: PacketClass, ends: Sequence[str]) -> ClassCount:
    lead = one.packets[0]
    five_tuple = FiveTuple(ends[0], ends[1], Transport.UDP, lead.sport, ROCE_PORT, lead.dscp, lead.queue_pair)
    names = [one.name if len(one.packets) == 1 else f"psn {packet.psn}" for packet in one.packets]
    packets = tuple(PacketCount(name, one.times, 0, 0) for name in names)
    return ClassCount(burst.name, one.name, burst.src, burst.dst, packets, {}, five_tuple, Ecn(lead.ecn))


def _plan_pauses(plans: BurstPlans, burst: PauseBurst, wiring: Wiring) -> None:
    node, port = wiring.far_end(burst.node, burst.port)
    sends = plans.node(burst.node)["sends"]
    frames = [pfc_frame(NO_ADDRESS, quanta) for _, quanta, _ in burst.frames]
    for place, ((name, _, times), frame) in enumerate(zip(burst.frames, frames, strict=True)):
        arrives = plans.expect(node, "listens", port, [(frame_key(port, frame), times)])
        count = ClassCount(
            burst.name, name, f"{burst.node}:{burst.port}", f"{node}:{port}", (PacketCount(name, times, 0, 0),)
        )
        plans.classes.append(_Class(count, (burst.node, len(sends), (place,)), (node, arrives)))
    gap = round(burst.every_s * 1e9)
    order = [place for place, (_, _, times) in enumerate(burst.frames) for _ in range(times)]
    packets = [(frame.hex(), gap) for frame in frames]
    sends.append({"from": burst.port, "to": "", "packets": packets, "order": order})


def packet_key(packet: bytes) -> str:
    """What a receiver knows a packet by: addresses, IPv6's flow label, and all from UDP on, the ICRC with it.

    Not the class, the congestion field and the hops, which a network may change; the ICRC has none of them either.
    """
    if packet[0] >> 4 == 4:
        return packet[12:].hex()
    label = int.from_bytes(packet[:4], "big") & 0xFFFFF
    return label.to_bytes(3, "big").hex() + packet[8:].hex()


def frame_key(port: str, frame: bytes) -> str:
    """What a port knows a frame by: all but who sent it."""
    return f"{port} {(frame[:6] + frame[12:]).hex()}"


def start_bursts(
    bursts: Sequence[Crafted], wiring: Wiring, start: Starts, *, rate_bps: float = RATE_BPS, ready_s: float = READY_S
) -> RunningBursts:
    """Send bursts, all at the same time; returns once every receiver is ready and all senders were told to go.

    Args:
        start: `labs.channels.namespaces.in_network` for the node, in a lab.
        rate_bps: wire bit/s of each burst; pauses go by their own clock.

    Raises SpecError for what cannot be sent, TrafficError for a node where it does not start; nothing is left then.
    """
    plans = burst_plans(bursts, wiring, rate_bps)
    with ExitStack[None]() as undo:
        processes: dict[str, SpokenTo] = {}
        for node, plan in plans.nodes.items():
            try:
                process = start(node, program("crafted"))
            except (RailbedError, OSError, KeyError) as error:
                raise TrafficError(f"{node}: {_role(plan)} of a burst does not start: {error}") from error
            undo.callback(process.stop)
            processes[node] = process
            process.write(json.dumps(plan) + "\n")
        for node, process in processes.items():
            try:
                process.wait_ready("ready\n", ready_s)
            except RailbedError as error:
                because = process.stop().stderr.strip()[-400:] or str(error)
                raise TrafficError(
                    f"{node}: {_role(plans.nodes[node])} of a burst does not start: {because}"
                ) from error
        for process in processes.values():
            process.write("go\n")
        return RunningBursts(plans, processes, undo.pop_all())


@dataclass
class RunningBursts:
    """Bursts under way."""

    plans: BurstPlans
    processes: Mapping[str, SpokenTo]
    undo: ExitStack[None]
    clock: Callable[[], float] = time.monotonic
    _result: CraftedResult | None = field(default=None, init=False)

    def finish(self, timeout: float) -> CraftedResult:
        """Wait until all is sent, at most `timeout` seconds, and until it has come or is lost. Leaves no process.

        Bursts of a node whose program ended early are in the errors; those of others are counted.
        """
        if self._result is None:
            late = self._wait("sent\n", self.clock() + timeout)
            if not late:
                self._wait("done\n", self.clock() + LINGER_S)
            self._result = self._collect(tuple(f"{node}: not all was sent within {timeout:g} s" for node in late))
        return self._result

    def stop(self) -> CraftedResult:
        """End it now and report what was sent and came until now. Leaves no process behind."""
        if self._result is None:
            self._result = self._collect(())
        return self._result

    def _wait(self, word: str, deadline: float) -> list[str]:
        """Wait for all to say a word; who has not by the deadline, none when one has ended meanwhile."""
        waiting = list(self.processes)
        while waiting and self.clock() < deadline:
            for node in tuple(waiting):
                process = self.processes[node]
                with suppress(RailbedError):
                    process.wait_ready(word, LOOK_S)
                    waiting.remove(node)
                if node in waiting and not process.running:
                    return []
        return waiting

    def _collect(self, errors: tuple[str, ...]) -> CraftedResult:
        with self.undo:
            for process in self.processes.values():
                process.write("stop\n")
            said: dict[str, Mapping[str, Any]] = {}
            for node, process in self.processes.items():
                try:
                    said[node] = _said(_ended(process))
                except TrafficError as error:
                    errors = (*errors, f"{node}: {self._named(node)} {error}")
        return CraftedResult(
            tuple(_counted(one, said) for one in self.plans.classes if {one.leaves[0], one.arrives[0]} <= said.keys()),
            sum(int(one["strangers"]) for one in said.values()),
            sum(int(one["overflow"]) for one in said.values()),
            errors,
        )

    def _named(self, node: str) -> str:
        """What is not known without a node: its bursts, by their ends."""
        some = [one.count for one in self.plans.classes if node in {one.leaves[0], one.arrives[0]}]
        return ", ".join(dict.fromkeys(f"{one.burst} {one.src} > {one.dst}" for one in some))


def _counted(one: _Class, said: Mapping[str, Mapping[str, Any]]) -> ClassCount:
    """A class with what its two ends have counted."""
    (node, burst, places), (far, numbers) = one.leaves, one.arrives
    sent, came = said[node]["sent"][burst], said[far]["came"]
    packets = tuple(
        PacketCount(was.name, was.wanted, int(sent[place]), int(came[number]))
        for was, place, number in zip(one.count.packets, places, numbers, strict=True)
    )
    arrived: dict[tuple[int, Ecn], int] = {}
    if one.count.five_tuple is not None:
        for number in numbers:
            for tos, count in said[far]["tos"][number].items():
                key = (int(tos) >> 2, Ecn(int(tos) & 3))
                arrived[key] = arrived.get(key, 0) + int(count)
    was = one.count
    return ClassCount(was.burst, was.name, was.src, was.dst, packets, arrived, was.five_tuple, was.ecn,
                      said[node]["errors"][burst])  # fmt: skip


def _role(plan: Mapping[str, Sequence[Any]]) -> str:
    return "the receiver" if plan["expects"] else "the sender"


def _ended(process: SpokenTo) -> CommandResult:
    try:
        return process.wait(REPORTED_S)
    except RailbedError:
        return process.stop()


def _said(ended: CommandResult) -> Mapping[str, Any]:
    """What a program counted. Raises TrafficError for one that failed."""
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if not ended.ok or not lines:
        raise TrafficError(
            f"is not counted: its program ended with {ended.status} {ended.stderr.strip()[-400:]}".rstrip()
        )
    found: Mapping[str, Any] = json.loads(lines[-1])
    return found
