"""The command that shows and exports what happened in a lab: timeline."""

from __future__ import annotations

from pathlib import Path

import click

from labs import timeline_view
from labs.cli_options import format_option, lab_option, which
from labs.lab import adopt_lab
from labs.output import say
from labs.recorded import find_run
from labs.telemetry.live import FILE, LiveTimeline
from labs.telemetry.timeline import Timeline, read_timeline


@click.command()
@click.argument("run", required=False)
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only these records: fault, link, route, …")
@click.option("--since", type=float, metavar="S", help="Seconds from the first record on; below 0: before the last.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="To FILE.csv or .parquet.")
@lab_option
@format_option
def timeline(
    run: str | None, kinds: tuple[str, ...], since: float | None, out: Path | None, lab_name: str | None, form: str
) -> None:
    """What happened in a lab, in the order of time: of a running one, or of RUN, a run directory or timeline file.

    Times are seconds from the first record on.
    """
    wanted = tuple(timeline_view.kind_named(kind) for kind in kinds)
    if out is not None:
        timeline_view.check_file(out)
    name, found = _read(run, lab_name)
    times = [int(table.times[0]) for table in found.tables.values() if len(table.times)]
    zero = min(times, default=0)
    if since is not None:
        last = max((int(table.times[-1]) for table in found.tables.values() if len(table.times)), default=0)
        found = found.since((zero if since >= 0 else last) + int(since * 1e9))
    timeline_view.warn(found)
    if out is not None:
        say(f"{out}: {timeline_view.export(found, wanted, out)} records")
        return
    timeline_view.show(found, wanted, form, lab=name, zero=zero)


def _read(run: str | None, lab_name: str | None) -> tuple[str, Timeline]:
    """The name of a lab, and its timeline. Raises SpecError for no such run."""
    if run is None:
        lab = adopt_lab(which(lab_name))
        return lab.name, LiveTimeline(lab.name, lab.run_dir).read()
    path = Path(run)
    if path.is_file():
        return path.parent.parent.name, read_timeline(path)
    folder = path if (path / FILE).exists() else find_run(run).path
    return folder.parent.name, read_timeline(folder / FILE)
