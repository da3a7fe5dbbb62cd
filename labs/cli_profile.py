"""The commands that change what the soft ASIC plays: profile list, apply, set."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from labs import lease, profile_views
from labs.cli_counters import profile, soft_asic_of
from labs.cli_options import dry_run_option, format_option, lab_option, which
from labs.dataplane.load import catalog, load_profile
from labs.dataplane.profile import Profile
from labs.errors import SpecError
from labs.lab import Lab, adopt_lab
from labs.output import emit_json, emit_line
from labs.status import SCHEMA


def commands() -> click.Group:
    """The group, with the commands of this module in it."""
    return profile


@profile.command("list")
@format_option
def list_profiles(form: str) -> None:
    """The profiles that come with railbed."""
    if form == "json":
        emit_json({"schema": SCHEMA, "profiles": list(catalog())})
        return
    for name in catalog():
        emit_line(name)


@profile.command()
@click.argument("name")
@lab_option
@dry_run_option
@format_option
def apply(name: str, lab_name: str | None, dry_run: bool, form: str) -> None:
    """Turn a running lab to another profile, by name or file, while packets flow: each port in one step."""
    _turn(adopt_lab(which(lab_name)), load_profile(name), form, dry_run=dry_run)


@profile.command("set")
@click.argument("table")
@click.argument("row")
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@lab_option
@dry_run_option
@format_option
def set_fields(table: str, row: str, fields: tuple[str, ...], lab_name: str | None, dry_run: bool, form: str) -> None:
    """Change fields of one row of what a running lab plays: profile set WRED_PROFILE NAME green_max_threshold=200000.

    FIELD= without a value takes the field out.
    """
    lab = adopt_lab(which(lab_name))
    _turn(lab, edited(soft_asic_of(lab).profile, table, row, fields), form, dry_run=dry_run)


def edited(before: Profile, table: str, row: str, fields: tuple[str, ...]) -> Profile:
    """A profile with some fields of one row changed. Raises SpecError, as for a file that says so."""
    tables = {name: {key: dict(values) for key, values in rows.items()} for name, rows in before.tables.items()}
    target = tables.setdefault(table, {}).setdefault(row, {})
    for word in fields:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise SpecError(f"field {word!r}", allowed="FIELD=VALUE, as in green_max_threshold=200000")
        if value:
            target[name] = value
        else:
            target.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{before.name}.json"
        file.write_text(json.dumps(tables, indent=2) + "\n")
        return load_profile(str(file))


def _turn(lab: Lab, wanted: Profile, form: str, *, dry_run: bool) -> None:
    asic = soft_asic_of(lab)
    before, ports = asic.profile, len(asic.plan.ports)
    if not dry_run:
        with lease.changing(lab.name, f"turning to profile {wanted.name}"):
            ports = asic.apply(wanted)
    profile_views.show_applied(lab.name, before, wanted, ports, form, dry_run=dry_run)
