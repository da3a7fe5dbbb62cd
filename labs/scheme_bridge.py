"""One collective under several schemes of load balancing and congestion control on a running lab, by turns.

The repeats of all schemes with one number have one seed, so their queue pairs and ports are the same; another number
has another seed, so that no single draw of hashes decides.

For each load balancing the lab plays its own profile with another way of choosing among equal-cost next hops for the
collective's class; its own profile is back at the end, whatever happens. Every scheme has its turn before one has its
second, so that a workstation that drifts does so under all of them alike.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from labs import collective_bridge as bridge
from labs import lease, run_dir
from labs.dataplane.asic import SoftAsic
from labs.dataplane.ecmp_schemes import PREFIX, Scheme
from labs.dataplane.profile import Profile
from labs.errors import LabError, NotReady
from labs.lab import Lab
from labs.spec import derived_seed
from traffic.bounds import placed_ideal_s, wire_efficiency
from traffic.busbw import Size, rounded
from traffic.engines.rc_settings import RcSettings, Recovery
from traffic.errors import TrafficError
from traffic.graph import Graph
from traffic.patterns import Pattern
from traffic.placement import Placement
from traffic.scheme_rows import Job, Repeat, Row

FOLDER = "schemes"  # in the run directory: the profile that is to be back, and plots


@dataclass(frozen=True, slots=True)
class Entry:
    """One scheme: a row of the table. `cc` is its congestion control as it was asked for."""

    scheme: Scheme
    cc: str
    profile: Profile
    rc: RcSettings

    @property
    def recovery(self) -> str:
        """What receivers make of a gap, for people."""
        placed = self.rc.recovery is Recovery.SELECTIVE_REPEAT and self.rc.reorder >= self.rc.window
        return f"{self.rc.recovery}, any order" if placed else str(self.rc.recovery)

    def __str__(self) -> str:
        return f"{self.scheme.name} {self.cc}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be played: one graph, under every entry, `repeats` times.

    A repeat that proves nothing is started once more, up to `again` times, after all others of its number.
    """

    pattern: Pattern
    placement: Placement
    size: Size
    entries: tuple[Entry, ...]
    graph: Graph = field(repr=False)
    iterations: int = 2
    warmup: int = 1
    repeats: int = 3
    again: int = 0

    @property
    def runs(self) -> int:
        """How many times it is played when every repeat is valid at once."""
        return self.repeats * len(self.entries)

    @property
    def ideal_s(self) -> float:
        """The least time of an iteration: what the busiest card's payload needs at its rate."""
        return ideal_s(self.graph, self.placement, self.entries[0].rc)

    @property
    def least_s(self) -> float:
        """The least time that all of it takes."""
        return self.runs * (self.iterations + self.warmup) * self.ideal_s


def ideal_s(graph: Graph, placement: Placement, rc: RcSettings) -> float:
    """What the busiest card's payload needs at its rate."""
    return placed_ideal_s(graph, placement, efficiency=wire_efficiency(rc.mtu))


def size_of(pattern: Pattern, placement: Placement, size: int) -> Size:
    """What is run when so many bytes are asked for."""
    return rounded(pattern.collective, size, ranks=len(placement.ranks))


def compared(lab: Lab, asic: SoftAsic, wanted: Comparison) -> Generator[tuple[Entry, Repeat], None, None]:
    """Play it, run by run. The lab's own profile is back when the iterator ends or is closed.

    Raises NotReady when the lab's own profile is not its own, or cannot be put back.
    """
    with _own_profile_back(lab, asic):
        for number in range(1, wanted.repeats + 1):
            left = list(wanted.entries)
            for _ in range(1 + wanted.again):
                turns, left = left, []
                for entry in turns:
                    repeat = _repeat(lab, asic, wanted, entry, number)
                    left += [] if repeat.valid else [entry]
                    yield entry, repeat


def _repeat(lab: Lab, asic: SoftAsic, wanted: Comparison, entry: Entry, number: int) -> Repeat:
    _turn(lab, asic, entry.profile)
    rc = replace(entry.rc, seed=derived_seed(entry.rc.seed, f"repeat/{number}"))
    iterations = wanted.warmup + wanted.iterations
    try:
        played = bridge.play(lab, wanted.graph, wanted.placement, rc, iterations=iterations, check=True)
    except TrafficError as error:  # this run's affair: what was played before stands, and others have their turn
        return Repeat(number, rc.seed, None, (), 0, 0, 0, 0, wrong=None, invalid_because=str(error))
    return repeat_of(number, played, warmup=wanted.warmup)


def repeat_of(number: int, played: bridge.Played, *, warmup: int) -> Repeat:
    """What was played, as a repeat."""
    report = played.rc
    received = [one.received for one in report.connections if one.received]
    took_s = None if report.error else report.took_s(warmup)
    because = report.error or (None if took_s else "not all iterations were done") or played.invalid_because
    return Repeat(
        number,
        report.plans.settings.seed,
        took_s,
        tuple(one.took_s for one in report.sends if one.took_s is not None),
        ce=report.ce,
        pauses=played.pauses,
        reorder=sum(one.out_of_order for one in received),
        retransmits=report.retransmits,
        wrong=report.wrong,
        invalid_because=because,
    )


def rows(wanted: Comparison, job: Job, runs: Sequence[tuple[Entry, Repeat]]) -> tuple[Row, ...]:
    """A row for every entry, in their order."""
    return tuple(
        Row(entry.scheme.name, entry.cc, entry.recovery, job, tuple(one for of, one in runs if of is entry))
        for entry in wanted.entries
    )


def _turn(lab: Lab, asic: SoftAsic, profile: Profile) -> None:
    if asic.profile is profile:
        return
    with lease.changing(lab.name, f"turning to profile {profile.name}"):
        asic.apply(profile)


@contextmanager
def _own_profile_back(lab: Lab, asic: SoftAsic) -> Iterator[None]:
    """Whatever the block turns to, the lab's own profile is back afterwards; a copy of it is kept until then."""
    own = asic.profile
    kept = lab.run_dir / FOLDER / f"{own.name}.json"
    by_hand = f"railbed profile apply --lab {lab.name}"
    if own.name.startswith(PREFIX):
        left = sorted((lab.run_dir / FOLDER).glob("*.json"))
        raise NotReady(
            f"lab {lab.name} plays {own.name}, which a comparison that was killed has left",
            remedy=f"{by_hand} {left[0] if left else 'NAME, with the profile that it should play'}",
        )
    run_dir.write(lab.run_dir, f"{FOLDER}/{kept.name}", json.dumps(own.tables, indent=2) + "\n")
    try:
        yield
    finally:
        try:
            _turn(lab, asic, own)
        except LabError as error:
            raise NotReady(
                f"lab {lab.name} could not be turned back to its own profile {own.name}: {error}",
                remedy=f"{by_hand} {kept}",
            ) from None
        with suppress(FileNotFoundError):
            kept.unlink()
