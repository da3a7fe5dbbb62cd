"""The measurement lease: who waits for whom, who passes, and what a run is told of."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from labs import index, lease
from labs.errors import NotReady
from labs.lease import changing, measuring
from labs.waiting import wait_until

Block = Callable[[], AbstractContextManager[object]]
SOON_S = 5.0


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index of the test's own, of which nothing may be left."""
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    yield tmp_path / "state"
    assert not (tmp_path / "state").exists()


@dataclass
class Other:
    """Another process that enters a block when told to, and stays in it."""

    pid: int
    go: int
    said: int

    def begin(self, *, enters: bool = True) -> int:
        os.write(self.go, b"!")
        assert not enters or os.read(self.said, 1) == b"!"
        return self.pid


@contextmanager
def ready(block: Block) -> Iterator[Other]:
    """Forked before this process holds anything: a child would hold its parent's locks too."""
    (told, go), (said, entered) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(told, 1)
            with block():
                os.write(entered, b"!")
                signal.pause()
        finally:
            os._exit(1)
    try:
        yield Other(pid, go, said)
    finally:
        end(pid)
        for fd in (told, go, said, entered):
            os.close(fd)
        lease.sweep()


@contextmanager
def elsewhere(block: Block) -> Iterator[int]:
    """Another process inside a block; its pid."""
    with ready(block) as other:
        yield other.begin()


