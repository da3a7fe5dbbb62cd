"""The command that plays scenarios: `railbed run SCENARIO`, one line a claim, verdicts.json in the run directory."""

from __future__ import annotations

import os
from pathlib import Path

import click

from labs import run_dir
from labs.cli_options import dry_run_option, format_option, lab_option, which
from labs.errors import RunInvalid, SpecError
from labs.output import say
from labs.request import check_seed

MOST_REPEATS = 1000


@click.command()
@click.argument("scenario", required=False)
@click.option("--list", "listed", is_flag=True, help="The scenarios that come with railbed.")
@click.option(
    "--repeat", "wanted", type=click.IntRange(1, MOST_REPEATS), default=1, show_default=True, help="Valid runs."
)
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML there.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write a summary there.")
@click.option("--seed", type=int, help="Everything random comes from it; default: the file's, else drawn and recorded.")
@click.option("--backend", default="auto", show_default=True, help="auto, containerlab or netns.")
@click.option("--keep", is_flag=True, help="Leave the lab up.")
@click.option("--lab", "lab_name", envvar="RAILBED_LAB", help="Play on this running lab, and leave it up.")
@dry_run_option
@format_option
def run(
    scenario: str | None,
    listed: bool,
    wanted: int,
    junit: Path | None,
    markdown: Path | None,
    seed: int | None,
    backend: str,
    keep: bool,
    lab_name: str | None,
    dry_run: bool,
    form: str,
) -> int:
    """Play a scenario: SCENARIO is a name in the catalog or a file. Brings its lab up, and down again.

    An INVALID run is started again once. Exit 0 when every claim held, 1 when one is false, 3 when too few runs count.
    """
    from labs.scenarios import command  # numpy comes with it: other commands should not wait for that

    if listed:
        command.show_list(form)
        return 0
    check_seed(seed)
    _check_writable(junit, markdown)
    asked = command.asked(scenario, wanted=wanted, seed=seed, backend=backend, keep=keep, lab=lab_name)
    if dry_run:
        say(f"{asked} would be played")
        return 0
    played = command.play(asked, form, junit=junit, markdown=markdown)
    if played.exit_code == RunInvalid.exit_code:
        raise RunInvalid(f"the run cannot vouch for itself: {played.invalid_because}")
    return played.exit_code


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The scenario file.")
@lab_option
@dry_run_option
def record(out: Path, lab_name: str | None, dry_run: bool) -> None:
    """Write the faults that were made on a lab by hand, with their times, as a scenario."""
    from labs.scenarios import command

    _check_writable(out)
    text, count = command.recorded(which(lab_name))
    if dry_run:
        say(f"{count} faults would be written to {out}")
        return
    run_dir.write(out.absolute().parent, out.name, text)
    say(f"{count} faults written to {out}: railbed run {out} plays them again")


def _check_writable(*files: Path | None) -> None:
    """Refuse, before anything starts, a file that could not be written in the end."""
    for file in files:
        if file is not None and not os.access(file.absolute().parent, os.W_OK):
            raise SpecError(f"{file} cannot be written", allowed="a file in a folder that is there and can be written")
