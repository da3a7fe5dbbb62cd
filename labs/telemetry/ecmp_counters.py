"""What the hash engine has chosen: by member port and mode."""

from __future__ import annotations

from dataclasses import dataclass, field

from labs.telemetry.counting import COUNT, minus
from topologies.ecmp import EcmpMode


@dataclass(frozen=True, slots=True)
class EcmpCounters:
    """One member port of a switch, one mode. Node and port are "" for members that lead out of the lab.

    `flowlets` began on this port; `repicks` are those of them whose flow was on another port before. `moved`: buckets
    of resilient groups that came to this port.
    """

    node: str
    port: str
    mode: EcmpMode
    packets: int = field(default=0, metadata=COUNT)
    bytes: int = field(default=0, metadata=COUNT)
    flowlets: int = field(default=0, metadata=COUNT)
    repicks: int = field(default=0, metadata=COUNT)
    moved: int = field(default=0, metadata=COUNT)

    def __str__(self) -> str:
        return f"{self.node}:{self.port}" if self.node else "-"

    @property
    def counts(self) -> dict[str, int]:
        """The counters by name."""
        return {name: getattr(self, name) for name in ("packets", "bytes", "flowlets", "repicks", "moved")}

    def to_dict(self) -> dict[str, object]:
        """SAI has no names for these. Counters that are 0 are left out."""
        counted = {f"RAILBED_ECMP_STAT_{name.upper()}": count for name, count in self.counts.items() if count}
        return {"node": self.node, "port": self.port, "mode": self.mode.name.lower(), **counted}


def since(later: tuple[EcmpCounters, ...], earlier: tuple[EcmpCounters, ...]) -> tuple[EcmpCounters, ...]:
    """What was counted in between: a row that had not counted yet was not there."""
    before = {(one.node, one.port, one.mode): one for one in earlier}
    counted = (
        minus(one, before.get((one.node, one.port, one.mode), EcmpCounters(one.node, one.port, one.mode)))
        for one in later
    )
    return tuple(one for one in counted if any(one.counts.values()))
