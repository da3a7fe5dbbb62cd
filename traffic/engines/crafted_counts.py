"""What became of crafted bursts, class by class: sent, received, how they arrived, which were lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from topologies.errors import SpecError
from traffic.engines.crafted_bursts import Ecn
from traffic.flows import FiveTuple

MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class PacketCount:
    """One packet: how it is named in its class, how often it was to leave, left and came."""

    name: str
    wanted: int
    sent: int
    came: int


@dataclass(frozen=True, slots=True)
class ClassCount:
    """What became of one class of packets from `src` to `dst` (of pauses: from port to port, without a five-tuple).

    `arrived` is how many came by DSCP and congestion field. `ecn` is what they were sent with, None for pauses. `error`
    is what kept packets of its burst from being sent.
    """

    burst: str
    name: str
    src: str
    dst: str
    packets: tuple[PacketCount, ...]
    arrived: Mapping[tuple[int, Ecn], int] = field(default_factory=dict)
    five_tuple: FiveTuple | None = None
    ecn: Ecn | None = None
    error: str | None = None

    @property
    def wanted(self) -> int:
        """Packets that were to be sent."""
        return sum(one.wanted for one in self.packets)

    @property
    def sent(self) -> int:
        """Packets that left."""
        return sum(one.sent for one in self.packets)

    @property
    def received(self) -> int:
        """Packets that came."""
        return sum(one.came for one in self.packets)

    @property
    def codepoints(self) -> Mapping[Ecn, int]:
        """How many came with each codepoint."""
        return {one: count for one in Ecn if (count := self._came(ecn=one))}

    @property
    def dscps(self) -> Mapping[int, int]:
        """How many came with each DSCP."""
        return {one: self._came(dscp=one) for one in sorted({dscp for dscp, _ in self.arrived})}

    @property
    def marked(self) -> int:
        """How many came with CE that were sent without."""
        return 0 if self.ecn is Ecn.CE else self._came(ecn=Ecn.CE)

    @property
    def lost_packets(self) -> int:
        """How many left and did not come."""
        return sum(max(0, one.sent - one.came) for one in self.packets)

    @property
    def complete(self) -> bool:
        """True when all left and all came, none of them twice."""
        return all(one.wanted == one.sent == one.came for one in self.packets)

    @property
    def lost(self) -> str | None:
        """The packets that were lost, by name; None where none was."""
        if not self.lost_packets:
            return None
        where = f"{self.src} > {self.dst}: {self.burst}, {self.name}"
        said = f"{where}: {self.lost_packets} of {self.sent} packets did not come"
        named = [one.name for one in self.packets if one.sent > one.came and one.name != self.name]
        if not named:
            return said
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        return f"{said}: {', '.join(named[:MOST_NAMED])}{more}"

    def _came(self, *, dscp: int | None = None, ecn: Ecn | None = None) -> int:
        return sum(
            count
            for (its_dscp, its_ecn), count in self.arrived.items()
            if dscp in {None, its_dscp} and ecn in {None, its_ecn}
        )


@dataclass(frozen=True)
class CraftedResult:
    """What became of bursts, class by class in their order.

    `strangers` are RoCEv2 packets and MAC control frames that came to the receivers and were of no burst, or damaged;
    `overflow` are packets that found a receiver's socket full. `errors` is what did not come to its end.
    """

    classes: tuple[ClassCount, ...]
    strangers: int = 0
    overflow: int = 0
    errors: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True when every packet left and every one came, none of them twice."""
        return not self.errors and all(one.complete for one in self.classes)

    @property
    def error(self) -> str | None:
        """All that kept packets from being sent, as one message; None where nothing did."""
        said = dict.fromkeys([*self.errors, *(f"{one.src}: {one.error}" for one in self.classes if one.error)])
        return "; ".join(said) or None

    @property
    def invalid_because(self) -> str | None:
        """Why the counts cannot be trusted; None when they can."""
        return f"{self.overflow} packets found a receiver's socket full" if self.overflow else None

    @property
    def sent(self) -> int:
        """Packets that left."""
        return sum(one.sent for one in self.classes)

    @property
    def received(self) -> int:
        """Packets that came."""
        return sum(one.received for one in self.classes)

    @property
    def marked(self) -> int:
        """Packets that came with CE and were sent without."""
        return sum(one.marked for one in self.classes)

    @property
    def lost(self) -> tuple[str, ...]:
        """The packets that were lost, a line for each class that lost some."""
        return tuple(said for one in self.classes if (said := one.lost))

    @cached_property
    def received_by(self) -> Mapping[FiveTuple, int]:
        """How many packets of each five-tuple came."""
        found: dict[FiveTuple, int] = {}
        for one in self.classes:
            if one.five_tuple is not None:
                found[one.five_tuple] = found.get(one.five_tuple, 0) + one.received
        return found

    @property
    def flows(self) -> tuple[FiveTuple, ...]:
        """Every five-tuple that was sent; with `sources`, what `lab.paths` asks for."""
        return tuple(self.received_by)

    @property
    def sources(self) -> tuple[str, ...]:
        """The host that sent each of `flows`."""
        of = {one.five_tuple: one.src for one in reversed(self.classes)}
        return tuple(of[flow] for flow in self.flows)

    def of(self, name: str) -> ClassCount:
        """The first class of this name: ``result.of("Not-ECT")``. Raises SpecError that lists them."""
        for one in self.classes:
            if one.name == name:
                return one
        raise SpecError(f"no class {name!r}", allowed=", ".join(dict.fromkeys(one.name for one in self.classes)))
