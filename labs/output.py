"""What people and scripts read: tables, JSON, progress. JSON alone on stdout; everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from labs.backends.base import Progress

COLORS = {"running": "green", "up": "green", "ready": "green", "ok": "green", "established": "green"}


def emit_json(data: Mapping[str, object]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(data, indent=1) + "\n")
    sys.stdout.flush()


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """A table on stdout, as wide as the terminal allows; plain columns where there is none."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160, emoji=False, highlight=False)
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    from rich.markup import escape

    text = "-" if value is None else escape(str(value))
    color = COLORS.get(text) or (
        "red" if text in {"stopped", "down", "degraded", "faulted", "unready", "FALSE"} else ""
    )
    return f"[{color}]{text}[/]" if color else text


def say(text: str = "") -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def live_progress(title: str) -> Iterator[Progress]:
    """Show what is being done: one live line on a terminal, one line per change of stage elsewhere."""
    if not sys.stderr.isatty():
        yield _StageLines(title)
        return
    from rich.console import Console

    with Console(stderr=True).status(title) as status:
        yield lambda stage: status.update(f"{title}: {stage}")


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
