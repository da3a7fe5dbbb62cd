"""What a collective did under several schemes of load balancing and congestion control: repeats to rows. Pure.

A row is the median of its valid repeats, or of all where none is valid: then it says so. Completion times of messages
are of all those repeats together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from topologies.errors import SpecError
from traffic.bounds import percentiles
from traffic.busbw import Collective, bandwidth
from traffic.step_model import Phase, StepTime, step_time

MOST_REASONS = 3
NOT_PLAYED = "it was not played"


@dataclass(frozen=True, slots=True)
class Job:
    """What every scheme has to carry, and the step of a job that it is part of.

    Args:
        size: bytes, nccl-tests' first column.
        ideal_s: what the busiest card's payload needs at its rate.
        compute_s: computing of each step.
        overlap: the share of the collective that can run beside that computing, 0 to 1.
        price_per_hour: of one accelerator, in any currency; None where nobody asks what waiting costs.

    Raises SpecError for an ideal time that is not above 0, a negative computing time or price, or an overlap out of
    0 to 1.
    """

    collective: Collective
    size: int
    ranks: int
    ideal_s: float
    compute_s: float
    overlap: float = 0.0
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        if not self.ideal_s > 0:
            raise SpecError(f"an ideal time of {self.ideal_s} s", allowed="more than 0")
        self.idle_cost_per_hour(self.ideal_s)

    def bus_bw(self, took_s: float) -> float:
        """In GB/s."""
        return bandwidth(self.collective, took_s, size=self.size, ranks=self.ranks).bus_bw

    def idle_share(self, took_s: float) -> float:
        """The share of a step in which accelerators wait."""
        return self._step(took_s).idle_share

    def idle_cost_per_hour(self, took_s: float) -> float | None:
        """What the waiting of all accelerators costs an hour, in the price's currency; None without a price."""
        step = self._step(took_s)
        if self.price_per_hour is None:
            return None
        return step.idle_cost(accelerators=self.ranks, price_per_hour=self.price_per_hour, hours=1)

    def _step(self, took_s: float) -> StepTime:
        return step_time([Phase("step", self.compute_s, took_s, self.overlap)])


@dataclass(frozen=True, slots=True)
class Repeat:
    """One run under one scheme. Counts are of all its iterations. Repeats of one number share their seed.

    `took_s` is an iteration's time, None where not all came to their end; `completions_s` how long each message of the
    last one took. `ce` packets arrived marked, `pauses` PFC frames told somebody to stop, `reorder` packets arrived
    before one that was sent earlier. `invalid_because`: why its times prove nothing.
    """

    number: int
    seed: int
    took_s: float | None
    completions_s: tuple[float, ...]
    ce: int
    pauses: int
    reorder: int
    retransmits: int
    wrong: int | None = 0
    invalid_because: str | None = None

    @property
    def valid(self) -> bool:
        """Whether it counts."""
        return self.took_s is not None and self.invalid_because is None


