"""The command that plays collectives on a running lab: `railbed traffic`, with nccl-tests' flags, table and JSON.

What plays them is imported when it is needed: numpy comes with it, and other commands should not wait for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labs import cli_by_file as by_file
from labs import cli_traffic_compare, run_dir
from labs.cli_engines import ENGINES, engine_seed, given, settings_of
from labs.cli_options import dry_run_option, lab_option, number_of, rate_option, text_of, which
from labs.cli_workload import AskedWorkload, play_workload
from labs.errors import RailbedError, RunInvalid, SpecError
from labs.lab import Lab, adopt_lab
from labs.output import OneLine, emit_json, emit_line, emit_table, say
from labs.status import SCHEMA
from topologies.errors import Where
from topologies.units import GBIT
from traffic.busbw import parse_size
from traffic.engines.rc_settings import MTUS, Congestion, Recovery
from traffic.nccl_report import FlowLine, Report, Settings, footer, header, json_document, railbed_part, text_line

if TYPE_CHECKING:
    from labs import collective_bridge as bridge
    from labs import collective_sizes as sizes
    from traffic.engines.rnic_rc import RankProgress
    from traffic.graph import Graph

STARTED = "%Y-%m-%d %H:%M:%S"


class RunUnlessNamed(click.Group):
    """A group whose command is `run` where none is named: `railbed traffic all_reduce -b 1M`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Group."""
        if not args or args[0] in ctx.help_option_names:
            return super().parse_args(ctx, args)
        at = self._first_word(args)
        named = at < len(args) and args[at] in self.commands
        return super().parse_args(ctx, [args[at], *args[:at], *args[at + 1 :]] if named else ["run", *args])

    def _first_word(self, args: list[str]) -> int:
        """Where the first word stands that is neither an option nor what one takes."""
        options = [one for command in self.commands.values() for one in command.params if isinstance(one, click.Option)]
        taking = {name for one in options if not one.is_flag for name in one.opts}
        at = 0
        while at < len(args) and args[at].startswith("-"):
            at += 2 if args[at] in taking else 1
        return at


@click.group(cls=RunUnlessNamed)
def traffic() -> None:
    """Collectives on a running lab. `railbed traffic all_reduce -b 1M` is `railbed traffic run all_reduce -b 1M`."""


traffic.add_command(cli_traffic_compare.compare)


@traffic.command("list")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_patterns(form: str) -> None:
    """The patterns there are, and by which algorithms each can be played; the first is the default."""
    from traffic.patterns import ALGORITHMS

    rows = [(str(collective), ", ".join(played)) for collective, played in ALGORITHMS.items()]
    if form == "json":
        found = [{"pattern": str(one), "algorithms": list(played)} for one, played in ALGORITHMS.items()]
        emit_json({"schema": SCHEMA, "patterns": found})
        return
    emit_table(("pattern", "algorithms"), rows)


@traffic.command("run")
@click.argument("pattern", required=False, metavar="PATTERN")
@click.option("--matrix", help="alltoallv: a file of nccl-tests' byte matrix, row i to column j.")
@click.option("--matrix-scale", type=click.FloatRange(0), help="What its cells are multiplied with; default: 1.")
@click.option("--skew", help="alltoallv: zipf:ALPHA or spread:SHARE; default: spread:1, as nccl-tests.")
@click.option("--workload", help="A file instead of PATTERN: matrix, ns-3 flows, MSCCL XML, Chakra ET, SimAI text.")
@click.option("--communicators", help="Split ranks as NCCL_TESTS_SPLIT does, such as 'MOD 2' or a mask as 0x3.")
@click.option("--hosts", help="Which hosts, in the ranks' order: host1,host3,…; default: all.")
@click.option("-b", "--minbytes", default="32M", show_default=True, help="The least size; K, M, G are 1024s.")
@click.option("-e", "--maxbytes", help="The largest size; default: the least.")
@click.option("-i", "--stepbytes", default="1M", show_default=True, help="From size to size, unless -f says it.")
@click.option("-f", "--stepfactor", type=click.IntRange(1), default=1, help="From size to size, by this factor.")
@click.option("-n", "--iters", type=click.IntRange(1), default=20, show_default=True, help="Timed iterations.")
@click.option("-w", "--warmup-iters", "--warmup_iters", type=click.IntRange(0), default=1, show_default=True)
@click.option("-c", "--check", type=click.IntRange(0, 1), default=1, show_default=True, help="Whether data is checked.")
@click.option("-r", "--root", type=click.IntRange(0), default=0, show_default=True, help="The root's rank.")
@click.option("--algorithm", help="How it is played, such as ring, tree; `traffic list` has them.")
@click.option("--engine", default="rnic", show_default=True, help=f"What sends: {', '.join(ENGINES)}.")
@click.option("--udp", is_flag=True, help="iperf3: UDP at the card's rate, not TCP.")
@click.option("--mtu", type=click.Choice([str(one) for one in MTUS]), default="4096", show_default=True)
@click.option("--qps", type=click.IntRange(1, 256), default=1, show_default=True, help="Connections a pair of ranks.")
@click.option("--split", is_flag=True, help="Every message over all connections of its pair, not by turns.")
@click.option("--window", type=click.IntRange(1, 65536), default=256, show_default=True, help="Packets under way.")
@click.option("--recovery", type=click.Choice([str(one) for one in Recovery]), default="gbn", show_default=True)
@click.option("--any-order", is_flag=True, help="sr: no packet that overtook another makes one lost, within a window.")
@click.option("--cc", type=click.Choice([str(one) for one in Congestion]), default="none", show_default=True)
@click.option("--dilation", type=click.IntRange(1), default=1, show_default=True, help="DCQCN's times, stretched.")
@click.option("--dscp", type=click.IntRange(0, 63), default=26, show_default=True)
@click.option(
    "--ib-timeout",
    type=click.IntRange(5, 29),
    default=20,
    show_default=True,
    help="Time-out of a connection: 4.096 us x 2^this, as NCCL_IB_TIMEOUT.",
)
@click.option("--ib-retry-cnt", type=click.IntRange(0, 100), default=7, show_default=True, help="Then so many retries.")
@click.option("--rate", help="What a card sends with, such as 90Mbit; default: its link's rate.")
@click.option("--delay-us", type=click.FloatRange(0, 1e7), default=0, show_default=True, help="Propagation, one way.")
@click.option("--fixed-port", is_flag=True, help="One source port for all flows: no entropy for ECMP.")
@click.option("--seed", type=int, help="Queue pair numbers and ports come from it; default: the lab's.")
@click.option("-J", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write nccl-tests' JSON there.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@lab_option
@dry_run_option
def run_pattern(pattern: str | None, form: str, lab_name: str | None, dry_run: bool, **options: object) -> int:
    """Play a collective on a running lab, as nccl-tests would on its hosts: size by size, checked and timed.

    PATTERN is all_reduce, all_gather, reduce_scatter, alltoall, alltoallv, broadcast, reduce, gather, scatter,
    sendrecv or hypercube. A rank stands on every card of every host. Exit 1 when elements are wrong, 3 when the
    times prove nothing: the table or JSON is there all the same.
    """
    if pattern is None and options["workload"] is None:
        context = click.get_current_context()
        raise click.MissingParameter(ctx=context, param=context.command.params[0])
    if pattern is not None and options["workload"] is not None:
        raise SpecError(f"pattern {pattern} and --workload", allowed="one of them")
    lab = adopt_lab(which(lab_name))
    asked = _asked(lab, pattern, options, given())
    out = options["json_file"]
    file = out if isinstance(out, Path) else None
    if isinstance(asked, AskedWorkload):
        return _play_workload(lab, asked, form, file, dry_run=dry_run)
    if dry_run:
        of_sizes = ", ".join(str(asked.pattern.counted(asked.settings.ranks, one.size)) for one in asked.sizes)
        iterations = f"{asked.settings.warmup_iterations} + {asked.settings.iterations}"
        several = f"{len(asked.communicators)} communicators of " if asked.communicators else ""
        say(f"{lab.name}: {asked.pattern.collective.program} by {asked.pattern.algorithm} on {several}"
            f"{asked.settings.ranks} ranks would be played {iterations} times, of {of_sizes} bytes")  # fmt: skip
        return 0
    return _play(lab, asked, form, file)


def _play_workload(lab: Lab, asked: AskedWorkload, form: str, file: Path | None, *, dry_run: bool) -> int:
    if dry_run:
        say(f"{lab.name}: {asked} times, would be played")
        return 0
    return play_workload(lab, asked, form, lambda found: None if file is None else _write(file, found), how_far)


def _asked(
    lab: Lab, name: str | None, options: dict[str, object], chosen: frozenset[str]
) -> sizes.Asked | AskedWorkload:
    from labs import collective_bridge as bridge
    from labs import collective_sizes as sizes
    from traffic.patterns import Pattern, pattern

    engine = settings_of(options, chosen, seed=lab.seed)
    hosts = [word for word in (text_of(options["hosts"]) or "").split(",") if word]
    placement = bridge.ranks_on(lab, hosts, rate_bps=rate_option(options["rate"]))
    if name is None:
        file = Path(str(options["workload"]))
        by_file.refuse_beside("--workload", chosen, frozenset(by_file.CHOSEN) - by_file.SIZED, "what the file says")
        found = by_file.workload(file, len(placement.ranks))
        if not isinstance(found, Pattern):
            by_file.refuse_beside("--workload", chosen, by_file.SIZED, "the file's own sizes")
            return _asked_workload(lab, file, found, options, chosen)
    else:
        found = pattern(name, text_of(options["algorithm"]))
        uneven = by_file.uneven(found.collective, options, chosen, engine_seed(options, lab.seed))
        found = replace(found, uneven=uneven)
    ranks = found.ranks or len(placement.ranks)
    placement = by_file.first_ranks(placement, ranks, str(options["matrix"] or options["workload"] or name))
    split = by_file.communicators(text_of(options["communicators"]), ranks) if name is not None else ()
    if split and found.ranks:
        raise SpecError("--communicators with a matrix", allowed="a pattern or a skew: a matrix is of all its ranks")
    least = parse_size(str(options["minbytes"]))
    most = parse_size(text_of(options["maxbytes"]) or str(least))
    if found.uneven is not None and found.uneven.fixed is not None:
        least = most = found.uneven.fixed
    settings = Settings(
        collective=found.collective,
        ranks=len(split[0]) if split else ranks,
        least_bytes=least,
        most_bytes=most,
        step_bytes=parse_size(str(options["stepbytes"])),
        step_factor=number_of(options["stepfactor"]),
        iterations=number_of(options["iters"]),
        warmup_iterations=number_of(options["warmup_iters"]),
        validation=number_of(options["check"]) if options["engine"] == "rnic" else 0,
    )
    asked = sizes.Asked(found, placement, settings, engine, root=number_of(options["root"]), communicators=split)
    if options["engine"] != "rnic" or found.build is not None:
        asked.refuse(lab)
    return asked


def _asked_workload(
    lab: Lab, file: Path, graph: Graph, options: dict[str, object], chosen: frozenset[str]
) -> AskedWorkload:
    """A file is played once, unless `-n` or `-w` was said: its starts and sizes are those of one run."""
    from labs import collective_bridge as bridge

    hosts = [word for word in (text_of(options["hosts"]) or "").split(",") if word]
    places = bridge.ranks_on(lab, hosts, rate_bps=rate_option(options["rate"]))
    asked = AskedWorkload(
        file,
        graph,
        by_file.first_ranks(places, graph.ranks, str(file)),
        settings_of(options, chosen, seed=lab.seed),
        iterations=number_of(options["iters"]) if "iters" in chosen else 1,
        warmup=number_of(options["warmup_iters"]) if "warmup_iters" in chosen else 0,
        check=options["engine"] == "rnic" and bool(options["check"]),
    )
    if not asked.messages:
        raise SpecError("found no message between ranks", allowed="1 or more", where=Where(str(file)))
    bridge.refuse(lab, graph, asked.placement, asked.engine, asked.warmup + asked.iterations)
    return asked


def _play(lab: Lab, asked: sizes.Asked, form: str, file: Path | None) -> int:
    from labs import collective_sizes as sizes

    started = datetime.now().strftime(STARTED)  # noqa: DTZ005 - local time, as nccl-tests writes it
    if form == "table":
        _emit(header(asked.settings, asked.placement.hosts, asked.communicators))
    runs, trouble = _measure(lab, asked, form)
    report = _report(lab, asked, runs, trouble)
    if form == "table":
        _emit(footer(report))
        faulty: Mapping[str, list[str]] = report.railbed["faulty_hosts"]  # type: ignore[assignment]
        _emit([f"# a fault's doing: {how} on {', '.join(hosts)}" for how, hosts in faulty.items()])
    document = _document(asked, report, started)
    if file is not None:
        _write(file, document)
    if form == "json":
        emit_json(document)
    if trouble is not None:
        raise trouble
    if report.errors:
        return 1
    if because := sizes.invalid_because(runs):
        raise RunInvalid(f"the run cannot vouch for its times: {because}")
    return 0


def how_far(ranks: Sequence[RankProgress]) -> str:
    """How far a collective is: by its slowest host, and the payload that all have received."""
    if not ranks:
        return "nobody answers"
    slowest = min(ranks, key=lambda one: (one.iterations, one.received_bytes))
    received = sum(one.received_bytes for one in ranks) / 1e6
    return f"iteration {slowest.iterations} of {slowest.of} done on all hosts, {received:.0f} MB received"


def _measure(lab: Lab, asked: sizes.Asked, form: str) -> tuple[list[sizes.Measured], RailbedError | None]:
    """Size by size, each with its line at once; and what went wrong: what was measured until then is kept."""
    from labs import collective_sizes as sizes

    runs: list[sizes.Measured] = []
    line = OneLine()
    try:
        for one in sizes.measured(lab, asked, (lambda ranks: line(how_far(ranks))) if line.on else None):
            line.clear()
            runs.append(one)
            if form == "table":
                emit_line(text_line(one.line) + beside(one))
    except RailbedError as error:
        return runs, error
    finally:
        line.clear()  # whatever is said next does not stand behind it
    return runs, None


def _document(asked: sizes.Asked, report: Report, started: str) -> dict[str, object]:
    ended = datetime.now().strftime(STARTED)  # noqa: DTZ005 - local time, as nccl-tests writes it
    args = ["railbed", "traffic", asked.pattern.collective.program]
    return {"schema": SCHEMA, **json_document(report, args=args, started=started, ended=ended)}


def _write(file: Path, document: dict[str, object]) -> None:
    try:
        run_dir.write_json(file.parent, file.name, document)
    except OSError as error:
        raise SpecError(f"-J {file}: {error.strerror}", allowed="a file that can be written") from None


def beside(one: sizes.Measured) -> str:
    """What stands beside a line: the least time there is, in µs, and its share of the better side's."""
    ratio = one.line.ratio
    return f"  # ideal {one.line.ideal_s * 1e6:.0f} us" + (f", ratio {ratio:.3f}" if ratio is not None else "")


