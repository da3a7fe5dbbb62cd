"""Graphs over `rnic rc`, with programs that are only pretended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from topologies.errors import RailbedError
from traffic.collectives import send_recv
from traffic.engines.base import CommandResult
from traffic.engines.rc_plan import RcPlans, plans
from traffic.engines.rc_report import rank_report
from traffic.engines.rnic_rc import RankProgress, RcRun, in_vain, start_rc
from traffic.errors import TrafficError
from traffic.graph import Graph, Send
from traffic.placement import one_each

NIC: dict[str, Any] = {
    "nic": 0, "dev": "eth1", "rate_bps": 1000, "packets": 10, "wire_bytes": 900, "busy_ns": 5,
    "paced_packets": 8, "late_packets": 1, "late_worst_ns": 2, "stretches": 1, "due_ns": 990, "took_ns": 1000,
    "mean_judged": False, "first_ns": 1, "last_ns": 9, "held_back_ns": 0, "held_back_times": 0, "host_drops": 0,
    "refused": 0, "error": None, "paced_ok": True,
}  # fmt: skip
COUNTS = (
    *("sent_packets", "sent_bytes", "sent_wire_bytes", "retransmitted", "timeouts", "naks", "went_back", "sent_past"),
    *("nonsense", "acks", "cnps"),
    *("received_packets", "received_bytes", "ce", "out_of_order", "duplicates", "beyond_window", "sent_naks"),
    *("sent_acks", "sent_cnps", "round_trips", "round_trip_min_ns", "round_trip_mean_ns", "round_trip_max_ns"),
    *("first_ns", "last_ns", "rate_bps", "cuts"),
)
HEAD: dict[str, Any] = {
    "program": "rnic", "mode": "rc", "version": 1, "go_ns": 1, "elapsed_ns": 10, "cpu_ns": 1, "woken_late_ns": 1,
    "ended": "stop", "failure": None, "iterations": 1, "wrong": 0, "left": 0, "overflow": 0, "foreign": 0,
    "malformed": 0, "unknown": 0, "corrupt": 0, "strangers": 0, "misplaced": 0, "round_trip_p50_ns": 1,
    "round_trip_p99_ns": 2,
}  # fmt: skip


def said(found: RcPlans, rank: int, *, counts: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    """What a rank writes that did everything: its messages took 1 µs each from 1000 ns on, an iteration 8 µs."""
    ends = [one.end(rank) for one in found.connections if rank in {one.one.rank, one.other.rank}]
    qps = [
        {"qp": end.number, "sport": end.sport, **dict.fromkeys(COUNTS, 0), **(counts or {}), "failed": False,
         "bin_ns": 1, "bins": [3]}
        for end in ends
    ]  # fmt: skip
    tasks = [
        {"task": task.number, "kind": kind, "step": 0, "bytes": task.size, "qp": task.connection.end(rank).number,
         "ready_ns": 1000, "begun_ns": 1000 if kind == "send" else 0, "done_ns": 2000 + 1000 * rank}
        for task in found.tasks
        for send in [found.graph.sends[task.place]]
        for kind, at in (("send", send.src), ("expect", send.dst))
        if task.connection is not None and at == rank
    ]  # fmt: skip
    count = found.iterations
    times = {"began_ns": [1000 + 8000 * n for n in range(count)], "ended_ns": [9000 + 8000 * n for n in range(count)]}
    return {**HEAD, "rank": rank, "iterations": count, **times, "nics": [NIC], "qps": qps, "tasks": tasks, **changes}


@dataclass
class FakeProcess:
    stdout: str
    ready: bool = True
    done: bool = True
    status: int = 0
    stderr: str = ""
    running: bool = True
    written: str = ""
    stopped: int = 0

    def said(self) -> str:
        return self.stdout

    iterations: int = 3
    of: int = 100
    deaf: bool = False

    def write(self, text: str) -> None:
        self.written += text
        word, *number = text.split()[:2]
        if word == "last":
            self.of = int(number[0]) if int(number[0]) >= self.iterations + 2 else self.of
        if word == "progress" and not self.deaf:
            self.stdout = (
                f"progress iterations={self.iterations} of={self.of} messages=9 sent_bytes=70 received_bytes=80 "
                f"number={number[0]}\n{self.stdout}"
            )

    def wait_ready(self, text: str, timeout: float) -> None:
        if not {"ready to": self.ready, "done\n": self.done}.get(text, text in self.stdout):
            raise RailbedError(f"not within {timeout} s")

    def wait(self, timeout: float) -> CommandResult:
        assert self.written.endswith("stop\n") or not self.running, timeout
        return self.stop()

    def stop(self) -> CommandResult:
        self.stopped += 1
        self.running = False
        return CommandResult(("rnic",), self.status, self.stdout, self.stderr)


@dataclass
class Workstation:
    """Starts pretended programs, by node."""

    found: RcPlans
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: dict[str, FakeProcess] = field(default_factory=dict)

    def __call__(self, node: str, argv: tuple[str, ...]) -> FakeProcess:
        assert argv[:2] == ("/bin/rnic", "rc")
        assert "--tied" in argv
        rank = int(node.removeprefix("h")) - 1
        report = json.dumps(said(self.found, rank, **self.changes.get(node, {})))
        self.started[node] = FakeProcess(f"ready to send and receive\ndone\n{report}\n", **self.settings.get(node, {}))
        return self.started[node]

    @property
    def left_running(self) -> list[str]:
        return [node for node, process in self.started.items() if process.running]


def planned(graph: Graph | None = None, iterations: int = 1) -> RcPlans:
    whole = graph or send_recv(2, [1, 0], size=1000)
    placement = one_each([f"h{number + 1}" for number in range(whole.ranks)])
    return plans(whole, placement, lambda host, _: f"10.0.0.{host[1:]}", iterations=iterations)


def started(workstation: Workstation) -> RcRun:
    return start_rc(workstation.found, workstation, binary="/bin/rnic")


def test_everybody_reads_its_plan_then_one_common_go_then_stop() -> None:
    workstation = Workstation(planned(iterations=3))
    run = started(workstation)
    report = run.finish(5)
    for rank, process in enumerate(workstation.started.values()):
        assert process.written == f"{workstation.found.texts[rank]}go {run.began_ns}\nstop\n"
    assert (report.error, report.wrong, workstation.left_running) == (None, 0, [])
    assert report.took_s() == pytest.approx(8e-6)
    assert report.took_s(warmup=2) == pytest.approx(8e-6)
    assert [one.took_s for one in report.sends] == pytest.approx([2e-6, 1e-6])
    assert run.finish(5) is report is run.stop()


def test_numbers_of_all_ranks_are_added_up() -> None:
    found = planned()
    counts: dict[str, dict[str, Any]] = {
        "h1": {"counts": {"retransmitted": 2, "ce": 3}},
        "h2": {"overflow": 4, "wrong": 5},
    }
    report = started(Workstation(found, changes=counts)).finish(5)
    assert (report.retransmits, report.ce, report.wrong, report.lost_packets) == (2, 3, 5, 4)
    assert (report.late_share, report.rate_error) == (0.125, None)
    late = {host: report.late_share_but_for(host) for host in ("h1", "h2", "h3")}
    assert late["h3"] == max(late["h1"], late["h2"]) == 0.125
    first = next(one for one in report.connections if one.src == 0)
    assert first.sent
    assert (first.bytes, first.sent.retransmitted) == (1000, 2)
    assert first.took_s == pytest.approx(2e-6)


def test_ranks_say_how_far_they_are_and_one_that_does_not_answer_is_left_out() -> None:
    workstation = Workstation(planned(iterations=100), settings={"h1": {"iterations": 7}})
    run = started(workstation)
    first, second = run.progress()
    assert first == RankProgress(0, "h1", 7, 100, 9, 70, 80)
    assert (second.host, second.iterations) == ("h2", 3)
    workstation.started["h2"].deaf = True
    assert [one.host for one in run.progress()] == ["h1"]
    run.stop()
    assert run.progress() == ()


def test_ranks_have_ended_when_they_are_gone_or_have_done_all_and_not_when_they_are_silent() -> None:
    workstation = Workstation(planned(iterations=100), settings={"h1": {"iterations": 100}})
    run = started(workstation)
    assert not run.has_ended()
    for one in workstation.started.values():
        one.deaf = True
    assert not run.has_ended()
    workstation.started["h2"].running = False
    assert not run.has_ended()
    workstation.started["h1"].running = False
    assert run.has_ended()
    workstation = Workstation(planned(iterations=100), settings={"h1": {"iterations": 100}, "h2": {"iterations": 100}})
    assert started(workstation).has_ended()


def test_who_watches_is_told() -> None:
    workstation = Workstation(planned(), settings={"h1": {"done": False}})
    run = started(workstation)
    run.clock = iter(range(1000)).__next__
    told: list[int] = []
    report = run.finish(50, lambda ranks: told.append(len(ranks)))
    assert told
    assert set(told) == {2}
    assert report.errors == ("h1 (rank 0): not done within 50 s",)


def test_all_ranks_end_after_one_iteration_that_none_has_begun() -> None:
    workstation = Workstation(planned(iterations=100), settings={"h1": {"iterations": 7}})
    run = started(workstation)
    last = run.end_soon()
    assert 9 <= last <= 100
    assert run.plans.iterations == last
    assert {process.of for process in workstation.started.values()} == {last}
    run.stop()


def test_how_far_ahead_the_last_iteration_is_follows_from_what_ranks_do_now() -> None:
    """A second of standing still before says nothing: 200 iterations in 0.1 s are 1000 in the half second ahead."""
    workstation = Workstation(planned(iterations=10_000))
    run = started(workstation)
    times, done = iter(range(10**6)), iter([1000, 1200])
    run.clock = lambda: next(times) * 1e-4
    run.began_ns = -(10**12)
    ahead = workstation.started["h2"]
    write = ahead.write

    def goes_on(text: str) -> None:
        ahead.iterations = next(done, 1200) if text.startswith("progress") else ahead.iterations
        write(text)

    ahead.write = goes_on  # type: ignore[method-assign]
    assert run.end_soon() == 1200 + 2 + 200 / 0.1 * 0.5
    run.stop()


def test_where_a_rank_was_too_far_a_later_iteration_is_the_last() -> None:
    workstation = Workstation(planned(iterations=1000))
    run = started(workstation)
    run.began_ns -= 10**12  # so slow that half a second ahead is one iteration
    ahead = workstation.started["h2"]
    ahead.deaf, ahead.iterations = True, 99  # it does not answer the first questions, and is far when told
    assert ended_soon_once_it_hears(run, ahead) == 102
    assert {process.of for process in workstation.started.values()} == {102}
    said_to = [line for line in workstation.started["h1"].written.splitlines() if line.startswith("last")]
    assert said_to == ["last 6", "last 102"]


def test_a_moment_of_standing_still_says_nothing_of_the_next() -> None:
    """1000 iterations in 10 s, and none while it is looked: 50 are to be expected in the half second ahead."""
    workstation = Workstation(planned(iterations=10_000), settings={"h1": {"iterations": 1000}})
    run = started(workstation)
    run.began_ns = 0
    times = iter(range(10**6))
    run.clock = lambda: 10 + next(times) * 1e-6
    assert run.end_soon() == pytest.approx(1000 + 2 + 50, abs=1)
    run.stop()


def test_a_rank_that_is_always_too_far_ahead_is_named() -> None:
    workstation = Workstation(planned(iterations=100_000))
    run = started(workstation)
    ahead = workstation.started["h2"]
    write = ahead.write

    def hurries(text: str) -> None:
        ahead.iterations += 5000 * text.startswith("last")
        ahead.of = 100_000
        write(text)

    ahead.write = hurries  # type: ignore[method-assign]
    with pytest.raises(TrafficError, match=r"not all ranks end after \d+ iterations: h2 \(rank 1\) ends after 100000"):
        run.end_soon()
    run.stop()


def ended_soon_once_it_hears(run: RcRun, process: FakeProcess) -> int:
    """`end_soon`, with a process that hears again once it was told which is the last."""
    write = process.write

    def hears(text: str) -> None:
        process.deaf = process.deaf and not text.startswith("last")
        write(text)

    process.write = hears  # type: ignore[method-assign]
    return run.end_soon()


def test_what_was_cut_short_is_timed_by_what_was_done() -> None:
    found = planned(iterations=3)
    changes: dict[str, dict[str, Any]] = {"h2": {"ended_ns": [9000, 17000], "began_ns": [1000, 9000, 17000]}}
    report = started(Workstation(found, changes=changes)).stop()
    assert (report.done, report.took_s()) == (2, None)
    assert report.cut_short().took_s() == pytest.approx(8e-6)
    assert report.cut_short().took_s(warmup=2) is None


def test_the_worst_card_tells_of_a_runs_pacing() -> None:
    found = planned()
    kept = {**NIC, "late_packets": 0, "due_ns": 10_000, "took_ns": 10_010, "mean_judged": True}
    off = {**kept, "due_ns": 10_000, "took_ns": 10_060, "paced_ok": False}
    report = started(Workstation(found, changes={"h1": {"nics": [kept]}, "h2": {"nics": [off]}})).finish(5)
    assert report.late_share == 0.0
    assert report.rate_error == pytest.approx(-0.00596, abs=1e-5)
    brief = {**off, "mean_judged": False}
    report = started(Workstation(found, changes={"h1": {"nics": [kept]}, "h2": {"nics": [brief]}})).finish(5)
    assert report.rate_error == pytest.approx(-0.001, abs=1e-5)
    unpaced = {**brief, "paced_packets": 0, "due_ns": 0, "took_ns": 0}
    report = started(Workstation(found, changes={"h1": {"nics": [unpaced]}, "h2": {"nics": [unpaced]}})).finish(5)
    assert (report.late_share, report.rate_error) == (0.0, None)


@pytest.mark.parametrize("what", ["host", "port"])
def test_what_does_not_start_is_named_and_nothing_is_left(what: str) -> None:
    in_use = "rnic: bind to port 4791: Address already in use"
    workstation = Workstation(planned(), settings={"h2": {"ready": False, "stderr": in_use}} if what == "port" else {})

    def start(node: str, argv: tuple[str, ...]) -> FakeProcess:
        if what == "host" and node == "h2":
            raise KeyError(node)
        return workstation(node, argv)

    message = {"port": "port 4791: Address already in use", "host": "'h2'"}[
        what
    ] + r"; its flows: h2 to h1 \(rank 1 to 0, "
    with pytest.raises(TrafficError, match=rf"h2 \(rank 1\): rnic does not start: .*{message}"):
        start_rc(workstation.found, start, binary="/bin/rnic")
    assert workstation.left_running == []


def test_a_neighbor_nobody_knows_is_named_with_its_flow() -> None:
    found = planned()
    because = f"rnic: qp {found.connections[0].one.number}: nobody on eth1 answers for its dst"
    workstation = Workstation(found, settings={"h1": {"ready": False, "stderr": because}})
    with pytest.raises(
        TrafficError, match=r"h1 to h2 \(rank 0 to 1, 10.0.0.1:\d+ > 10.0.0.2, qp \d+\): nobody on eth1"
    ):
        started(workstation)


def test_a_connection_that_fails_is_named_and_the_others_results_stay() -> None:
    found = planned(send_recv(4, [1, 0, 3, 2], size=1000))
    number = found.connections[0].one.number
    broken = {"failure": f"qp {number}: no acknowledgement after all retries", "ended": "failed", "wrong": None}
    unfinished: dict[str, Any] = {"wrong": None, "tasks": [], "ended_ns": [], "iterations": 0}
    workstation = Workstation(
        found,
        settings={"h1": {"done": False, "running": False}, "h2": {"done": False}},
        changes={"h1": {**broken, "tasks": [], "ended_ns": []}, "h2": unfinished},
    )
    report = started(workstation).finish(60)
    assert report.error is not None
    assert report.error.startswith("h1 to h2 (rank 0 to 1, 10.0.0.1:")
    assert report.error.endswith(": no acknowledgement after all retries")
    assert (report.wrong, report.took_s()) == (None, None)
    assert [one.done_s is None for one in report.sends] == [True, True, False, False]
    assert workstation.left_running == []


def test_who_is_not_done_in_time_is_named() -> None:
    workstation = Workstation(planned(), settings={"h2": {"done": False}})
    assert started(workstation).finish(0.05).errors == ("h2 (rank 1): not done within 0.05 s",)
    unfinished = Workstation(planned(), settings={"h2": {"done": False}}, changes={"h2": {"tasks": []}})
    under_way = started(unfinished).finish(0.05)
    assert under_way.errors == ("h2 (rank 1): not done within 0.05 s; under way: h1 to h2 (rank 0 to 1)",)
    assert workstation.left_running == []


def test_only_who_needs_a_failed_rank_is_given_up() -> None:
    into_zero = Graph("incast", 4, tuple(Send(rank, 0, 4, to_offset=4 * rank) for rank in (1, 2, 3)), 4, 16)
    assert in_vain(planned(into_zero), {1}) == {0, 1}
    assert in_vain(planned(into_zero, iterations=2), {1}) == {0, 1, 2, 3}
    chain = Graph("chain", 4, (Send(0, 1, 4), Send(1, 2, 4, (0,)), Send(3, 2, 4, to_offset=4)), 4, 8)
    assert in_vain(planned(chain), {0}) == {0, 1, 2}


@pytest.mark.parametrize(
    "change",
    [{"wrong": "0"}, {"nics": None}, {"qps": [{}]}, {"qps": [3]}, {"version": 2}, {"more": 1}, {"mode": "send"}],
)
def test_a_report_that_is_none_is_refused(change: dict[str, Any]) -> None:
    text = json.dumps({**said(planned(), 0), **change})
    with pytest.raises(TrafficError, match="h1: rnic"):
        rank_report("h1", CommandResult(("rnic",), 0, text, ""))


def test_a_program_that_crashed_is_an_error_of_its_host() -> None:
    workstation = Workstation(
        planned(), settings={"h2": {"status": -11, "stderr": "boom", "done": False, "running": False}}
    )
    report = started(workstation).finish(5)
    assert report.errors[0].startswith(
        "h2 (rank 1): rnic was ended by SIGSEGV: boom; its flows: h2 to h1 (rank 1 to 0, "
    )
    assert set(report.ranks) == {0}
