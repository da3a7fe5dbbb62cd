"""FAULT-1: two who break things at once, and faults whose time is over or whose maker is gone."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from labs.errors import SpecError
from labs.faults import catalogue
from labs.faults.injecting import Injected, active_faults, add, hold, revert_all, state_restored
from labs.lab import Lab
from labs.testing import SECOND, wait_until

BACK_WITHIN = 60 * SECOND
# The Recorder waits for the time itself; what is added is its own turn and the lab's lock.
LATE_S = 5.0


@pytest.mark.lab("clos_frr")
def test_two_injectors_at_once(lab: Lab) -> None:
    """Of many who cut one cable at the same moment one does, the others are told who. Other cables stay free."""

    def cut(link: str) -> Injected | str:
        try:
            return add(lab, catalogue.fault("link-down"), link)
        except SpecError as refused:
            return str(refused)

    with ThreadPoolExecutor(4) as pool:
        *same, other = pool.map(cut, ["leaf1:spine1", "leaf1:spine1", "leaf1:spine1", "leaf2:spine2"])
    made = [one for one in same if isinstance(one, Injected)]
    assert len(made) == 1
    assert isinstance(other, Injected)
    assert sorted(f"already faulted by {made[0].id}" in str(one) for one in same) == [False, True, True]
    assert {one.id for one in revert_all(lab)} == {made[0].id, other.id}
    assert state_restored(lab, BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_a_fault_ends_when_its_time_is_over(lab: Lab) -> None:
    """The Recorder takes it back; nobody has to wait for that in a shell."""
    made = add(lab, catalogue.fault("link-down"), "leaf1:spine1", for_s=1.0)
    assert active_faults(lab.name)[0].id == made.id
    waited = wait_until("it is taken back", lambda: active_faults(lab.name), lambda left: not left, within=1.0 + LATE_S)
    assert waited.held, waited.last
    assert state_restored(lab, BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_a_fault_ends_with_the_process_that_holds_it(lab: Lab) -> None:
    """SIGKILL of who holds a fault for a block: the Recorder takes it back."""
    child = os.fork()
    if child == 0:
        with hold(lab, catalogue.fault("link-down"), "leaf1:spine1"):
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    os.waitpid(child, 0)
    waited = wait_until("it is taken back", lambda: active_faults(lab.name), lambda left: not left, within=LATE_S)
    assert waited.held, waited.last
    assert state_restored(lab, BACK_WITHIN)
