"""How long a step of a job takes, what its accelerators do meanwhile, and what their waiting costs.

Two models. `step_time` adds up phases of which the times are known (a measured collective beside the computing it
overlaps). `makespan` plays a graph's dependencies in time, every rank computing one thing, sending one message and
receiving one at a time.

What it is not: packets, queues, and flows that share a link. The fabric shows those; this is what to compare with.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from topologies.errors import SpecError
from traffic.graph import Graph, Send


@dataclass(frozen=True, slots=True)
class Phase:
    """Computing, then a collective of which the `overlap` share can run beside that computing.

    Times are in seconds; `overlap` is 0 (one after the other) to 1 (the shorter one is hidden).
    """

    name: str
    compute_s: float
    communicate_s: float = 0.0
    overlap: float = 0.0

    @property
    def hidden_s(self) -> float:
        """Communication that costs no time."""
        return min(self.compute_s, self.overlap * self.communicate_s)

    @property
    def takes_s(self) -> float:
        """From its begin to its end."""
        return self.compute_s + self.communicate_s - self.hidden_s


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step: its length, and how long an accelerator of it computes, on average."""

    takes_s: float
    computes_s: float

    @property
    def idle_share(self) -> float:
        """The share of the step in which accelerators wait, 0 to 1."""
        return 1 - self.computes_s / self.takes_s if self.takes_s else 0.0

    def idle_cost(self, *, accelerators: int, price_per_hour: float, hours: float | None = None) -> float:
        """What waiting costs, in the price's currency.

        Args:
            price_per_hour: of one accelerator.
            hours: over how long a time of such steps; None for one step.

        Raises SpecError for a negative price, number or time.
        """
        if accelerators < 0 or price_per_hour < 0 or (hours is not None and hours < 0):
            found = f"{accelerators} accelerators at {price_per_hour} an hour for {hours} h"
            raise SpecError(found, allowed="nothing below 0")
        lasts = self.takes_s / 3600 if hours is None else hours
        return self.idle_share * accelerators * price_per_hour * lasts


def step_time(phases: Sequence[Phase]) -> StepTime:
    """Phases one after the other. Raises SpecError, with the phase, for a negative time or an overlap out of 0 to 1."""
    for phase in phases:
        if phase.compute_s < 0 or phase.communicate_s < 0 or not 0 <= phase.overlap <= 1:
            found = f"phase {phase.name}: {phase.compute_s} s, {phase.communicate_s} s, overlap {phase.overlap}"
            raise SpecError(found, allowed="times of 0 or more, an overlap of 0 to 1")
    return StepTime(sum(phase.takes_s for phase in phases), sum(phase.compute_s for phase in phases))


@dataclass(frozen=True, slots=True)
class Played:
    """A graph in time: when each send began to leave and was done, in seconds, and each rank's computing in all."""

    begins_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    computes_s: tuple[float, ...]

    @property
    def makespan_s(self) -> float:
        """When the last send is done."""
        return max(self.ends_s, default=0.0)

    @property
    def step(self) -> StepTime:
        """The same as a step."""
        return StepTime(self.makespan_s, sum(self.computes_s) / len(self.computes_s))


def makespan(graph: Graph, send_s: Callable[[Send], float], *, latency_s: float = 0.0) -> Played:
    """Play `graph` by list scheduling: what can begin first, does; of several, what stands first in the graph.

    Args:
        send_s: seconds a send occupies its sender and its receiver; not asked for what stays within a rank.
        latency_s: from a message's last byte sent until its receiver, and its sender, know.

    Computing is that of the sends (`compute_s`; scaled by `Placement.place`); a rank computes one thing at a time.
    Raises SpecError for a negative time.
    """
    if latency_s < 0:
        raise SpecError(f"latency {latency_s} s", allowed="0 or more")
    return _Clock(graph, send_s, latency_s).run()


def computing_s(graph: Graph) -> float:
    """How long a graph takes by its computing alone, starts of flows among it: its messages in no time."""
    return makespan(graph, lambda _send: 0.0).makespan_s if any(send.compute_s for send in graph.sends) else 0.0


class _Clock:
    """A graph being played in time."""

    def __init__(self, graph: Graph, send_s: Callable[[Send], float], latency_s: float) -> None:
        self._sends, self._send_s, self._latency_s = graph.sends, send_s, latency_s
        self._begins, self._ends = [0.0] * len(graph.sends), [0.0] * len(graph.sends)
        self._computes = [0.0] * graph.ranks
        self._free = {word: [0.0] * graph.ranks for word in ("compute", "out", "in")}
        self._waits = [len(set(send.after)) for send in graph.sends]
        self._followers: list[list[int]] = [[] for _ in graph.sends]
        for place, send in enumerate(graph.sends):
            for earlier in set(send.after):
                self._followers[earlier].append(place)
        # What could begin: when, which, and whether its computing is done.
        self._ready = [(0.0, place, False) for place, count in enumerate(self._waits) if count == 0]

    def run(self) -> Played:
        heapq.heapify(self._ready)
        while self._ready:
            now, place, computed = heapq.heappop(self._ready)
            send = self._sends[place]
            if computed or not send.compute_s:
                self._go(now, place, send)
            else:
                self._compute(now, place, send)
        return Played(tuple(self._begins), tuple(self._ends), tuple(self._computes))

    def _compute(self, now: float, place: int, send: Send) -> None:
        free = self._free["compute"]
        if free[send.src] > now:
            heapq.heappush(self._ready, (free[send.src], place, False))
            return
        free[send.src] = now + send.compute_s
        self._computes[send.src] += send.compute_s
        heapq.heappush(self._ready, (free[send.src], place, True))

    def _go(self, now: float, place: int, send: Send) -> None:
        if send.is_local:
            self._done(now, now, place)
            return
        out, into = self._free["out"], self._free["in"]
        free = max(out[send.src], into[send.dst])
        if free > now:
            heapq.heappush(self._ready, (free, place, True))
            return
        lasts = self._send_s(send)
        if lasts < 0:
            raise SpecError(f"send {place} takes {lasts} s", allowed="0 or more")
        out[send.src] = into[send.dst] = now + lasts
        self._done(now, now + lasts + self._latency_s, place)

    def _done(self, begun: float, ended: float, place: int) -> None:
        self._begins[place], self._ends[place] = begun, ended
        for follower in self._followers[place]:
            self._waits[follower] -= 1
            if self._waits[follower] == 0:
                ready = max(self._ends[earlier] for earlier in self._sends[follower].after)
                heapq.heappush(self._ready, (ready, follower, False))
