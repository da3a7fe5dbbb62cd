"""What a scenario is: values only. Times are in seconds, sizes in bytes, rates in bit/s.

`place` of a step is where it stands in its file, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labs.spec import Bgp


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficStep:
    """Play a collective by nccl-tests' name; to its end, or in the background from here on.

    `iterations` None: for as long as it is let; `warmup` iterations come before and are not timed. No `hosts`: all.
    `timeout_s` is a queue pair's, None for rnic's own.
    """

    name: str
    pattern: str
    size: int
    algorithm: str | None = None
    hosts: tuple[str, ...] = ()
    iterations: int | None = 1
    warmup: int = 1
    background: bool = False
    dscp: int | None = None
    timeout_s: float | None = None
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStep:
    """Send raw packets from hosts to one, `rate_bps` each on the wire, and measure for `lasts_s` once queues fill."""

    name: str
    hosts: tuple[str, ...]
    sink: str
    rate_bps: int
    lasts_s: float
    dscp: int = 3
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStep:
    """Probe flows around a link, open-loop, from here on: each `pps` packets a second, whatever becomes of them."""

    name: str
    around: str
    pps: int
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishStep:
    """Wait until traffic of the background has come to its end; what has no end of its own, as a probe, is ended."""

    name: str
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultStep:
    """Inject a fault of the catalogue, not before `at_s` after the first step; `for_s` later it ends by itself.

    `target` is empty for a fault of the whole lab; `sender` names one direction of a link. `lasts` False: it is over as
    soon as it is made.
    """

    name: str
    fault: str
    target: str = ""
    sender: str | None = None
    params: Mapping[str, str | float] = field(default_factory=dict)
    at_s: float | None = None
    for_s: float | None = None
    lasts: bool = True
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertStep:
    """Take a fault back."""

    name: str
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStep:
    """Wait for a named condition; one that does not come within `within_s` is a false claim, and ends the run."""

    condition: str
    of: str | None = None
    without: tuple[str, ...] = ()
    iterations: int = 1
    within_s: float = 10.0
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimStep:
    """Judge a claim here and now. `holds` False: the scenario says that it does not hold, as with a fault in.

    `numbers` and `words` are what the claim takes beside names. `which` tells it from others about the same.
    """

    claim: str
    of: str | None = None
    against: str | None = None
    without: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    holds: bool = True
    place: int = 0

    @property
    def which(self) -> str:
        """Which flows it is about, where not all are meant."""
        return ", ".join(word for key, word in self.words.items() if (key, word) != ("flows", "all"))


Step = TrafficStep | LoadStep | ProbeStep | FinishStep | FaultStep | RevertStep | WaitStep | ClaimStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Steps in their order, and the lab they are played on. `lasts_s`: no step begins later than that.

    `profile`, `bgp` and `rate_bps` (of every link) replace what the lab's own file says; None leaves it. A run without
    a `seed` draws one.
    """

    name: str
    about: str
    lab: str
    steps: tuple[Step, ...]
    profile: str | None = None
    bgp: Bgp | None = None
    rate_bps: int | None = None
    seed: int | None = None
    lasts_s: float = 300.0

    @property
    def claims(self) -> tuple[ClaimStep, ...]:
        """What is judged, in order."""
        return tuple(step for step in self.steps if isinstance(step, ClaimStep))
