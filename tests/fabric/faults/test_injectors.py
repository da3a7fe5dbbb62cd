"""FAULT-1: two who break things at once, faults whose time is over or whose maker is gone, and what is in their way."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from labs import index, kernel, reaper
from labs.errors import SpecError
from labs.faults import catalogue
from labs.faults.injecting import (
    Injected,
    active_faults,
    add,
    hold,
    revert,
    revert_all,
    state_restored,
    to_be_compared,
)
from labs.faults.state import STATE_FILE
from labs.kinds import software
from labs.lab import Lab
from labs.telemetry import telling
from labs.telemetry.live import LiveTimeline
from labs.telemetry.records import FaultEvent
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
        try:
            with hold(lab, catalogue.fault("link-down"), "leaf1:spine1"):
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child ended with {os.WEXITSTATUS(status)}"
    waited = wait_until("it is taken back", lambda: active_faults(lab.name), lambda left: not left, within=LATE_S)
    assert waited.held, waited.last
    assert state_restored(lab, BACK_WITHIN)


def ended(timeline: LiveTimeline, number: str) -> list[tuple[str, str]]:
    """What the timeline says of the end of a fault: phases, and by whom."""
    told = [one for one in timeline.read().of(FaultEvent) if one.id == number]
    return [(one.phase, one.by) for one in told if one.phase not in {"injecting", "made"}]


def gone_within(lab: Lab, within: float) -> bool:
    return wait_until("it is taken back", lambda: active_faults(lab.name), lambda left: not left, within=within).held


@pytest.mark.lab("clos_frr")
def test_a_dead_recorder_is_started_before_a_fault_counts_on_it(lab: Lab, timeline: LiveTimeline) -> None:
    """SIGKILL of the Recorder: who asks for a fault with a time starts the next one, which ends it."""
    answer = telling.answers(lab.name)
    assert answer is not None
    os.kill(answer.pid, signal.SIGKILL)
    dead = wait_until("it is gone", lambda: telling.answers(lab.name), lambda said: said is None, within=5.0)
    assert dead.held
    made = add(lab, catalogue.fault("link-down"), "leaf1:spine1", for_s=0.5)
    assert gone_within(lab, 0.5 + LATE_S)
    assert ended(timeline, made.id) == [("reverting", "the Recorder"), ("reverted", "the Recorder")]
    assert state_restored(lab, BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_what_is_in_the_way_of_an_end_is_tried_again(lab: Lab, timeline: LiveTimeline) -> None:
    """The node has no power when its fault is due: it fails, is told, and is over soon after the node is back."""
    made = add(lab, catalogue.fault("mtu-mismatch"), "leaf1:spine1", {"end": "spine1"}, for_s=1.0)
    lab.stop("spine1")
    failed = wait_until("it failed", lambda: ended(timeline, made.id), lambda seen: "failed" in dict(seen), within=15)
    lab.start("spine1")
    assert failed.held, failed
    assert gone_within(lab, 15.0)
    assert ended(timeline, made.id)[-1] == ("reverted", "the Recorder")
    assert lab.wait_converged(BACK_WITHIN)
    assert state_restored(lab, BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_a_lab_that_is_locked_when_a_fault_is_due(lab: Lab) -> None:
    """Whoever holds the lab's lock keeps the fault for as long; it ends once the lock is free."""
    add(lab, catalogue.fault("link-down"), "leaf1:spine1", for_s=0.5)
    with index.locked(lab.name, wait=True):
        assert not gone_within(lab, 1.5)
    assert gone_within(lab, LATE_S)
    assert state_restored(lab, BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_reap_says_that_it_ended_a_fault_and_the_comparison_is_still_due(lab: Lab, timeline: LiveTimeline) -> None:
    made = add(lab, catalogue.fault("link-down"), "leaf1:spine1")
    journal = index.journal(lab.name)
    entry = next(one for one in journal.open_entries() if one.change.undo == "fault")
    with index.locked(lab.name, wait=True):
        reaper._take_back(lab.name, journal, (entry,), "railbed reap")
    assert ended(timeline, made.id) == [("reverting", "railbed reap"), ("reverted", "railbed reap")]
    assert to_be_compared(lab.name)
    assert state_restored(lab, BACK_WITHIN)
    assert not to_be_compared(lab.name)


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize("fault", ["link-down", "flap", "node-crash"])
def test_a_port_that_was_down_before_stays_down(lab: Lab, fault: str) -> None:
    """Somebody shut leaf1's end by hand: a fault that comes and goes does not open it."""
    with kernel.inside_netns(lab.deployment.netns("leaf1")):
        kernel.set_link("eth1", up=False)
    try:
        made = add(lab, catalogue.fault(fault), "leaf1" if fault == "node-crash" else "leaf1:spine1")
        assert revert_all(lab)[0].id == made.id
        with kernel.inside_netns(lab.deployment.netns("leaf1")):
            assert not kernel.is_up("eth1")
    finally:
        with kernel.inside_netns(lab.deployment.netns("leaf1")):
            kernel.set_link("eth1", up=True)
        (index.lab_dir(lab.name) / STATE_FILE).unlink()  # it is of a lab with a shut port
    assert lab.wait_converged(BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_what_was_configured_by_hand_outlives_a_daemon(lab: Lab) -> None:
    """A line that nobody saved is there again after bgpd was killed and restarted."""
    node = lab.node("leaf1")
    asn, line = node.node.asn, "bgp cluster-id 192.0.2.9"
    for word in (line, f"no {line}"):
        node.run("vtysh", "-c", "configure terminal", "-c", f"router bgp {asn}", "-c", word)
        made = add(lab, catalogue.fault("daemon-kill"), "leaf1", {"daemon": "bgpd"})
        revert(lab, made.id)
        assert state_restored(lab, BACK_WITHIN), word
        assert (line in node.run("vtysh", "-c", "show running-config").stdout) == (word == line)
        said = software(node.kind).configuration(node)
        assert (f"bgpd: router bgp {asn} / {line}" in said) == (word == line), said
    assert lab.wait_converged(BACK_WITHIN)
