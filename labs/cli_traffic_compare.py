"""`railbed traffic compare`: one collective under several schemes of load balancing and congestion control.

What plays and draws is imported when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labs.cli_counters import soft_asic_of
from labs.cli_options import dry_run_option, lab_option, number_of, rate_option, text_of, which
from labs.errors import RunInvalid, SpecError
from labs.lab import Lab, adopt_lab
from labs.output import emit_json, emit_line, emit_table, say
from labs.status import SCHEMA
from traffic.busbw import parse_size
from traffic.engines.rc_settings import MTUS, Congestion, RcSettings, Recovery, dilation

if TYPE_CHECKING:
    from labs.dataplane.asic import SoftAsic
    from labs.dataplane.ecmp_schemes import Scheme
    from labs.scheme_bridge import Comparison, Entry
    from traffic.placement import Placement
    from traffic.scheme_rows import Job, Repeat, Row

AUTO = "auto"
DCQCN = "dcqcn"  # which of its sets: what network cards come with
PLOTS = (".png", ".svg", ".pdf")
MOST_RUNS = 1000


@click.command("compare")
@click.argument("pattern", default="alltoall")
@click.option("--lb", default="kernel,roce,flowlet,spray,adaptive", show_default=True, help="Load balancing: modes of "
              "the hash engine, also as spray:round_robin, adaptive:packet.")  # fmt: skip
@click.option("--cc", default="dcqcn,none", show_default=True, help="Congestion control: none, dcqcn (dcqcn-mlx), "
              "dcqcn-sigcomm15, dcqcn-mlx, dcqcn-ns3.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each scheme.")
@click.option("--again", type=click.IntRange(0, 100), default=1, show_default=True, help="Starts more of a run that "
              "proves nothing.")  # fmt: skip
@click.option("--hosts", help="Which hosts, in the ranks' order: host1,host3,…; default: all.")
@click.option("-b", "--size", default="4M", show_default=True, help="Bytes; K, M, G are 1024s.")
@click.option("-n", "--iters", type=click.IntRange(1), default=2, show_default=True, help="Timed iterations of a run.")
@click.option("-w", "--warmup-iters", "--warmup_iters", type=click.IntRange(0), default=1, show_default=True)
@click.option("-r", "--root", type=click.IntRange(0), default=0, show_default=True, help="The root's rank.")
@click.option("--algorithm", help="How it is played; `railbed traffic list` has them.")
@click.option("--mtu", type=click.Choice([str(one) for one in MTUS]), default="4096", show_default=True)
@click.option("--qps", type=click.IntRange(1, 256), default=1, show_default=True, help="Connections a pair of ranks.")
@click.option("--split", is_flag=True, help="Every message over all connections of its pair, not by turns.")
@click.option("--window", type=click.IntRange(1, 65536), default=256, show_default=True, help="Packets under way.")
@click.option("--recovery", type=click.Choice([AUTO, *map(str, Recovery)]), default=AUTO, show_default=True,
              help="auto: sr, placing packets in any order, where a flow may change its way; else gbn.")  # fmt: skip
@click.option("--dilation", type=click.IntRange(1), help="DCQCN's times, stretched; default: the line rate its set was "
              "published for, over the slowest card's.")  # fmt: skip
@click.option("--dscp", type=click.IntRange(0, 63), default=26, show_default=True, help="Its class is what is spread.")
@click.option("--rate", help="What a card sends with, such as 90Mbit; default: its link's rate.")
@click.option("--fixed-port", is_flag=True, help="One source port for all flows: no entropy for ECMP.")
@click.option("--gap-us", type=click.IntRange(1, 60_000_000), help="The silence that ends a flowlet; default: what a "
              "queue at its marking threshold takes to drain.")  # fmt: skip
@click.option("--compute-us", type=click.FloatRange(0, 1e12), help="Computing of a step, for the idle share; default: "
              "as long as the collective takes at best.")  # fmt: skip
@click.option("--overlap", type=click.FloatRange(0, 1), default=0, show_default=True,
              help="The share of the collective that can run beside computing.")  # fmt: skip
@click.option("--price", type=click.FloatRange(0), help="Of one accelerator an hour, in any currency: adds what their "
              "waiting costs an hour.")  # fmt: skip
@click.option("--seed", type=int, help="Queue pair numbers and ports come from it; default: the lab's.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw to FILE.png, .svg or .pdf; "
              "default: a PNG in the lab's run directory.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@lab_option
@dry_run_option
def compare(
    pattern: str,
    lb: str,
    cc: str,
    plot: Path | None,
    form: str,
    lab_name: str | None,
    dry_run: bool,
    compute_us: float | None,
    overlap: float,
    price: float | None,
    **options: object,
) -> int:
    """Play PATTERN under every scheme of load balancing and congestion control, by turns, and set them side by side.

    PATTERN is alltoall unless another is named. For each the lab plays its own profile with another choice among
    equal-cost paths for the collective's class; its own is back at the end. One table, one plot. A row is the median
    of its valid repeats. Exit 1 when elements are wrong, 3 when a scheme has no valid repeat: the table is there all
    the same.
    """
    from labs.dataplane.ecmp_schemes import scheme

    schemes = tuple(scheme(word) for word in _words("--lb", lb))
    sets = {word: congestion(word) for word in _words("--cc", cc)}
    lab = adopt_lab(which(lab_name))
    asic = soft_asic_of(lab)
    wanted = _wanted(lab, asic, pattern, schemes, sets, options)
    job = _job(wanted, compute_us, overlap, price)
    file = _plot_file(lab, plot)
    if dry_run:
        _say_plan(lab, wanted)
        return 0
    rows = _played(lab, asic, wanted, job)
    _show(lab, wanted, rows, file, form)
    _draw(lab, wanted, rows, file)
    if form == "table":
        emit_line(f"plot: {file}")
    return _judged(rows)


def _words(option: str, text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    twice = [word for word in dict.fromkeys(words) if words.count(word) > 1]
    if twice or "" in words:
        found = f"{option} {text}: {f'{twice[0]} is there twice' if twice else 'a word is missing'}"
        raise SpecError(found, allowed="words with commas between, each once")
    return words


def congestion(word: str) -> Congestion:
    """The parameter set of a word: its own name, or dcqcn. Raises SpecError that lists what there is."""
    known = {DCQCN: Congestion.MELLANOX, **{str(one): one for one in Congestion}}
    if word not in known:
        raise SpecError(f"--cc {word!r}", allowed=", ".join(known))
    return known[word]


def _wanted(
    lab: Lab,
    asic: SoftAsic,
    name: str,
    schemes: Sequence[Scheme],
    sets: Mapping[str, Congestion],
    options: dict[str, object],
) -> Comparison:
    from labs import collective_bridge as bridge
    from labs.dataplane.ecmp_schemes import classes_of, flowlet_gap_us, with_scheme
    from labs.scheme_bridge import Comparison, Entry, size_of
    from traffic.patterns import pattern

    found = pattern(name, text_of(options["algorithm"]))
    hosts = [word for word in (text_of(options["hosts"]) or "").split(",") if word]
    placement = bridge.ranks_on(lab, hosts, rate_bps=rate_option(options["rate"]))
    size = size_of(found, placement, parse_size(str(options["size"])))
    classes = classes_of(asic.profile, lab.fabric, number_of(options["dscp"]))
    asked = options["gap_us"]
    gap = flowlet_gap_us(asic.profile, lab.fabric, classes) if asked is None else number_of(asked)
    profiles = {one: with_scheme(asic.profile, one, classes=classes, gap_us=gap) for one in schemes}
    return Comparison(
        found,
        placement,
        size,
        tuple(
            Entry(one, word, profiles[one], _settings(lab, one, which_set, placement, options))
            for one in schemes
            for word, which_set in sets.items()
        ),
        found.graph(len(placement.ranks), size.size, root=number_of(options["root"])),
        iterations=number_of(options["iters"]),
        warmup=number_of(options["warmup_iters"]),
        repeats=number_of(options["repeat"]),
        again=number_of(options["again"]),
    )


def _settings(lab: Lab, one: Scheme, cc: Congestion, placement: Placement, options: dict[str, object]) -> RcSettings:
    window, recovery = number_of(options["window"]), str(options["recovery"])
    chosen = Recovery(recovery) if recovery != AUTO else _recovery(one)
    any_order = recovery == AUTO and chosen is Recovery.SELECTIVE_REPEAT
    stretched = options["dilation"]
    return RcSettings(
        mtu=number_of(options["mtu"]),
        qps=number_of(options["qps"]),
        split=bool(options["split"]),
        window=window,
        recovery=chosen,
        reorder=window if any_order else RcSettings().reorder,
        congestion=cc,
        dilation=dilation(cc, min(placement.rates_bps().values())) if stretched is None else number_of(stretched),
        dscp=number_of(options["dscp"]),
        fixed_port=bool(options["fixed_port"]),
        seed=lab.seed if options["seed"] is None else number_of(options["seed"]),
    )


def _recovery(one: Scheme) -> Recovery:
    """Go-back-N takes every packet out of order for a loss."""
    return Recovery.SELECTIVE_REPEAT if one.by_packet or one.by_flowlet else Recovery.GO_BACK_N


def _job(wanted: Comparison, compute_us: float | None, overlap: float, price: float | None) -> Job:
    from traffic.scheme_rows import Job

    compute_s = wanted.ideal_s if compute_us is None else compute_us / 1e6
    ranks = len(wanted.placement.ranks)
    return Job(wanted.pattern.collective, wanted.size.size, ranks, wanted.ideal_s, compute_s, overlap, price)


def _plot_file(lab: Lab, asked: Path | None) -> Path:
    """Where the plot is to be: known, and able to be written, before anything is played. Raises SpecError."""
    from labs.scheme_bridge import FOLDER

    if asked is None:
        return lab.run_dir / FOLDER / f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}.png"
    if asked.suffix.lower() not in PLOTS:
        raise SpecError(f"--plot {asked}", allowed=f"a file that ends in {', '.join(PLOTS)}")
    if not asked.absolute().parent.is_dir():
        raise SpecError(f"--plot {asked}: there is no such folder", allowed="a file in a folder that exists")
    return asked


def _say_plan(lab: Lab, wanted: Comparison) -> None:
    say(
        f"{lab.name}: {wanted.pattern.collective.program} by {wanted.pattern.algorithm} on "
        f"{len(wanted.placement.ranks)} ranks, {wanted.size.size} bytes, would be played {wanted.runs} times "
        f"({len(wanted.entries)} schemes, {wanted.repeats} repeats, each started {1 + wanted.again} times at most), "
        f"{wanted.warmup} + {wanted.iterations} iterations each: {wanted.least_s:.0f} s on the wire at least"
    )
    for entry in wanted.entries:
        say(f"{entry}: {entry.recovery}, {entry.rc.congestion}, times x {entry.rc.dilation}, {_row(entry)}")


def _row(entry: Entry) -> str:
    from labs.dataplane.ecmp_schemes import TABLE

    rows = entry.profile.tables[TABLE]
    own = {key: row for key, row in rows.items() if key.startswith("*|")}
    return "; ".join(f"{TABLE} {key}: {', '.join(f'{k} {v}' for k, v in row.items())}" for key, row in own.items())


def _played(lab: Lab, asic: SoftAsic, wanted: Comparison, job: Job) -> tuple[Row, ...]:
    from labs.scheme_bridge import compared, rows

    runs: list[tuple[Entry, Repeat]] = []
    with closing(compared(lab, asic, wanted)) as playing:
        for entry, repeat in playing:
            runs.append((entry, repeat))
            say(f"{repeat.number}/{wanted.repeats} {entry}: {_said(job, repeat)}")
    return rows(wanted, job, runs)


def _said(job: Job, repeat: Repeat) -> str:
    reached = "no time" if repeat.took_s is None else f"{job.ideal_s / repeat.took_s:.3f} of ideal"
    return reached + (f" (invalid: {repeat.invalid_because})" if repeat.invalid_because else "")


def _draw(lab: Lab, wanted: Comparison, rows: Sequence[Row], file: Path) -> None:
    from labs import index, run_dir
    from labs.scheme_plot import draw

    title = (
        f"{wanted.pattern.collective} by {wanted.pattern.algorithm}, {wanted.size.size / (1 << 20):.3g} MiB, "
        f"{len(wanted.placement.ranks)} ranks on {lab.fabric.name}"
    )
    # Its list of fonts would land in the home of whoever is behind sudo, and belong to root there.
    os.environ.setdefault("MPLCONFIGDIR", str(index.state_dir() / index.CACHE / "matplotlib"))
    try:
        run_dir.create_folder(file.absolute().parent)
        draw(rows, file, title)
    except OSError as error:
        raise SpecError(f"--plot {file}: {error.strerror}", allowed="a file that can be written") from None
    run_dir.give_away(file)


def _show(lab: Lab, wanted: Comparison, rows: Sequence[Row], file: Path, form: str) -> None:
    from traffic.scheme_rows import cells, columns, document

    job = rows[0].job
    if form == "json":
        said = {
            "pattern": str(wanted.pattern.collective),
            "algorithm": wanted.pattern.algorithm,
            "size": wanted.size.size,
            "ranks": len(wanted.placement.ranks),
            "iterations": wanted.iterations,
            "warmup": wanted.warmup,
            "ideal_time_us": job.ideal_s * 1e6,
            "compute_us": job.compute_s * 1e6,
            "overlap": job.overlap,
            "price_per_hour": job.price_per_hour,
            "line_rate_bps": min(wanted.placement.rates_bps().values()),
        }
        found = [
            {**document(row), "settings": _plain(entry.rc)} for row, entry in zip(rows, wanted.entries, strict=True)
        ]
        emit_json({"schema": SCHEMA, "lab": lab.name, **said, "rows": found, "plot": str(file)})
    else:
        emit_table(columns(job), map(cells, rows))
        emit_line(
            f"ideal {job.ideal_s * 1e3:.1f} ms an iteration; idle: of steps of {job.compute_s * 1e3:.1f} ms computing "
            f"and one collective, {job.overlap:.0%} of it beside the computing; counts are of a run's "
            f"{wanted.warmup} + {wanted.iterations} iterations"
        )


def _judged(rows: Sequence[Row]) -> int:
    """The exit code. Raises RunInvalid when a scheme has no valid repeat."""
    from traffic.scheme_rows import without_proof

    if any(one.wrong for row in rows for one in row.repeats):
        return 1
    if because := without_proof(rows):
        raise RunInvalid(f"not every scheme has a valid repeat: {because}")
    return 0


def _plain(settings: RcSettings) -> dict[str, object]:
    """The settings as JSON has them: sets of hosts as lists."""
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(settings).items()}
