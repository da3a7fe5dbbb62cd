"""Processors are kept awake by processes of the lowest class, which end with their block and with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.telemetry import awake
from labs.telemetry.awake import SPIN, is_virtual, is_wanted, kept_awake, spun_ns
from labs.telemetry.spin import leave_groups
from labs.waiting import wait_until
from topologies.errors import SpecError

ALL = len(os.sched_getaffinity(0))


def spinning(parent: int | None = None) -> list[int]:
    """The processes that keep awake for a process, by default this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(SPIN).encode() in words and words[-2] == str(parent or os.getpid()).encode():
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "1")
    yield
    assert not spinning()


@pytest.mark.usefixtures("always")
def test_one_a_processor_of_the_lowest_class_until_the_last_block_ends() -> None:
    with kept_awake():
        first = spinning()
        assert sorted(next(iter(os.sched_getaffinity(pid))) for pid in first) == sorted(os.sched_getaffinity(0))
        assert {os.sched_getscheduler(pid) for pid in first} == {os.SCHED_IDLE}
        with kept_awake():
            assert spinning() == first
        assert spinning() == first
    assert not spinning()


@pytest.mark.usefixtures("always")
def test_what_they_run_is_known_while_they_do_and_after() -> None:
    before = spun_ns()
    with kept_awake():
        spun = wait_until("they run", spun_ns, lambda ns: ns > before, within=30.0).last
        assert spun is not None
        again = wait_until("they go on", spun_ns, lambda ns: ns > spun, within=30.0).last
    assert again is not None
    assert spun_ns() >= again > spun > before
    assert spun_ns() == spun_ns()


def test_they_end_with_a_parent_that_is_killed() -> None:
    program = (
        "import signal\nfrom labs.telemetry.awake import kept_awake\n"
        "with kept_awake():\n print('in', flush=True)\n signal.pause()"
    )
    environment = {**os.environ, "RAILBED_KEEP_AWAKE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, cwd=SPIN.parents[2]
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"in\n"
        assert len(spinning(parent.pid)) == ALL
        parent.send_signal(signal.SIGKILL)
    gone = wait_until("they are gone", lambda: spinning(parent.pid), lambda pids: not pids, within=30.0)
    assert gone.held


@pytest.mark.usefixtures("always")
def test_a_forked_child_has_none_and_may_have_its_own() -> None:
    with kept_awake():
        child = os.fork()
        if not child:
            code = 1
            try:
                none = not spinning()
                with kept_awake():
                    code = int(not none or len(spinning()) != ALL)
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(spinning()) == ALL, "the parent's go on"


@pytest.mark.usefixtures("always")
def test_where_one_may_not_none_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = tmp_path / "spin.py"
    refused.write_text(
        f"import sys\nsys.path.insert(0, {str(SPIN.parents[2])!r})\nfrom labs.telemetry import spin\n"
        "if int(sys.argv[1]):\n    raise OSError\nspin.main(int(sys.argv[1]), int(sys.argv[2]))\n"
    )
    monkeypatch.setattr(awake, "SPIN", refused)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with kept_awake():
        assert not awake._awake.running
    monkeypatch.undo()


def test_who_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAILBED_KEEP_AWAKE", raising=False)
    monkeypatch.setattr(awake, "is_virtual", lambda: True)
    assert is_wanted()
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "0")
    assert not is_wanted()
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "yes")
    with pytest.raises(SpecError, match=r"RAILBED_KEEP_AWAKE=yes.*0 \(never\), 1 \(always\)"):
        is_wanted()
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu vme\n")
    assert not is_virtual(cpuinfo)
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu hypervisor vme\n")
    assert is_virtual(cpuinfo)
    assert not is_virtual(tmp_path / "none")


def test_it_leaves_the_group_that_shares_out_processors(tmp_path: Path) -> None:
    """Version 1, version 2 beside it without the controller, version 2 alone; none where it is at the root."""
    (tmp_path / "cpu,cpuacct").mkdir()
    old, new = tmp_path / "cpu,cpuacct" / "cgroup.procs", tmp_path / "cgroup.procs"
    leave_groups("3:cpuset:/a\n2:cpu,cpuacct:/user\n0::/user.slice\n", tmp_path)
    assert (old.read_text(), new.exists()) == (str(os.getpid()), False)
    (tmp_path / "cgroup.controllers").touch()
    leave_groups("0::/\n", tmp_path)
    assert not new.exists()
    leave_groups("0::/user.slice/user-1000.slice\n", tmp_path)
    assert new.read_text() == str(os.getpid())
