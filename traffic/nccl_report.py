"""A collective's report in nccl-tests' own words: its table line by line, and its JSON (src/util.cu of 2.19).

`railbed` in the JSON is what nccl-tests does not know: line rate, ideal time, flows, and whether the run is valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from topologies.errors import SpecError
from traffic.busbw import GB, Collective, bandwidth

JSON_VERSION = 3
VERSION = "2.19.6"  # of nccl-tests, whose lines these are
DEVICE = "railbed host"
PASSING_SHARE = 0.9  # of NCCL_TESTS_MIN_BW


@dataclass(frozen=True, slots=True)
class Side:
    """One half of a line: `took_s` seconds an iteration; `wrong` elements, None where they were not checked."""

    took_s: float
    alg_bw: float
    bus_bw: float
    wrong: int | None = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One size: `size` bytes, `count` elements. `ideal_s` is the least time there is, 0 where it is not known."""

    size: int
    count: int
    type: str
    redop: str
    root: int
    out_of_place: Side | None
    in_place: Side | None
    iterations: int = 20
    ideal_s: float = 0.0

    @property
    def sides(self) -> tuple[Side, ...]:
        """Those that were run."""
        return tuple(side for side in (self.out_of_place, self.in_place) if side is not None)

    @property
    def ratio(self) -> float | None:
        """The ideal time over the better side's: 1 is as fast as can be. None where one of them is not known."""
        if not self.sides or not self.ideal_s:
            return None
        return self.ideal_s / min(side.took_s for side in self.sides)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for, with nccl-tests' defaults. Sizes are in bytes; `step_factor` 1 goes by `step_bytes`."""

    collective: Collective
    ranks: int
    threads: int = 1
    gpus: int = 1
    least_bytes: int = 32 << 20
    most_bytes: int = 32 << 20
    step_bytes: int = 1 << 20
    step_factor: int = 1
    iterations: int = 20
    warmup_iterations: int = 1
    aggregated_iterations: int = 1
    validation: int = 1
    graph: int = 0
    min_bus_bw: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All lines of one run; `hosts` names the ranks' hosts, `railbed` is put under that key of the JSON.

    `trouble` is what kept it from its end; the lines are those that were there by then.
    """

    settings: Settings
    lines: tuple[Line, ...]
    hosts: tuple[str, ...] = ()
    railbed: Mapping[str, object] = field(default_factory=dict)
    trouble: str = ""
    communicators: tuple[tuple[int, ...], ...] = ()

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The hosts' places by communicator; one of all where nothing was split."""
        return self.communicators or (tuple(range(len(self.hosts))),)

    @property
    def average_bus_bw(self) -> float:
        """The mean of every side's busbw, in GB/s; not a number where nothing was run."""
        found = [side.bus_bw for line in self.lines for side in line.sides]
        return sum(found) / len(found) if found else float("nan")

    @property
    def errors(self) -> int:
        """How many sides had wrong elements: nccl-tests' count of out of bounds values."""
        return sum(1 for line in self.lines for side in line.sides if side.wrong)

    @property
    def okay(self) -> bool | None:
        """Whether the average reaches nine tenths of what was demanded; None when nothing was."""
        if self.settings.min_bus_bw is None:
            return None
        return self.average_bus_bw >= PASSING_SHARE * self.settings.min_bus_bw


def side(collective: Collective, took_s: float, *, size: int, ranks: int, wrong: int | None = 0) -> Side:
    """One half of a line from what was measured: the mean seconds of an iteration, and the wrong elements."""
    moved = bandwidth(collective, took_s, size=size, ranks=ranks)
    return Side(took_s, moved.alg_bw, moved.bus_bw, wrong)


