"""The timeline of a lab that runs, as tests and verdicts read it while it grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from labs.errors import NotReady
from labs.telemetry import telling
from labs.telemetry.records import Note, Record
from labs.telemetry.telling import Written
from labs.telemetry.timeline import Timeline, read_timeline

FILE = "timeline.jsonl"
P = ParamSpec("P")
R = TypeVar("R")


class LiveTimeline:
    """``timeline.read()``: everything that has happened until now, in order.

    Args:
        lab_name, run_dir: the running lab's.
        began_ns: where `read` begins, by default where the lab does.
    """

    def __init__(self, lab_name: str, run_dir: Path, began_ns: int | None = None) -> None:
        self._lab_name = lab_name
        self._path = run_dir / FILE
        self.began_ns = began_ns

    def read(self, *, within: float = 10.0) -> Timeline:
        """What happened since `began_ns`, once the Recorder has written all that it was told before this call.

        Takes telling.HOLD_S. Raises NotReady when no Recorder answers `within` seconds, or its disk is full: what is
        missing in a timeline must not pass for what did not happen.
        """
        answer = telling.flush(self._lab_name, within=within)
        if answer is None:
            raise NotReady(
                f"the Recorder of lab {self._lab_name!r} does not answer",
                remedy="the next railbed command that uses the lab starts it again",
            )
        if answer.full:
            raise NotReady(
                f"{self._path} cannot be written: {answer.lost} records are lost", remedy="make room on that disk"
            )
        timeline = read_timeline(self._path)
        return timeline if self.began_ns is None else timeline.since(self.began_ns)

    def tell(self, *records: Record) -> None:
        """Add records of one's own. Raises NotReady when no Recorder takes them."""
        if not telling.tell(self._lab_name, *records):
            raise NotReady(f"the Recorder of lab {self._lab_name!r} does not answer")

    def note(self, text: str) -> int:
        """Leave a note, to be found again; returns when that was."""
        now = time.monotonic_ns()
        self.tell(Note(t=now, text=text))
        return now

    def recorder(self) -> Written | None:
        """How the Recorder itself fares; None when it does not answer."""
        return telling.answers(self._lab_name)


def read_first(judge: Callable[Concatenate[Timeline, P], R]) -> Callable[Concatenate[Timeline | LiveTimeline, P], R]:
    """The same function of a timeline, which may be that of a running lab as well: it is read then, once."""

    @wraps(judge)
    def judged(timeline: Timeline | LiveTimeline, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return judge(timeline.read() if isinstance(timeline, LiveTimeline) else timeline, *args, **kwargs)

    return judged
