"""What the Recorder listens to, kept apart: one source that fails keeps it from none of the others.

A failure is a note in the timeline, which then lacks what that source would have said, and its traceback goes to the
Recorder's log. A source that fails again and again is noted once, and again when it speaks.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

from labs.telemetry.records import Note

FAILS = "missing from here: {source} could not be heard: {because}"
SPEAKS = "{source} is heard again"


class Guard:
    """Calls sources by name; `tell` takes the notes."""

    def __init__(self, tell: Callable[[Note], None]) -> None:
        self._tell = tell
        self._failing: dict[str, str] = {}

    def call(self, source: str, act: Callable[[], None]) -> bool:
        """Let a source act; False when it failed, for whatever reason."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            because = f"{type(error).__name__}: {error}"
            if self._failing.get(source) != because:
                self._failing[source] = because
                self._note(FAILS.format(source=source, because=because))
                with suppress(OSError):  # the log's disk is full
                    traceback.print_exc()
                    sys.stderr.flush()
            return False
        if self._failing.pop(source, None) is not None:
            self._note(SPEAKS.format(source=source))
        return True

    def _note(self, text: str) -> None:
        self._tell(Note(t=time.monotonic_ns(), text=text))