def header(
    settings: Settings, hosts: Sequence[str] = (), communicators: Sequence[Sequence[int]] = ()
) -> tuple[str, ...]:
    """The lines before the first size. Of several communicators, a rank is named as its own one's, that is its group.

    Args:
        communicators: places in `hosts`; none where all are one.
    """
    groups = communicators or [range(len(hosts))]
    empty = f"# {'':>10}  {'':>12}  {'':>8}  {'':>6}  {'':>6}"
    halves = [f"  {'time':>7}  {'algbw':>6}  {'busbw':>6}  {'#wrong':>6}"] * 2
    units = [f"  {'(us)':>7}  {'(GB/s)':>6}  {'(GB/s)':>6}  {'':>6}"] * 2
    return (
        f"# nccl-tests version {VERSION} nccl-headers=0 nccl-library=0 (railbed)",
        f"# Collective test starting: {settings.collective.program}",
        _asked(settings),
        "#",
        "# Using devices",
        *(
            f"#  Rank {rank:2d} Group {group:2d} Pid {0:6d} on {hosts[place]:>10} device  0 [0000:00:00] {DEVICE}"
            for group, places in enumerate(groups)
            for rank, place in enumerate(places)
        ),
        "#",
        f"{empty}           out-of-place                       in-place          ",
        f"# {'size':>10}  {'count':>12}  {'type':>8}  {'redop':>6}  {'root':>6}{''.join(halves)} ",
        f"# {'(B)':>10}  {'(elements)':>12}  {'':>8}  {'':>6}  {'':>6}{''.join(units)} ",
    )


def _asked(settings: Settings) -> str:
    by_factor = settings.step_factor > 1
    step = f"{settings.step_factor}(factor)" if by_factor else f"{settings.step_bytes}(bytes)"
    return (
        f"# nThread {settings.threads} nGpus {settings.gpus} minBytes {settings.least_bytes} "
        f"maxBytes {settings.most_bytes} step: {step} warmup iters: {settings.warmup_iterations} "
        f"iters: {settings.iterations} agg iters: {settings.aggregated_iterations} "
        f"validation: {settings.validation} graph: {settings.graph} unalign: 0"
    )


def text_line(line: Line) -> str:
    """One size, as nccl-tests prints it; blanks for a side that was not run."""
    before = f"{line.size:12d}  {line.count:12d}  {line.type:>8}  {line.redop:>6}  {line.root:6d}"
    return before + "".join(_half(half) for half in (line.out_of_place, line.in_place))


def footer(report: Report) -> tuple[str, ...]:
    """The lines after the last size; where it did not come to its end, one of ours first that says so."""
    okay = {None: "", True: "OK", False: "FAILED"}[report.okay]
    failed = (f"# FAILED: {' '.join(report.trouble.split())}",) if report.trouble else ()
    return (
        *failed,
        f"# {'Out of bounds values':<20} : {report.errors} {'FAILED' if report.errors else 'OK'}",
        f"# {'Avg bus bandwidth':<20} : {report.average_bus_bw:g} {okay}",
        "#",
        f"# Collective test concluded: {report.settings.collective.program}",
        "#",
        "",
    )


def table(report: Report) -> str:
    """All of it."""
    lines = (
        *header(report.settings, report.hosts, report.communicators),
        *(text_line(line) for line in report.lines),
        *footer(report),
    )
    return "\n".join(lines) + "\n"


def fitted(value: float, width: int) -> str:
    """`value` with two decimals, or as many as fit `width`, or as a power of ten (nccl-tests' getFloatStr)."""
    for decimals in (2, 1, 0):
        text = f"{value:{width}.{decimals}f}"
        if len(text) <= width:
            return text
    return f"{value:{width}.{1 if width >= 7 else 0}e}"[:width]


def json_document(report: Report, *, args: Sequence[str] = (), started: str = "", ended: str = "") -> dict[str, object]:
    """nccl-tests' JSON, as values for `json.dumps`.

    Its odd ways are kept, for its readers: a root is text of six characters, truth is the text true or false, and
    what is no number is the text nan.

    Args:
        started: ``2026-01-31 23:59:59``, local time; so is `ended`.
    """
    return {
        "version": JSON_VERSION,
        "start_time": started,
        "args": list(args),
        "env": [],
        "nccl_version": 0,
        "config": _config(report),
        "results": [_result(line) for line in report.lines],
        "out_of_bounds": {"count": report.errors, "okay": _truth(report.errors == 0)},
        "average_bus_bandwidth": {
            "bandwidth": _number(report.average_bus_bw),
            "okay": "unchecked" if report.okay is None else _truth(report.okay),
        },
        "errors": [report.trouble] if report.trouble else [],
        "end_time": ended,
        "railbed": dict(report.railbed),
    }


def line_of(
    settings: Settings,
    *,
    size: int,
    count: int,
    out_of_place: Side | None,
    in_place: Side | None,
    type_name: str = "float",
    redop: str = "sum",
    root: int = 0,
    ideal_s: float = 0.0,
) -> Line:
    """A line with the words that fit its collective: no operation where nothing is added, no root where there is none.

    Raises SpecError when neither side was run.
    """
    if out_of_place is None and in_place is None:
        raise SpecError(f"{size} bytes that were not run", allowed="out of place, in place, or both")
    collective = settings.collective
    return Line(
        size,
        count,
        type_name,
        redop if collective.reduces else "" if collective is Collective.HYPERCUBE else "none",
        root if collective.rooted else -1,
        out_of_place,
        in_place,
        settings.iterations,
        ideal_s,
    )


