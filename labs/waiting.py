"""The one polling loop of railbed. Everything that waits, waits here, for a named condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import tenacity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waited(Generic[T]):
    """How a wait ended: `held` within its deadline or not, `took_s`, and the last thing `probe` saw.

    `late_by_s` is set when the condition came true only after the deadline: by how much it was missed.
    """

    condition: str
    held: bool
    took_s: float
    within_s: float
    last: T
    late_by_s: float | None = None

    def __str__(self) -> str:
        if self.held:
            return f"{self.condition}: after {self.took_s:.2f} s (allowed {self.within_s:g} s)"
        if self.late_by_s is not None:
            return f"{self.condition}: became true at {self.took_s:.2f} s, allowed {self.within_s:g} s"
        return f"{self.condition}: not within {self.within_s:g} s, nor until {self.took_s:.2f} s"


def wait_until(
    condition: str,
    probe: Callable[[], T],
    holds: Callable[[T], bool],
    *,
    within: float,
    grace: float = 0.0,
    first: float = 0.01,
    most: float = 0.25,
) -> Waited[T]:
    """Call `probe` until `holds` accepts what it returns; never raises for a condition that does not come.

    Args:
        condition: its name, for people: ``"every leaf holds every prefix"``.
        within: seconds until the deadline; a condition that holds at the first probe costs no wait.
        grace: seconds to keep probing past the deadline, only to say by how much it was missed.
        first, most: the pause between probes grows from `first` to `most` seconds.
    """
    began = time.monotonic()
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_delay(within + grace),
        wait=tenacity.wait_exponential(multiplier=first, max=most, exp_base=1.6),
        retry=tenacity.retry_if_result(lambda seen: not holds(seen)),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        sleep=time.sleep,
    )
    seen = retry(probe)
    took = time.monotonic() - began
    held = holds(seen)
    on_time = held and took <= within
    return Waited(condition, on_time, took, within, seen, took - within if held and not on_time else None)
