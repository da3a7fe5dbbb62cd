"""What several commands of the command line share: options, and which lab is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from labs import index
from labs.errors import LabNotFound, SpecError
from labs.request import check_lab_name
from topologies.load import RATE_RULE, rate_of

Command = Callable[..., Any]


def format_option(command: Command) -> Command:
    """``--format table|json``, as `form`."""
    return click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")(command)


def lab_option(command: Command) -> Command:
    """``--lab NAME``, as `lab_name`."""
    return click.option("--lab", "lab_name", envvar="RAILBED_LAB", help="Which running lab.")(command)


def dry_run_option(command: Command) -> Command:
    """``--dry-run``, as `dry_run`."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(command)


def text_of(value: object) -> str | None:
    """An option that may not have been said."""
    return None if value is None else str(value)


def number_of(value: object) -> int:
    """A whole number, as click has checked it."""
    return int(str(value))


def rate_option(value: object) -> int | None:
    """``--rate 90Mbit`` in bit/s. Raises SpecError."""
    try:
        return None if value is None else rate_of(str(value))
    except ValueError:
        raise SpecError(f"--rate {value}", allowed=RATE_RULE) from None


def which(name: str | None) -> str:
    """The lab that is meant: the one named, else the only one there is. Raises LabNotFound, SpecError."""
    if name:
        if name not in index.names():  # a lab of somebody else's keeps the name containerlab gave it
            check_lab_name(name)
        return name
    known = index.names()
    if not known:
        raise LabNotFound("no lab is running", remedy="railbed up starts one")
    if len(known) > 1:
        raise SpecError("no lab named, and several are there", allowed="--lab " + " | ".join(known))
    return known[0]
