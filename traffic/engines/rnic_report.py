"""What `rnic` writes when it ends, read into values. What is not exactly that is refused, never guessed at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from traffic.engines.base import CommandResult
from traffic.errors import TrafficError

T = TypeVar("T")

VERSION = 1  # REPORT_VERSION in traffic/rnic/program.h


@dataclass(frozen=True, slots=True)
class RawSent:
    """One flow at its sender. Times are CLOCK_MONOTONIC.

    `packets` were handed to the network; `refused` and `host_drops` were not (the host's kernel said no, or its own
    queue dropped them), `skipped` were never meant to be. `late_packets` left more than `late_bound_ns` behind
    their schedule. `held_back_ns` is how long the host's port took nothing; it moves the schedule and is no fault.
    `paced_because` says which part of the pacing law was broken, or is None.
    """

    flow: int
    packets: int
    bytes: int
    wire_bytes: int
    next_sequence: int
    skipped: int
    refused: int
    host_drops: int
    icmp_errors: int
    first_ns: int
    last_ns: int
    rate_bps: int
    mean_bps: int
    mean_judged: bool
    late_packets: int
    late_bound_ns: int
    late_worst_ns: int
    held_back_ns: int
    held_back_times: int
    sndbuf: int
    error: str | None
    paced_ok: bool
    paced_because: str | None


@dataclass(frozen=True, slots=True)
class SenderReport:
    """One `rnic send`. `woken_late_ns` is how late the workstation woke it, at worst."""

    go_ns: int
    elapsed_ns: int
    cpu_ns: int
    woken_late_ns: int
    ended: str
    paced_ok: bool
    flows: tuple[RawSent, ...]


@dataclass(frozen=True, slots=True)
class Delays:
    """One-way delays from `rnic send` to the receiving host's link; p50 and p99 are at most 1/64 too high."""

    min: int
    mean: int
    p50: int
    p99: int
    max: int


@dataclass(frozen=True, slots=True)
class RawReceived:
    """One flow at its receiver.

    `lost` are gaps below the highest sequence number that came; what was lost after it only the sender knows.
    `unclear` packets came so late that nobody can say whether they are copies. `dscp` has packets per value.
    """

    flow: int
    src: str
    sport: int
    dport: int
    packets: int
    bytes: int
    ce: int
    ect0: int
    ect1: int
    not_ect: int
    dscp: Mapping[int, int]
    next_sequence: int
    lost: int
    reordered: int
    duplicates: int
    unclear: int
    corrupted: int
    first_ns: int
    last_ns: int
    delay_ns: Delays

    @property
    def unique_packets(self) -> int:
        """Packets, each once."""
        return self.packets - self.duplicates - self.unclear


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """One `rnic recv`. `overflow` packets reached the host and found its socket full: the counts vouch for nothing."""

    elapsed_ns: int
    cpu_ns: int
    ended: str
    packets: int
    strangers: int
    flows_left_out: int
    overflow: int
    log_records: int
    log_left_out: int
    flows: tuple[RawReceived, ...]


def sender_report(node: str, ended: CommandResult) -> SenderReport:
    """What an `rnic send` wrote. Raises TrafficError for a program that failed or wrote something else."""
    said = said_by(node, ended, "send")
    flows = tuple(value_of(node, RawSent, one) for one in _list(node, said))
    return value_of(node, SenderReport, {**said, "flows": flows})


def receiver_report(node: str, ended: CommandResult) -> ReceiverReport:
    """What an `rnic recv` wrote. Raises TrafficError as `sender_report`."""
    said = said_by(node, ended, "recv")
    return value_of(node, ReceiverReport, {**said, "flows": tuple(_received(node, one) for one in _list(node, said))})


def _received(node: str, said: Any) -> RawReceived:
    try:
        dscp = {int(value): _number(count) for value, count in said["dscp"].items()}
        return value_of(node, RawReceived, {**said, "dscp": dscp, "delay_ns": value_of(node, Delays, said["delay_ns"])})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise nonsense(node, error) from error


def said_by(node: str, ended: CommandResult, mode: str) -> dict[str, Any]:
    """The object an `rnic MODE` wrote last, without its head. Raises TrafficError when there is none."""
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if not ended.ok or not lines:
        raise TrafficError(f"{node}: rnic {mode} ended with {ended.status}: {ended.stderr.strip()[-400:]}")
    try:
        said = json.loads(lines[-1])
    except ValueError as error:
        raise nonsense(node, error) from error
    if not isinstance(said, dict):
        raise nonsense(node, "no object")
    head = (said.pop("program", None), said.pop("mode", None), said.pop("version", None))
    if head != ("rnic", mode, VERSION):
        raise nonsense(node, f"{head}, not {('rnic', mode, VERSION)}; run `make native`")
    return said


def _list(node: str, said: Mapping[str, Any]) -> list[Any]:
    flows = said.get("flows")
    if not isinstance(flows, list):
        raise nonsense(node, "no list of flows")
    return flows


def value_of(node: str, kind: type[T], said: Any) -> T:
    """A value with exactly the fields that were written, numbers where numbers belong."""
    annotations = kind.__annotations__
    if not isinstance(said, dict) or said.keys() != annotations.keys():
        odd = sorted(set(said) ^ annotations.keys()) if isinstance(said, dict) else said
        raise nonsense(node, f"{kind.__name__} is missing, or has too much: {odd}")
    for key, wanted in annotations.items():
        if not _fits(said[key], wanted):
            raise nonsense(node, f"{kind.__name__}.{key} is {said[key]!r}, no {wanted}")
    return kind(**said)


def _fits(found: Any, wanted: str) -> bool:
    match wanted:
        case "int":
            return type(found) is int and found >= 0
        case "int | None":
            return found is None or _fits(found, "int")
        case "bool":
            return isinstance(found, bool)
        case "str":
            return isinstance(found, str)
        case "str | None":
            return found is None or isinstance(found, str)
    return True


def _number(found: Any) -> int:
    if not _fits(found, "int"):
        raise ValueError(f"{found!r} is no count")
    return int(found)


def nonsense(node: str, what: object) -> TrafficError:
    """The error for a report that is none."""
    return TrafficError(f"{node}: rnic's report makes no sense: {what}")
