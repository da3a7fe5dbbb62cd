"""What asicd, the soft ASIC's control program, says of itself: how often it acted, and how fast."""

from __future__ import annotations

from dataclasses import dataclass, replace

BUCKET_US = 4
"""The width of a bucket of reaction times (asic.h: REACTION_STEP_NS)."""


@dataclass(frozen=True, slots=True)
class AsicdCounters:
    """asicd, since it began. Times are CLOCK_MONOTONIC nanoseconds where they end in `_ns`.

    A reaction lasts from the packet that crosses a PG's threshold until the gate of the far end's queue is closed.
    `reactions` are its buckets: number i counts those from 4·i to 4·(i + 1) µs, the last one all longer ones.
    `events_late`: found by looking, as the ring was full. `fifo`: runs with real-time priority. `softnet_dropped`:
    packets that a full per-CPU backlog cost, of the whole workstation.
    """

    pid: int = 0
    started_ns: int = 0
    alive_ns: int = 0
    fifo: bool = False
    pauses: int = 0
    refreshes: int = 0
    resumes: int = 0
    gate_errors: int = 0
    events_late: int = 0
    reaction_count: int = 0
    reaction_sum_ns: int = 0
    reaction_max_ns: int = 0
    cpu_ns: int = 0
    softnet_dropped: int = 0
    reactions: tuple[int, ...] = ()

    def reaction_us(self, share: float) -> float | None:
        """What that share (0.99) of the reactions did not exceed, in µs: the bucket's upper edge. None without any."""
        total = sum(self.reactions)
        if not total:
            return None
        below = 0
        for edge, count in enumerate(self.reactions[:-1], 1):
            below += count
            if below >= share * total:
                return min(float(edge * BUCKET_US), self.reaction_max_us)
        return self.reaction_max_us

    @property
    def reaction_max_us(self) -> float:
        """The longest reaction since asicd began, in µs: a maximum cannot be subtracted."""
        return self.reaction_max_ns / 1000

    def __sub__(self, earlier: AsicdCounters) -> AsicdCounters:
        counted = {name: getattr(self, name) - getattr(earlier, name) for name in _COUNTED}
        return replace(
            self, **counted, reactions=tuple(a - b for a, b in zip(self.reactions, earlier.reactions, strict=True))
        )

    def to_dict(self) -> dict[str, object]:
        """Numbers by name; the histogram as percentiles in µs."""
        return {
            "pid": self.pid,
            "fifo": self.fifo,
            "pauses": self.pauses,
            "refreshes": self.refreshes,
            "resumes": self.resumes,
            "events_late": self.events_late,
            "gate_errors": self.gate_errors,
            "reaction_count": self.reaction_count,
            "reaction_p50_us": self.reaction_us(0.5),
            "reaction_p99_us": self.reaction_us(0.99),
            "reaction_p999_us": self.reaction_us(0.999),
            "reaction_max_us": self.reaction_max_us,
            "cpu_s": round(self.cpu_ns / 1e9, 6),
            "softnet_dropped": self.softnet_dropped,
        }


_COUNTED = (
    *("pauses", "refreshes", "resumes", "gate_errors", "events_late"),
    *("reaction_count", "reaction_sum_ns", "cpu_ns", "softnet_dropped"),
)
