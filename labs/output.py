"""What people and scripts read: tables, JSON, progress. JSON alone on stdout; everything else on stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import Protocol

COLORS = {"running": "green", "up": "green", "ready": "green", "ok": "green", "established": "green"}


def emit_json(data: Mapping[str, object] | Sequence[Mapping[str, object]]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(data, indent=1) + "\n")
    sys.stdout.flush()


def emit_line(text: str = "") -> None:
    """A line of a result on stdout: what stands above or between tables."""
    sys.stdout.write(text + "\n")


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout, as wide as the terminal allows; plain columns, one line a row, where there is none."""
    if not sys.stdout.isatty():
        _emit_columns(columns, rows)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(emoji=False, highlight=False)
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _emit_columns(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The same as rich shows it, but that no cell is folded; rich is half of what a short command takes."""
    lines = [columns, *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    sys.stdout.writelines("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def _text(value: object) -> str:
    return "-" if value is None else str(value).replace("\n", " ")


def _cell(value: object) -> str:
    from rich.markup import escape

    text = "-" if value is None else escape(str(value))
    color = COLORS.get(text) or (
        "red" if text in {"stopped", "down", "degraded", "faulted", "unready", "FALSE"} else ""
    )
    return f"[{color}]{text}[/]" if color else text


def say(text: str = "") -> None:
    """A line for people, on stderr."""
    with suppress(BrokenPipeError):  # nobody listens any more: no reason to stop what is being done
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class OneLine:
    """A line on stderr that the next one is written over; silent where stderr is no terminal (`on`)."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()
        self._text = ""

    def __call__(self, text: str) -> None:
        """Write it over what stands there."""
        self._text = text
        if self.on:
            width = shutil.get_terminal_size().columns
            with suppress(BrokenPipeError):  # as in `say`
                sys.stderr.write(f"\r\x1b[K{text[: width - 1]}")
                sys.stderr.flush()

    def clear(self) -> None:
        """Leave an empty line, for a result."""
        if self._text:
            self("")


class ShowsProgress(Protocol):
    """What is being done; `stop` ends the display before results are printed."""

    def __call__(self, stage: str) -> None:
        """Show another stage."""
        ...

    def stop(self) -> None:
        """Stop showing; idempotent."""
        ...


@contextmanager
def live_progress(title: str) -> Iterator[ShowsProgress]:
    """Show what is being done: one live line on a terminal, one line per change of stage elsewhere."""
    shown: ShowsProgress = _LiveLine(title) if sys.stderr.isatty() else _StageLines(title)
    try:
        yield shown
    finally:
        shown.stop()


class _LiveLine:
    """A spinner on stderr. It leaves stdout alone, whoever reads that."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self.title = title
        self._spinner = Spinner("dots", title)
        self._live = Live(
            self._spinner,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def __call__(self, stage: str) -> None:
        self._spinner.update(text=f"{self.title}: {stage}")

    def stop(self) -> None:
        """See ShowsProgress."""
        self._live.stop()


class _StageLines:
    """Prints a stage when it first appears: ``nodes 3/14`` is the stage ``nodes``."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.last = ""

    def __call__(self, stage: str) -> None:
        word = stage.split(maxsplit=1)[0]
        if word != self.last:
            self.last = word
            say(f"{self.title}: {word}")

    def stop(self) -> None:
        """Nothing to stop."""