def _report(
    lab: Lab, asked: sizes.Asked, runs: Sequence[sizes.Measured], trouble: RailbedError | None = None
) -> Report:
    """All that was measured; with trouble, the flows are those of the run that had it, as far as they came."""
    from labs import collective_bridge as bridge
    from labs import collective_sizes as sizes
    from traffic.engines.graphs import engine_name

    unfinished = trouble.played if isinstance(trouble, sizes.Unfinished) else ()
    largest = unfinished[-1:] or [max(runs, key=lambda one: one.line.size).played[0]] if runs or unfinished else []
    rates = asked.placement.rates_bps().values()
    part = railbed_part(
        [one.line for one in runs],
        _flows(lab, largest[0], trouble) if largest else (),
        line_rate_bps=min(rates, default=GBIT),
        invalid_because=str(trouble) if trouble else sizes.invalid_because(runs),
    )
    counted = [*(played for one in runs for played in one.played), *unfinished]
    seen = {
        "lab": lab.name,
        "engine": engine_name(asked.engine),
        "engine_overhead_us": sizes.overhead_us(asked, largest[0]) if largest else None,
        "algorithm": asked.pattern.algorithm,
        "communicators": [list(one) for one in asked.communicators],
        "completion": _completed(asked, largest[0]) if largest else None,
        "retransmits": _summed([one.report.retransmits for one in counted]),
        "ce": _summed([one.report.ce for one in counted]),
        "lost_packets": sum(one.report.lost_packets for one in counted),
        "pfc_pauses": sum(one.pauses for one in counted),
        "marked": sum(one.marked for one in counted),
        "dropped": sum(one.dropped for one in counted),
        "faulty_hosts": bridge.faulty_hosts(largest[0]) if largest else {},
    }
    return Report(
        asked.settings,
        tuple(one.line for one in runs),
        asked.placement.hosts,
        {**part, **seen},
        str(trouble or ""),
        asked.communicators,
    )


def _completed(asked: sizes.Asked, played: bridge.Played) -> dict[str, object] | None:
    from labs.completion_bridge import completion_of

    found = completion_of(played, asked.placement, asked.engine)
    return found.document() if found else None


def _flows(lab: Lab, played: bridge.Played, trouble: RailbedError | None) -> tuple[FlowLine, ...]:
    from labs import collective_bridge as bridge

    try:
        return bridge.flow_lines(lab, played)
    except RailbedError:
        if trouble is None:
            raise
        return ()  # a host that is down knows no paths; what failed is said already


def _summed(counts: Sequence[int | None]) -> int | None:
    """None where nobody counted."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _emit(lines: Sequence[str]) -> None:
    for line in lines:
        emit_line(line)
