"""What became of flows: did each survive, did each take the path it was to take?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labs.verdicts import Evidence, Verdict
from traffic.flows import FiveTuple, FlowResult, StreamResult, TrafficReport, Transport

MOST_ROWS = 12
Ports = tuple[str | tuple[str, ...], ...]
"""What a flow leaves by, hop by hop; a tuple is several ports of one hop."""


@dataclass(frozen=True, slots=True)
class _Life:
    """One stream as (start, end, bytes) intervals: `stall_s` the longest silence, `grain_s` the widest interval.

    `blind` says why the stream cannot be judged.
    """

    name: str
    alive: bool
    stall_s: float
    grain_s: float
    blind: str | None = None


def no_flow_lost_for_good(report: TrafficReport, *, final_s: float) -> Verdict:
    """Judge that every stream still moved bytes in the last `final_s` seconds of its life, or had sent its size.

    A flow with a size lives when it sent all of it and its engine ended without error (iperf3's receiver stops
    reading when the sender is done, so what it received says less). A flow with a duration lives as long as its
    sender ran (`FlowResult.duration_s`). Where the engine has the receiver's view, that is judged: a UDP sender does
    not notice that nothing arrives.

    Invalid when there are no flows, when intervals are coarser than `final_s`, or when a UDP stream was seen by its
    sender only. The longest stall of each flow is in the evidence; it is as fine as the intervals.
    """
    lives = [life for result in report for life in _lives(result, final_s)]
    dead = [life for life in lives if not life.alive and life.blind is None]
    blind = [life for life in lives if life.blind is not None]
    stalls = sorted(lives, key=lambda life: life.stall_s, reverse=True)
    longest = stalls[0].stall_s if stalls else 0.0
    said = f"{len(dead)} of {len(lives)} streams were lost for good" if dead else f"{len(lives)} streams lived on"
    verdict = Verdict(
        "no flow is lost for good",
        not dead and not blind and bool(lives),
        Evidence(
            f"{said}; longest stall {longest:.2f} s",
            {
                "streams": len(lives),
                "dead": [life.name for life in dead],
                "longest_stall_s": round(longest, 3),
                "granularity_s": round(max((life.grain_s for life in lives), default=0.0), 3),
                "final_s": final_s,
            },
            tuple(f"{life.name}: {_word(life)}, longest stall {life.stall_s:.2f} s" for life in (*dead, *stalls))[
                :MOST_ROWS
            ],
        ),
        budget_s=final_s,
    )
    if dead or (lives and not blind):
        return verdict
    return verdict.invalid(blind[0].blind or "" if blind else "there are no flows")


def path_prediction(predicted: Mapping[FiveTuple, Ports], observed: Mapping[FiveTuple, Ports]) -> Verdict:
    """Judge that every flow took exactly the predicted ports (``("leaf1:eth1", "spine2:eth3")``, in order).

    Where a prediction leaves several ports open (``(("leaf1:eth1", "leaf1:eth2"), "spine1:eth3")``), the packets were
    seen on any of them; what comes after is judged only when all went by the first, as it is the first's. A flow that
    was seen on several ports at a hop has them in a tuple too.

    Flows without a prediction are counted, not judged. Invalid when nothing is predicted, or when a predicted flow
    was not seen anywhere and no flow took a wrong path.
    """
    unseen = [flow for flow in predicted if flow not in observed]
    wrong = [flow for flow, path in predicted.items() if flow in observed and not _took(path, observed[flow])]
    rows = tuple(f"{flow}: took {_path(observed[flow])}, predicted {_path(predicted[flow])}" for flow in wrong)
    right = len(predicted) - len(unseen) - len(wrong)
    loose = [flow for flow, path in predicted.items() if any(len(_open(hop)) > 1 for hop in path)]
    held = len([flow for flow in loose if flow in observed and flow not in wrong])
    said = f"{right} of {len(predicted)} flows took the predicted path"
    verdict = Verdict(
        "every flow takes the predicted path",
        bool(predicted) and not unseen and not wrong,
        Evidence(
            f"{said}, {held} of them one of several ways" if loose else said,
            {
                "predicted": len(predicted),
                "right": right,
                "one_of_several": held,
                "wrong": len(wrong),
                "not_seen": [str(flow) for flow in unseen[:MOST_ROWS]],
                "seen_without_prediction": len(observed.keys() - predicted.keys()),
            },
            rows[:MOST_ROWS],
        ),
    )
    if wrong or (predicted and not unseen):
        return verdict
    return verdict.invalid(f"{len(unseen)} flows were not seen" if unseen else "nothing is predicted")


def _took(predicted: Ports, observed: Ports) -> bool:
    for hop, seen in zip(predicted, observed, strict=False):
        allowed, ports = _open(hop), _open(seen)
        if not ports or not set(ports) <= set(allowed):
            return False
        if set(ports) != {allowed[0]}:
            return True  # what was predicted from here on is of another way
    return len(predicted) == len(observed)


def _open(hop: str | tuple[str, ...]) -> tuple[str, ...]:
    return (hop,) if isinstance(hop, str) else hop


def _lives(result: FlowResult, final_s: float) -> Iterator[_Life]:
    name = str(result.flow)
    if result.error is not None or not result.streams:
        yield _Life(f"{name} ({result.error or 'no stream was opened'})", alive=False, stall_s=0.0, grain_s=0.0)
        return
    for stream in result.streams:
        yield _life(f"{name} {stream.five_tuple.sport}", result, stream, final_s)


def _life(name: str, result: FlowResult, stream: StreamResult, final_s: float) -> _Life:
    moved = _moved(stream)
    end = result.duration_s
    stall = _longest_stall(moved, end)
    grain = max((stop - start for start, stop, _ in moved), default=0.0)
    if stream.five_tuple.transport is Transport.UDP and not stream.arrivals and stream.received_bytes == 0:
        return _Life(name, alive=False, stall_s=end, grain_s=grain)
    if stream.five_tuple.transport is Transport.UDP and not stream.arrivals:
        return _Life(name, False, stall, grain, f"{name}: seen by its UDP sender only, which does not notice loss")
    if result.flow.size_bytes is not None:
        complete = result.sent_bytes >= result.flow.size_bytes
        return _Life(name, alive=complete, stall_s=stall, grain_s=grain)
    if grain > final_s:
        return _Life(
            name, False, stall, grain, f"{name}: intervals of {grain:.2f} s cannot show the last {final_s:g} s"
        )
    late = sum(count for _, stop, count in moved if stop > end - final_s)
    return _Life(name, alive=late > 0, stall_s=stall, grain_s=grain)


def _moved(stream: StreamResult) -> list[tuple[float, float, int]]:
    if stream.arrivals:
        return [(seen.start_s, seen.end_s, seen.received_bytes) for seen in stream.arrivals]
    return [(seen.start_s, seen.end_s, seen.sent_bytes) for seen in stream.intervals]


def _longest_stall(moved: Iterable[tuple[float, float, int]], end: float) -> float:
    """Seconds between the end of one interval with bytes and the start of the next, or the flow's `end`."""
    longest, alive_until = 0.0, 0.0
    for start, stop, count in moved:
        if count:
            longest = max(longest, start - alive_until)
            alive_until = stop
    return max(longest, end - alive_until)


def _word(life: _Life) -> str:
    return "cannot be judged" if life.blind else "alive" if life.alive else "lost"


def _path(ports: Ports) -> str:
    return " > ".join(" or ".join(_open(hop)) for hop in ports) or "no port"
