"""The sizes that one call of `railbed traffic PATTERN` runs on a lab, one after the other, and the line of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from labs import collective_bridge as bridge
from labs import lease
from labs.collective_bridge import Played
from labs.collective_trouble import explained
from labs.lab import Lab
from traffic import busbw, nccl_report
from traffic.bounds import placed_ideal_s
from traffic.composing import Part, together
from traffic.engines.graphs import EngineSettings, efficiency
from traffic.engines.rc_settings import RcSettings
from traffic.engines.rnic_rc import Watches
from traffic.errors import TrafficError
from traffic.graph import Graph
from traffic.nccl_report import Line, Settings, Side
from traffic.patterns import Pattern
from traffic.placement import Placement


@dataclass(frozen=True, slots=True)
class Asked:
    """What one call of the command is to run: a pattern, its sizes and how, as nccl-tests' flags have it.

    `communicators` are ranks of the placement, each as many as `settings` says; none: all ranks are one.
    """

    pattern: Pattern
    placement: Placement
    settings: Settings
    engine: EngineSettings = field(default_factory=RcSettings)
    root: int = 0
    communicators: tuple[tuple[int, ...], ...] = ()

    @property
    def sizes(self) -> tuple[busbw.Size, ...]:
        """What its lines are of."""
        words = self.settings
        if self.pattern.uneven is not None and self.pattern.uneven.fixed is not None:
            return (busbw.Size(self.pattern.uneven.fixed, 0),)  # nccl-tests counts no elements of a matrix
        each = busbw.sizes(words.least_bytes, words.most_bytes, factor=words.step_factor, step=words.step_bytes)
        return tuple(busbw.rounded(self.pattern.collective, size, ranks=words.ranks) for size in each)

    @property
    def rounds(self) -> int:
        """How often a graph is played in a row: to warm up, then for its time."""
        return self.settings.warmup_iterations + self.settings.iterations

    def refuse(self, lab: Lab) -> None:
        """Raise SpecError when the engine cannot play the largest size, before the first one is played."""
        graph = self.graph(max(size.size for size in self.sizes), in_place=bool(self.pattern.in_place))
        bridge.refuse(lab, graph, self.placement, self.engine, self.rounds)

    def graph(self, size: int, *, in_place: bool) -> Graph:
        """The graph of one size; of several communicators, each its own part of it, all at once."""
        graph = self.pattern.graph(self.settings.ranks, size, root=self.root, in_place=in_place)
        if not self.communicators:
            return graph
        parts = [Part(graph, ranks) for ranks in self.communicators]
        return together(f"{len(parts)} at once: {graph.name}", parts, ranks=len(self.placement.ranks))


@dataclass(frozen=True, slots=True)
class Measured:
    """A line, and what was played for it."""

    line: Line
    played: tuple[Played, ...]


class Unfinished(TrafficError):
    """A size that did not come to its end. `played` is what was done of it, to the last message that arrived."""

    def __init__(self, message: str, played: tuple[Played, ...]) -> None:
        super().__init__(message)
        self.played = played


def measured(lab: Lab, asked: Asked, watch: Watches | None = None) -> Iterator[Measured]:
    """Run size after size, out of place and in place, and give each line as soon as it is there.

    `watch` is told how far it is, now and then.

    Raises Unfinished when one does not come to its end, with what failed and what was done of it.
    """
    with lease.measuring(lab.name, asked.pattern.collective.program):
        for size in asked.sizes:
            yield _line(lab, asked, size, watch)


def _line(lab: Lab, asked: Asked, size: busbw.Size, watch: Watches | None) -> Measured:
    words, collective = asked.settings, asked.pattern.collective
    halves: list[Side | None] = []
    played: list[Played] = []
    ideal = 0.0
    shown = asked.pattern.counted(words.ranks, size.size)
    for in_place, run in zip((False, True), asked.pattern.sides(), strict=True):
        if not run:
            halves.append(None)
            continue
        graph = asked.graph(size.size, in_place=in_place)
        check = bool(words.validation)
        one = bridge.play(lab, graph, asked.placement, asked.engine, iterations=asked.rounds, check=check, watch=watch)
        took = one.report.took_s(words.warmup_iterations)
        if one.report.error or took is None:
            because = explained(lab, asked.placement.hosts, one.report.error or "not all iterations were done")
            raise Unfinished(f"{graph.name}, {shown} bytes: {because}", (*played, one))
        wrong = one.report.wrong if words.validation else None
        halves.append(nccl_report.side(collective, took, size=shown, ranks=words.ranks, wrong=wrong))
        played.append(one)
        ideal = ideal or placed_ideal_s(graph, asked.placement, efficiency=efficiency(asked.engine))
    line = nccl_report.line_of(
        words,
        size=shown,
        count=size.count,
        out_of_place=halves[0],
        in_place=halves[1],
        root=asked.root,
        ideal_s=ideal,
    )
    return Measured(line, tuple(played))


def invalid_because(runs: Sequence[Measured]) -> str | None:
    """Why these lines prove nothing: the first reason of each size; None when all count."""
    reasons = []
    for one in runs:
        found = next((played.invalid_because for played in one.played if played.invalid_because), None)
        if found:
            reasons.append(f"{one.line.size} bytes: {found}")
    return "; ".join(reasons) or None


def overhead_us(asked: Asked, played: Played) -> float | None:
    """What of an iteration's time the engine took to begin and end its messages; None where it does not say."""
    found = played.report.overhead_s(asked.settings.warmup_iterations)
    return None if found is None else found * 1e6