@dataclass(frozen=True, slots=True)
class Row:
    """All repeats of one scheme."""

    lb: str
    cc: str
    recovery: str
    job: Job
    repeats: tuple[Repeat, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.lb} {self.cc}"

    @property
    def valid(self) -> int:
        """How many repeats count."""
        return sum(one.valid for one in self.repeats)

    @property
    def counted(self) -> tuple[Repeat, ...]:
        """The repeats that the row is made of: the valid ones, or where there are none those that have a time."""
        return tuple(one for one in self.repeats if one.valid) or tuple(
            one for one in self.repeats if one.took_s is not None
        )

    @property
    def invalid_because(self) -> str | None:
        """Why the row proves nothing; None where a repeat is valid."""
        return None if self.valid else "; ".join(dict.fromkeys(self.reasons)) or NOT_PLAYED

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why repeats do not count, one after the other."""
        return tuple(one.invalid_because or "it did not come to its end" for one in self.repeats if not one.valid)

    @property
    def times_s(self) -> tuple[float, ...]:
        """What its repeats took."""
        return tuple(one.took_s for one in self.counted if one.took_s is not None)

    @property
    def took_s(self) -> float | None:
        """The median."""
        return median(self.times_s) if self.times_s else None

    @property
    def bus_bw(self) -> float | None:
        """In GB/s."""
        return None if self.took_s is None else self.job.bus_bw(self.took_s)

    @property
    def ratio(self) -> float | None:
        """The ideal time over the time it took: 1 is as fast as the cards allow."""
        return None if self.took_s is None else self.job.ideal_s / self.took_s

    @property
    def ratios(self) -> tuple[float, ...]:
        """The same of each repeat."""
        return tuple(self.job.ideal_s / took_s for took_s in self.times_s)

    @property
    def p99_s(self) -> float | None:
        """99 % of its messages were complete in this time."""
        completions = [took for one in self.counted for took in one.completions_s]
        return percentiles(completions).p99 if completions else None

    @property
    def p99s_s(self) -> tuple[float, ...]:
        """The same of each repeat."""
        return tuple(percentiles(one.completions_s).p99 for one in self.counted if one.completions_s)

    @property
    def idle_share(self) -> float | None:
        """The share of a step in which accelerators wait."""
        return None if self.took_s is None else self.job.idle_share(self.took_s)

    @property
    def idle_cost_per_hour(self) -> float | None:
        """What the waiting of all accelerators costs an hour; None without a price."""
        return None if self.took_s is None else self.job.idle_cost_per_hour(self.took_s)

    def count(self, of: Callable[[Repeat], int]) -> int | None:
        """The median of a count, rounded."""
        return round(median(of(one) for one in self.counted)) if self.counted else None

    @property
    def ce(self) -> int | None:
        """Marked packets of a repeat."""
        return self.count(lambda one: one.ce)

    @property
    def pauses(self) -> int | None:
        """PFC frames of a repeat that told somebody to stop."""
        return self.count(lambda one: one.pauses)

    @property
    def reorder(self) -> int | None:
        """Packets of a repeat that overtook another."""
        return self.count(lambda one: one.reorder)

    @property
    def retransmits(self) -> int | None:
        """Packets of a repeat that were sent again."""
        return self.count(lambda one: one.retransmits)


def columns(job: Job) -> tuple[str, ...]:
    """The heads of a table of a job's rows: what idling costs is among them where a price is known."""
    return (
        *("lb", "cc", "recovery", "busbw GB/s", "of ideal", "p99 ms", "idle"),
        *([] if job.price_per_hour is None else ["idle cost/h"]),
        *("CE", "pauses", "reorder", "retransmits", "valid"),
    )


def cells(row: Row) -> tuple[str | None, ...]:
    """A row of the table under `columns`; None for what is not known."""
    return (
        row.lb,
        row.cc,
        row.recovery,
        _shown(row.bus_bw, "{:.5f}"),
        _shown(row.ratio, "{:.3f}"),
        _shown(None if row.p99_s is None else row.p99_s * 1e3, "{:.1f}"),
        _shown(row.idle_share, "{:.1%}"),
        *([] if row.job.price_per_hour is None else [_shown(row.idle_cost_per_hour, "{:.2f}")]),
        *(_shown(count, "{}") for count in (row.ce, row.pauses, row.reorder, row.retransmits)),
        f"{row.valid}/{len(row.repeats)}",
    )


def _shown(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def document(row: Row) -> Mapping[str, object]:
    """A row as JSON has it, with every repeat."""
    return {
        "lb": row.lb,
        "cc": row.cc,
        "recovery": row.recovery,
        "bus_bw": row.bus_bw,
        "ratio": row.ratio,
        "time_us": None if row.took_s is None else row.took_s * 1e6,
        "p99_us": None if row.p99_s is None else row.p99_s * 1e6,
        "idle_share": row.idle_share,
        "idle_cost_per_hour": row.idle_cost_per_hour,
        "ce": row.ce,
        "pauses": row.pauses,
        "reorder": row.reorder,
        "retransmits": row.retransmits,
        "valid": row.valid > 0,
        "invalid_because": row.invalid_because,
        "repeats": [{**asdict(one), "valid": one.valid} for one in row.repeats],
    }


def without_proof(rows: Sequence[Row]) -> str | None:
    """Why not every scheme can be compared; None where all can.

    The first schemes without a valid repeat, each with the reason of its last; rows have them all.
    """
    found = [row for row in rows if not row.valid]
    reasons = [f"{row.name}: {row.reasons[-1] if row.reasons else NOT_PLAYED}" for row in found[:MOST_REASONS]]
    more = [f"and {len(found) - MOST_REASONS} more"] if len(found) > MOST_REASONS else []
    return "; ".join([*reasons, *more]) or None
