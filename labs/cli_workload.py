"""`railbed traffic --workload FILE` of a file that is no one collective: played as it stands, timed message by message.

nccl-tests defines no bus bandwidth for it. What is said is its time, its bytes over that, and when its messages were
done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.collective_trouble import explained
from labs.errors import RailbedError, RunInvalid
from labs.lab import Lab
from labs.output import OneLine, emit_json, emit_line
from labs.status import SCHEMA
from traffic.busbw import GB
from traffic.errors import TrafficError
from traffic.nccl_report import fitted

if TYPE_CHECKING:
    from labs import collective_bridge as bridge
    from traffic.completion import Completion
    from traffic.engines.graphs import EngineSettings
    from traffic.engines.rnic_rc import RankProgress
    from traffic.graph import Graph
    from traffic.placement import Placement


@dataclass(frozen=True, slots=True)
class AskedWorkload:
    """What is to be played: `graph` is the file's, `warmup` of its iterations are not timed."""

    file: Path
    graph: Graph
    placement: Placement
    engine: EngineSettings
    iterations: int
    warmup: int = 0
    check: bool = True

    @property
    def size(self) -> int:
        """Bytes that ranks send each other, in one iteration."""
        return int(self.graph.matrix.sum())

    @property
    def messages(self) -> int:
        """How many messages that are."""
        return sum(1 for send in self.graph if not send.is_local)

    def __str__(self) -> str:
        ranks = f"{self.graph.ranks} ranks"
        return f"{self.file}: {self.messages} messages of {ranks}, {self.size} bytes, {self.warmup} + {self.iterations}"


def play_workload(
    lab: Lab, asked: AskedWorkload, form: str, write: Callable[[dict[str, object]], None], how_far: HowFar
) -> int:
    """Play it, and say what became of it; `write` is given the JSON. The exit code, as for a collective."""
    from labs import collective_bridge as bridge

    if form == "table":
        emit_line(f"# railbed workload {asked} iterations")
    line = OneLine()
    watch = (lambda ranks: line(how_far(ranks))) if line.on else None
    rounds = asked.warmup + asked.iterations
    played = bridge.play(
        lab, asked.graph, asked.placement, asked.engine, iterations=rounds, check=asked.check, watch=watch
    )
    line.clear()
    took = played.report.took_s(asked.warmup)
    trouble = None
    if played.report.error or took is None:
        because = played.report.error or "not all iterations were done"
        trouble = TrafficError(f"{asked.file}: {explained(lab, asked.placement.hosts, because)}")
    document = _document(lab, asked, played, took, trouble)
    write(document)
    if form == "json":
        emit_json(document)
    elif took is not None:
        for text in lines(asked.size, asked.messages, took, played.report.wrong, _completion(asked, played)):
            emit_line(text)
    if trouble:
        raise trouble
    if played.report.wrong:
        return 1
    if played.invalid_because:
        raise RunInvalid(f"the run cannot vouch for its times: {played.invalid_because}")
    return 0


HowFar = Callable[[Sequence["RankProgress"]], str]


def lines(size: int, messages: int, took_s: float, wrong: int | None, completion: Completion | None) -> tuple[str, ...]:
    """The table: one line of the whole, one of completion times, one of slowdowns."""
    found = [
        f"# {'size':>10}  {'messages':>8}  {'time':>9}  {'algbw':>8}  #wrong",
        f"# {'(B)':>10}  {'':>8}  {'(us)':>9}  {'(GB/s)':>8}",
        "  ".join(
            (
                f"{size:12d}",
                f"{messages:8d}",
                f"{fitted(took_s * 1e6, 9):>9}",
                f"{size / GB / took_s:8.5f}",
                f"{'N/A' if wrong is None else wrong:>6}",
            )
        ),
    ]
    if completion is not None:
        fct, slow = completion.fct_s, completion.slowdown
        found += [
            f"# {'':>10}  {'p50':>9}  {'p95':>9}  {'p99':>9}  {'max':>9}",
            f"{'fct (us)':>12}"
            + "".join(f"  {fitted(one * 1e6, 9):>9}" for one in (fct.p50, fct.p95, fct.p99, fct.largest)),
            f"{'slowdown':>12}" + "".join(f"  {one:9.2f}" for one in (slow.p50, slow.p95, slow.p99, slow.largest)),
            f"# Jain index {completion.jain:.4f} of {completion.messages}",
        ]
    return tuple(found)


def _completion(asked: AskedWorkload, played: bridge.Played) -> Completion | None:
    from labs.completion_bridge import completion_of

    return completion_of(played, asked.placement, asked.engine)


def _document(
    lab: Lab, asked: AskedWorkload, played: bridge.Played, took: float | None, trouble: RailbedError | None
) -> dict[str, object]:
    from dataclasses import asdict

    from labs import collective_bridge as bridge
    from traffic.engines.graphs import engine_name

    completion = _completion(asked, played)
    try:
        flows = [{**asdict(flow), "path": list(flow.path)} for flow in bridge.flow_lines(lab, played)]
    except RailbedError:
        if trouble is None:
            raise
        flows = []  # a host that is down knows no paths; what failed is said already
    because = str(trouble) if trouble else played.invalid_because
    whole: Mapping[str, object] = {
        "schema": SCHEMA,
        "workload": str(asked.file),
        "ranks": asked.graph.ranks,
        "messages": asked.messages,
        "size": asked.size,
        "iterations": asked.iterations,
        "time": None if took is None else round(took * 1e6, 6),
        "alg_bw": None if took is None else asked.size / GB / took,
        "nwrong": played.report.wrong,
        "errors": [str(trouble)] if trouble else [],
        "railbed": {
            "lab": lab.name,
            "engine": engine_name(asked.engine),
            "line_rate_bps": min(asked.placement.rates_bps().values()),
            "completion": completion.document() if completion else None,
            "retransmits": played.report.retransmits,
            "ce": played.report.ce,
            "lost_packets": played.report.lost_packets,
            "pfc_pauses": played.pauses,
            "marked": played.marked,
            "dropped": played.dropped,
            "faulty_hosts": bridge.faulty_hosts(played),
            "flows": flows,
            "valid": because is None,
            "invalid_because": because,
        },
    }
    return dict(whole)