def end(pid: int) -> None:
    """Kill a child, once."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_several_changes_go_on_at_once() -> None:
    with elsewhere(lambda: changing("a", "up")), changing("b", "up", within=0.0):
        pass


def test_one_measurement_at_a_time() -> None:
    with (
        elsewhere(lambda: measuring("a", "pause reaction")) as pid,
        pytest.raises(NotReady, match=rf"has waited .* for pause reaction of lab a \(pid {pid}") as refused,
        measuring("b", within=0.05),
    ):
        pass
    assert f"kill {pid}" in refused.value.remedy


def test_a_change_waits_says_so_once_and_names_the_holder() -> None:
    told: list[str] = []
    with (
        elsewhere(lambda: measuring("a", "pause reaction")) as pid,
        pytest.raises(NotReady, match=r"^up of lab b has waited .* s for pause reaction of lab a") as refused,
        changing("b", "up", within=0.1, tell=told.append),
    ):
        pytest.fail("it was let in")
    assert len(told) == 1
    assert told[0].startswith(f"up of lab b waits for pause reaction of lab a (pid {pid}, since ")
    assert f"kill {pid}" in refused.value.remedy


def test_a_measurement_waits_for_a_change_and_names_it() -> None:
    told: list[str] = []
    with (
        elsewhere(lambda: changing("b", "up")) as pid,
        pytest.raises(NotReady, match=rf"for up of lab b \(pid {pid}"),
        measuring("a", within=0.1, tell=told.append),
    ):
        pytest.fail("it was let in")
    assert len(told) == 1
    assert told[0].startswith(f"measurement of lab a waits for up of lab b (pid {pid}, since ")


def test_the_wait_ends_with_the_measurement() -> None:
    with elsewhere(lambda: measuring("a")) as pid:
        with pytest.raises(NotReady), changing("b", "up", within=0.0):
            pass
        end(pid)
        with changing("b", "up", within=SOON_S):
            pass


@pytest.mark.parametrize("block", [lambda: measuring("a"), lambda: changing("a", "up")])
def test_a_killed_holder_holds_nothing(block: Block, state: Path) -> None:
    with elsewhere(block) as pid:
        end(pid)
        assert (state / "lease").exists()
        with measuring("b", within=0.0), measuring("b", within=0.0) as inner:
            assert inner.disturbed() is None
        assert not state.exists()
        with changing("c", "up", within=0.0):
            pass


def test_sweep_takes_what_a_killed_holder_left_and_nothing_else(state: Path) -> None:
    with elsewhere(lambda: measuring("a")) as pid:
        lease.sweep()
        with pytest.raises(NotReady), changing("b", "up", within=0.0):
            pass
        end(pid)
        lease.sweep()
        assert not state.exists()


def test_a_waiting_measurement_goes_before_new_changes() -> None:
    """Else labs that come and go would keep it out for ever: one of them is always there."""
    with elsewhere(lambda: changing("b", "up")) as first, ready(lambda: measuring("a")) as other:
        second = other.begin(enters=False)
        queued = wait_until("it queues", lease._measurer, lambda who: who is not None, within=SOON_S)
        assert queued.held
        with pytest.raises(NotReady, match="for measurement of lab a"), changing("c", "up", within=0.0):
            pass
        end(first)
        assert wait_until("it measures", lease._changer, lambda who: who is None, within=SOON_S).held
        end(second)
        with changing("c", "up", within=SOON_S):
            pass


def test_the_measured_lab_may_be_changed_and_the_run_knows() -> None:
    with measuring("a") as held:
        assert held.own_changes == 0
        with changing("a", "a cut link", within=0.0), changing("a", "within it", within=0.0):
            pass
        assert (held.own_changes, held.disturbed()) == (1, None)
    assert (held.own_changes, held.disturbed()) == (1, None)  # as it was at its end


def test_another_process_may_change_the_measured_lab() -> None:
    with ready(lambda: changing("a", "down", within=SOON_S)) as other, measuring("a") as held:
        other.begin()
        assert (held.own_changes, held.disturbed()) == (1, None)


def test_the_next_measurement_waits_for_a_change_that_passed() -> None:
    """A change of lab a that the measurement of a let pass is still going on when that ends."""
    with ready(lambda: changing("a", "down", within=SOON_S)) as other:
        with measuring("a"):
            pid = other.begin()
        with pytest.raises(NotReady, match=rf"for down of lab a \(pid {pid}"), measuring("b", within=0.05):
            pass
        end(pid)
        with measuring("b", within=SOON_S) as held:
            pass
    assert held.own_changes == 0


def test_a_change_of_another_lab_in_the_same_thread_makes_the_run_invalid() -> None:
    """It cannot wait for itself; so it goes on, and the run is told."""
    with measuring("a") as held, changing("b", "up", within=0.0):
        pass
    because = held.disturbed()
    assert because is not None
    assert f"up of lab b (pid {os.getpid()}" in because


def test_a_measurement_inside_a_change_is_refused_at_once() -> None:
    began = time.monotonic()
    with changing("a", "up"), pytest.raises(NotReady, match="begins inside a change of lab a"), measuring("a"):
        pass
    with measuring("a"), pytest.raises(NotReady, match="begins inside a measurement of lab a"), measuring("b"):
        pass
    assert time.monotonic() - began < lease.WITHIN_S / 10  # refused, not waited for


def test_a_lock_that_was_removed_vouches_for_nothing(state: Path) -> None:
    with measuring("a") as held:
        (state / "lease" / "networking").unlink()
        with changing("a", "a cut link"):
            pass
    because = held.disturbed()
    assert because is not None
    assert "was removed during the measurement" in because


def test_changes_before_and_after_are_none_of_the_measurement() -> None:
    with changing("b", "up"):
        pass
    with elsewhere(lambda: changing("b", "down")) as pid:
        end(pid)
        with measuring("a", within=SOON_S) as held:
            pass
    with changing("b", "up"):
        pass
    assert (held.disturbed(), held.own_changes) == (None, 0)
    assert held.evidence()["own_changes"] == 0


def test_an_error_in_the_block_releases_it(state: Path) -> None:
    with pytest.raises(ZeroDivisionError), measuring("a"), changing("a", "up"):
        raise ZeroDivisionError
    assert not state.exists()
    with measuring("b", within=0.0), pytest.raises(ZeroDivisionError), changing("b", "up"):
        raise ZeroDivisionError


def test_a_torn_line_is_passed_over(state: Path) -> None:
    with measuring("a") as held:
        with (state / "lease" / "networking").open("a") as log:
            log.write('{"n": "1.1", "la\n')
        assert held.disturbed() is None


def test_the_cache_goes_with_the_last_lab(state: Path) -> None:
    (state / index.CACHE).mkdir(parents=True)
    (state / index.CACHE / "kernel.json").touch()
    with index.locked("a"):
        with changing("b", "up"):
            pass
        assert (state / index.CACHE / "kernel.json").exists()
    assert not state.exists()
