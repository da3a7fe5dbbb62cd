"""FAULT-0: whoever makes a fault, or takes it back, is killed in the middle; all is as before after `revert --all`.

For every row of the catalogue that lasts, by its example: a child journals the fault and is gone (SIGKILL: nothing of
it can clean up); another takes it back and is gone likewise. Then everything is taken back, and links, queues, routes,
sysctls, processes, sessions, configuration and the soft ASIC's settings are compared, fact by fact.

      journal | step 1: deed, deed | step 2 | made          reverting | undo of step 2: deed | … | journal: done
             ^           ^         ^              ^                  ^                ^      ^
      journaled   in a step   after a step   at the end           told         in an undo  undone

A deed is a command, a signal, a word to asicd, a port set up or down. In the ordinary run each row has one pair of
these, in turn; in the nightly run it has each.

Within: a session whose peer's daemon was killed may wait for one connect timer of 10 s on either side, then routes
settle within 0.2 s; three times that for a workstation that does much else.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import NoReturn, ParamSpec, TypeVar

import pytest

from labs import kernel
from labs.channels import namespaces
from labs.dataplane import asic
from labs.faults import catalogue, processes, undoing
from labs.faults.fault import Example, Fault, Site, Step, locate
from labs.faults.injecting import active_faults, add, revert_all, state_restored
from labs.lab import Lab
from labs.testing import SECOND, ring_all_reduce
from labs.traffic_bridge import LabTraffic

BACK_WITHIN = 60 * SECOND
NIGHTLY = bool(os.environ.get("RAILBED_NIGHTLY"))
MAKING = ("journaled", "in a step", "after a step", "at the end")
BACK = ("undone", "in an undo", "told")
KILL = os.kill
P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def needed(example: Example, lab: Lab, traffic: LabTraffic) -> Iterator[None]:
    """The traffic without which a fault has nothing to act on."""
    if example.needs != "rnic":
        yield
        return
    with traffic.running(ring_all_reduce(lab.fabric.hosts[:2], size=1 << 20)):
        yield


def die(*_: object) -> NoReturn:
    """What no process can hear coming."""
    KILL(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


def deadly(deed: Callable[P, R]) -> Callable[P, R]:
    """The same deed, the last of its process."""

    def done(*args: P.args, **kwargs: P.kwargs) -> R:
        deed(*args, **kwargs)
        die()

    return done


def die_of_the_next_deed() -> None:
    """From now on whoever does something to the lab does no more than that."""
    namespaces._run = deadly(namespaces._run)
    kernel.set_link = deadly(kernel.set_link)
    asic.tell = deadly(asic.tell)
    os.kill = deadly(os.kill)
    vars(processes)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": deadly(subprocess.Popen)})


def dying(chosen: Fault, point: str) -> Fault:
    """The same fault, whose maker is killed at a point of it."""

    def steps(site: Site) -> list[Step]:
        found = list(chosen.steps(site))
        last = len(found) - 1 if point == "at the end" else 0

        def make(step: Step, at: int) -> None:
            if point == "journaled":
                die()
            if point == "in a step":
                die_of_the_next_deed()
            step.make()
            if at == last:
                die()

        return [replace(step, make=partial(make, step, at)) for at, step in enumerate(found)]

    return replace(chosen, steps=steps)


def killed(act: Callable[[], object]) -> None:
    """Let a child act and die of it."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child ended with {os.WEXITSTATUS(status)}"


def revert_and_die(lab: Lab, point: str) -> None:
    """Take everything back, up to a point."""
    known = dict(undoing.verbs())

    def undo(verb: str, of: Lab, args: Mapping[str, object]) -> None:
        if point == "told":
            die()
        if point == "in an undo":
            die_of_the_next_deed()
        known[verb](of, args)
        die()

    dying_verbs = {verb: partial(undo, verb) for verb in known}
    undoing.verbs = lambda: dying_verbs  # type: ignore[assignment]
    revert_all(lab)


def cases() -> Iterator[tuple[str, str, str]]:
    """Rows of the catalogue with a point of making and one of taking back."""
    rows = [name for name, one in catalogue.faults().items() if one.lasts]
    for at, name in enumerate(rows):
        if not NIGHTLY:
            yield name, MAKING[at % len(MAKING)], BACK[(at + at // len(MAKING)) % len(BACK)]
            continue
        yield from ((name, point, BACK[at % len(BACK)]) for point in MAKING)
        yield from ((name, "at the end", point) for point in BACK)


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize(("name", "making", "back"), list(cases()))
def test_a_killed_injector(lab: Lab, traffic: LabTraffic, name: str, making: str, back: str) -> None:
    """All is as it was, once everything is taken back."""
    chosen, example = catalogue.fault(name), catalogue.examples()[name]
    with needed(example, lab, traffic):
        # A workstation that cannot make the fault says so here, by CapabilityMissing: a skip with its reason.
        chosen.steps(locate(lab, chosen, example.target, example.params, example.sender))
        aimed = partial(add, target=example.target, params=example.params, sender=example.sender)
        killed(lambda: aimed(lab, dying(chosen, making)))
        assert [one.fault for one in active_faults(lab.name)] == [name]
        killed(lambda: revert_and_die(lab, back))
        assert [one.fault for one in active_faults(lab.name)] == [name], "it was closed before it was undone"
        assert [one.fault for one in revert_all(lab)] == [name]
        verdict = state_restored(lab, BACK_WITHIN)
    assert verdict, str(verdict)
    assert not active_faults(lab.name)


@pytest.mark.lab("clos_frr")
def test_what_was_left_is_seen(lab: Lab) -> None:
    """Control: with a fault that is still there, the comparison is false and names it."""
    made = add(lab, catalogue.fault("link-down"), "leaf2:spine2")
    verdict = state_restored(lab, within=0.5 * SECOND)
    assert not verdict
    assert any(row.startswith("leaf2: links: + eth2 up=False") for row in verdict.evidence.rows), verdict
    assert revert_all(lab)[0].id == made.id
    assert state_restored(lab, BACK_WITHIN)