@dataclass(frozen=True, slots=True)
class FlowLine:
    """What became of one flow. `path` names its ports, where they are known; `ce` counts packets that were marked."""

    src: str
    dst: str
    bytes: int
    fct_us: float
    ce: int | None = None
    retransmits: int | None = None
    path: tuple[str, ...] = ()


def railbed_part(
    lines: Sequence[Line], flows: Sequence[FlowLine], *, line_rate_bps: float, invalid_because: str | None = None
) -> dict[str, object]:
    """What stands under ``railbed`` of the whole: about the largest size, and every flow.

    Args:
        line_rate_bps: of a rank's card. `busbw_ratio` is busbw over it: 1 where nothing but the wire limits.
        invalid_because: why the run proves nothing; None for a valid one.
    """
    largest = max(lines, key=lambda line: line.size, default=None)
    best = max((side.bus_bw for side in largest.sides), default=0.0) if largest else 0.0
    return {
        "line_rate_bps": line_rate_bps,
        "busbw_ratio": best * GB * 8 / line_rate_bps,
        "ideal_time_us": _number(largest.ideal_s * 1e6) if largest and largest.ideal_s else None,
        "flows": [{**asdict(flow), "path": list(flow.path)} for flow in flows],
        "valid": invalid_because is None,
        "invalid_because": invalid_because,
    }


def _half(half: Side | None) -> str:
    if half is None:
        return " " * 33
    wrong = "    N/A" if half.wrong is None else f"  {half.wrong:6g}"
    took, alg_bw, bus_bw = fitted(half.took_s * 1e6, 7), fitted(half.alg_bw, 6), fitted(half.bus_bw, 6)
    return f"  {took:>7}  {alg_bw:>6}  {bus_bw:>6}{wrong}"


def _config(report: Report) -> dict[str, object]:
    settings = report.settings
    by_factor = settings.step_factor > 1
    return {
        "nthreads": settings.threads,
        "ngpus": settings.gpus,
        "minimum_bytes": settings.least_bytes,
        "maximum_bytes": settings.most_bytes,
        "step_factor" if by_factor else "step_bytes": settings.step_factor if by_factor else settings.step_bytes,
        "warmup_iters": settings.warmup_iterations,
        "iterations": settings.iterations,
        "aggregated_iterations": settings.aggregated_iterations,
        "validation": settings.validation,
        "graph": settings.graph,
        "blocking_collectives": _truth(False),
        "parallel_init": _truth(False),
        "per_iter_timing": _truth(False),
        "per_iter_skip": 0,
        "devices": [
            _device(rank, group, report.hosts[place])
            for group, places in enumerate(report.groups)
            for rank, place in enumerate(places)
        ],
    }


def _device(rank: int, group: int, host: str) -> dict[str, object]:
    words = {"hostname": host, "device": 0, "device_hex": "0000:00:00", "device_info": DEVICE}
    return {"rank": rank, "group": group, "pid": 0, **words}


def _result(line: Line) -> dict[str, object]:
    return {
        "size": line.size,
        "count": line.count,
        "type": line.type,
        "redop": line.redop,
        "root": f"{line.root:6d}",
        "out_of_place": _json_side(line.out_of_place),
        "in_place": _json_side(line.in_place),
        "actual_iterations": line.iterations,
        "experiment_name": "",
        "railbed": {"ideal_time_us": _number(line.ideal_s * 1e6) if line.ideal_s else None, "ideal_ratio": line.ratio},
    }


def _json_side(half: Side | None) -> dict[str, object] | None:
    if half is None:
        return None
    return {
        "time": _number(half.took_s * 1e6),
        "alg_bw": _number(half.alg_bw),
        "bus_bw": _number(half.bus_bw),
        "nwrong": None if half.wrong is None else float(half.wrong),
    }


def _number(value: float) -> float | str:
    """Six decimals, as C's %lf."""
    return "nan" if value != value else round(value, 6)  # noqa: PLR0124 - the one value that is not itself


def _truth(value: bool) -> str:
    return "true" if value else "false"
