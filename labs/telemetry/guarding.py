"""What the Recorder listens to, kept apart: one source that fails keeps it from none of the others.

What it would have said is `Missed`, from when it was last heard until it speaks again, and its traceback goes to the
Recorder's log, once for each kind of failure.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from labs.telemetry.records import Missed

# One that goes on failing is told of once a second, however often it is asked.
AGAIN_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Failing:
    """A source that does not speak; it is told that it is silent until `told_ns`."""

    because: str
    told_ns: int


class Guard:
    """Calls sources by name; `tell` takes what they miss."""

    def __init__(self, tell: Callable[[Missed], None]) -> None:
        self._tell = tell
        self._failing: dict[str, _Failing] = {}
        self._began_ns = time.monotonic_ns()
        self._heard_ns: dict[str, int] = {}

    def call(self, source: str, act: Callable[[], None], *, since: int = 0) -> bool:
        """Let a source act; False when it failed, for whatever reason.

        It says what happened since it last acted, and after `since` (monotonic clock, ns) where it had nothing to say.
        """
        now = time.monotonic_ns()
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            heard = max(since, self._heard_ns.get(source, self._began_ns))
            self._failed(source, heard, f"{source} could not be heard: {type(error).__name__}: {error}")
            return False
        self._heard_ns[source] = now
        was = self._failing.pop(source, None)
        if was is not None:
            self._missed(time.monotonic_ns(), was.told_ns, was.because)
        return True

    def _failed(self, source: str, heard: int, because: str) -> None:
        was, now = self._failing.get(source), time.monotonic_ns()
        if was is None or was.because != because:
            with suppress(OSError):  # the log's disk is full
                traceback.print_exc()
                sys.stderr.flush()
        elif now < was.told_ns + AGAIN_NS:
            return
        self._missed(now, was.told_ns if was else heard, because)
        self._failing[source] = _Failing(because, now)

    def _missed(self, t: int, since: int, because: str) -> None:
        self._tell(Missed(t=t, since=since, because=because))
