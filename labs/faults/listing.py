"""The catalogue as the table that docs/faults.md shows; ``python -m labs.faults.listing FILE`` writes it anew there."""

from __future__ import annotations

import sys
from pathlib import Path

from labs.faults import catalogue
from labs.faults.fault import REQUIRED, Example, Fault, Param

BEGIN, END = "<!-- catalogue -->\n", "<!-- end -->\n"


def table() -> str:
    """One row a fault, in Markdown."""
    head = ("fault", "on", "parameters", "imitates", "is detected by", "what recovers", "example")
    rows = [_row(one, catalogue.examples()[name]) for name, one in catalogue.faults().items()]
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def filled(text: str) -> str:
    """A page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _row(one: Fault, example: Example) -> tuple[str, ...]:
    params = ", ".join(_param(each) for each in one.params) or "–"
    return f"`{one.name}`", one.targets, params, one.imitates, one.detected_by, one.recovers, _example(example)


def _param(one: Param) -> str:
    default = "" if one.default is REQUIRED or one.default == "" else f" = {one.default}"
    return f"`{one.name}`{default}: {one.means}"


def _example(one: Example) -> str:
    said = " ".join(
        [
            one.target,
            *([f"--from {one.sender}"] if one.sender else []),
            *(f"--param {name}={value}" for name, value in one.params.items()),
        ]
    ).strip()
    return f"`{said}`" if said else "–"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text()))
