"""When messages were done: completion times, slowdowns and fairness, from what each message took. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from traffic.bounds import Percentiles, jain, percentiles, slowdowns


@dataclass(frozen=True, slots=True)
class Finished:
    """A message of `size` bytes that took `took_s`; `rate_bps` is of payload, of the slower of its two cards."""

    size: int
    took_s: float
    rate_bps: float

    @property
    def ideal_s(self) -> float:
        """Its time alone at that rate."""
        return self.size * 8 / self.rate_bps


@dataclass(frozen=True, slots=True)
class Completion:
    """Of so many messages: completion times in seconds, slowdowns against the wire alone, and Jain's index.

    The index is of 1 / slowdown, the share of its own line that a message got: mixed sizes and rates compare by it.
    """

    messages: int
    fct_s: Percentiles
    slowdown: Percentiles
    jain: float

    def document(self) -> dict[str, object]:
        """As JSON has it: times in microseconds, six decimals."""
        fct = {name: round(value * 1e6, 6) for name, value in asdict(self.fct_s).items()}
        slow = {name: round(value, 6) for name, value in asdict(self.slowdown).items()}
        return {"messages": self.messages, "fct_us": fct, "slowdown": slow, "jain": round(self.jain, 6)}


def completion(finished: Sequence[Finished]) -> Completion | None:
    """What these messages say together; None where there is none that took any time."""
    timed = [one for one in finished if one.took_s > 0 and one.size > 0]
    if not timed:
        return None
    took = [one.took_s for one in timed]
    slow = slowdowns(took, [one.ideal_s for one in timed])
    return Completion(len(timed), percentiles(took), percentiles(slow), jain([1 / one for one in slow]))
