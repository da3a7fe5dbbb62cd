"""FAULT-0: whoever makes a fault is killed in the middle of it; `fault revert --all` gives back the very state before.

For every row of the catalogue that lasts, by its example: a child journals the fault, makes a first change, is gone
(SIGKILL: nothing of it can clean up). Then everything is taken back, and links, queues, routes, sysctls, processes,
sessions and the soft ASIC's settings are compared, fact by fact. In the nightly run it dies at every step there is.

Within: a session whose peer's daemon was killed may wait for one connect timer of 10 s on either side, then routes
settle within 0.2 s; three times that for a workstation that does much else.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from labs.faults import catalogue
from labs.faults.fault import Example, Fault, Site, Step, locate
from labs.faults.injecting import active_faults, add, revert_all, state_restored
from labs.lab import Lab
from labs.testing import SECOND, ring_all_reduce
from labs.traffic_bridge import LabTraffic

BACK_WITHIN = 60 * SECOND
NIGHTLY = bool(os.environ.get("RAILBED_NIGHTLY"))


@contextmanager
def needed(example: Example, lab: Lab, traffic: LabTraffic) -> Iterator[None]:
    """The traffic without which a fault has nothing to act on."""
    if example.needs != "rnic":
        yield
        return
    with traffic.running(ring_all_reduce(lab.fabric.hosts[:2], size=1 << 20)):
        yield


def dying(chosen: Fault, after: int) -> Fault:
    """The same fault, whose maker is killed once so many of its steps are made; the last is the last there is."""

    def steps(site: Site) -> list[Step]:
        found = list(chosen.steps(site))
        at = min(after, len(found)) - 1

        def make() -> None:
            if at >= 0:
                found[at].make()
            os.kill(os.getpid(), signal.SIGKILL)

        return [replace(step, make=make) if i == max(at, 0) else step for i, step in enumerate(found)]

    return replace(chosen, steps=steps)


def killed_while_making(lab: Lab, chosen: Fault, example: Example, after: int) -> None:
    """Let a child make the fault and die of it."""
    child = os.fork()
    if child == 0:
        try:
            add(lab, dying(chosen, after), example.target, example.params, sender=example.sender)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{chosen.name} was not made: the child ended with {os.WEXITSTATUS(status)}"


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize("name", [name for name, one in catalogue.faults().items() if one.lasts])
@pytest.mark.parametrize("after", [0, 1, 2, 99] if NIGHTLY else [1])
def test_a_killed_injector(lab: Lab, traffic: LabTraffic, name: str, after: int) -> None:
    """All is as it was, once everything is taken back."""
    chosen, example = catalogue.fault(name), catalogue.examples()[name]
    with needed(example, lab, traffic):
        # A workstation that cannot make the fault says so here, by CapabilityMissing: a skip with its reason.
        chosen.steps(locate(lab, chosen, example.target, example.params, example.sender))
        killed_while_making(lab, chosen, example, after)
        assert [one.fault for one in active_faults(lab.name)] == [name]
        assert [one.fault for one in revert_all(lab)] == [name]
        verdict = state_restored(lab, BACK_WITHIN)
    assert verdict, str(verdict)
    assert not active_faults(lab.name)


@pytest.mark.lab("clos_frr")
def test_what_was_left_is_seen(lab: Lab) -> None:
    """Control: with a fault that is still there, the comparison is false and names it."""
    made = add(lab, catalogue.fault("link-down"), "leaf2:spine2")
    verdict = state_restored(lab, within=0.5 * SECOND)
    assert verdict.valid
    assert not verdict.held
    assert any(row.startswith("leaf2: links: + eth2 up=False") for row in verdict.evidence.rows), verdict
    assert revert_all(lab)[0].id == made.id
    assert state_restored(lab, BACK_WITHIN)
