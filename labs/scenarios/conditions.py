"""What scenarios wait for, each under its name in words.py: a wait is a verdict, false when its time is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from labs.errors import CommandFailed, NotReady
from labs.kinds import driver
from labs.node import LiveNode
from labs.observe import ask_all
from labs.recovery_bridge import STARTUP_S, bgpd_age_s, watching
from labs.scenarios.running import Underway
from labs.scenarios.scenario import WaitStep
from labs.verdicts import Evidence, Verdict
from labs.verdicts.drain import drained
from labs.waiting import Waited, wait_until

T = TypeVar("T")
Waits = Callable[[Underway, WaitStep], Verdict]


def wait(run: Underway, step: WaitStep) -> Verdict:
    """Wait for a step's condition. Raises LabError where it cannot even be asked for."""
    return CONDITIONS[step.condition](run, step)


def wait_time(run: Underway, until_s: float) -> None:
    """Wait until so many seconds after the first step."""
    left = until_s - run.elapsed_s
    if left > 0:
        wait_until("its time has come", lambda: run.elapsed_s, lambda now: now >= until_s, within=left + 1.0, most=0.01)


def _routes_match(run: Underway, step: WaitStep) -> Verdict:
    return run.lab.wait_routes_match(run.without(step.without), within=step.within_s)


def _converged(run: Underway, step: WaitStep) -> Verdict:
    return run.lab.wait_converged(within=step.within_s)


def _sessions_up(run: Underway, step: WaitStep) -> Verdict:
    """BGP's, and where the lab has BFD its as well: one that has not come up yet misses nobody, a new one late."""
    lab = run.lab
    wanted = lab.fabric.session_ends
    watched = lab.rendered.spec.bgp.bfd is not None

    def up() -> tuple[int, int]:
        return sum(_asked(run, _established)), sum(_asked(run, lambda node: watching(lab, node))) if watched else wanted

    waited = wait_until("every session is up", up, lambda now: min(now) >= wanted, within=_scaled(run, step))
    bfd = f", {waited.last[1]} BFD sessions are up" if watched else ""
    return _judged(run, waited, f"{waited.last[0]} of {wanted} session ends are established{bfd}")


def _established(node: LiveNode) -> int:
    return sum(session.established for session in driver(node.kind).sessions(node))


def _asked(run: Underway, question: Callable[[LiveNode], int]) -> tuple[int, ...]:
    """What every switch says: none, where it does not answer because a fault of this run is on it.

    Raises LabError for others that do not answer.
    """

    def ask(node: LiveNode) -> int:
        try:
            return question(node)
        except (NotReady, CommandFailed):
            if not run.faulted(node.name):
                raise
            return 0

    return ask_all(ask, run.lab.switches)


def _sessions_down(run: Underway, step: WaitStep) -> Verdict:
    wanted = run.lab.fabric.session_ends

    waited = wait_until(
        "a session is down", lambda: sum(_asked(run, _established)), lambda up: up < wanted, within=_scaled(run, step)
    )
    return _judged(run, waited, f"{waited.last} of {wanted} session ends are established")


def _progress(run: Underway, step: WaitStep) -> Verdict:
    """Traffic of so many iterations that has come to its end goes no further: whether it did so well is a claim."""
    traffic = run.running[str(step.of)]
    before = {one.rank: one.iterations for one in traffic.progress()}
    ranks = traffic.operation.graph.ranks

    def fewest() -> tuple[int, bool]:
        now = traffic.progress()
        done = min((one.iterations - before.get(one.rank, 0) for one in now), default=0)
        return done, done < step.iterations and not traffic.endless and traffic.has_ended()

    name = f"every rank of {step.of} has done {step.iterations} more"
    waited = wait_until(name, fewest, lambda seen: seen[1] or seen[0] >= step.iterations, within=_scaled(run, step))
    done, ended = waited.last
    said = f"all {ranks} ranks have come to their end" if ended else f"the slowest of {ranks} ranks has done {done}"
    return _judged(run, waited, said)


def _reverted(run: Underway, step: WaitStep) -> Verdict:
    waited = wait_until(
        f"{step.of} is gone", lambda: run.gone(str(step.of)), lambda gone: gone, within=_scaled(run, step)
    )
    return _judged(run, waited, "it is gone" if waited.last else "it is still there")


def _drained(run: Underway, step: WaitStep) -> Verdict:
    lab, name = run.lab, run.faults[str(step.of)].target

    def look() -> Verdict:
        return drained(lab.fabric, name, [lab.routes(switch.node) for switch in lab.switches])

    waited = wait_until(f"nothing goes through {name}", look, lambda seen: seen.held, within=_scaled(run, step))
    return _judged(run, waited, waited.last.evidence.summary)


def _restart_ready(run: Underway, step: WaitStep) -> Verdict:
    waited = wait_until(
        "every bgpd is older than FRR's restart time",
        lambda: min(_asked(run, bgpd_age_s)),
        lambda youngest: youngest > STARTUP_S,
        within=_scaled(run, step),
        most=2.0,
    )
    return _judged(run, waited, f"the youngest is {waited.last} s old")


def _time(run: Underway, step: WaitStep) -> Verdict:
    wait_time(run, run.elapsed_s + step.within_s)
    return Verdict(f"{step.within_s:g} s pass", True, Evidence(f"{run.elapsed_s:.3f} s after the first step"))


def _scaled(run: Underway, step: WaitStep) -> float:
    return step.within_s * run.lab.timeout_scale


def _judged(run: Underway, waited: Waited[T], said: str) -> Verdict:
    verdict = Verdict(waited.condition, waited.held, Evidence(f"{waited}; {said}"), budget_s=waited.within_s)
    return run.watch.vouch(verdict, took_s=waited.took_s)


CONDITIONS: Mapping[str, Waits] = MappingProxyType(
    {
        "routes_match": _routes_match,
        "converged": _converged,
        "sessions_up": _sessions_up,
        "sessions_down": _sessions_down,
        "progress": _progress,
        "reverted": _reverted,
        "drained": _drained,
        "restart_ready": _restart_ready,
        "time": _time,
    }
)
