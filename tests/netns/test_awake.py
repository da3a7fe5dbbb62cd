"""Processors are kept awake in a control group of the lowest class: a real one, which needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labs.errors import CapabilityMissing
from labs.telemetry.awake import GROUP, kept_awake, spun_ns, tree
from labs.telemetry.host_watch import HostWatch
from labs.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "1")
    found = tree()
    if found is None:
        raise CapabilityMissing("control groups", "no controller shares out processors here, or this is a container")
    return found


def members(group: Path) -> list[int]:
    return [int(word) for word in (group / "cgroup.procs").read_text().split()]


def test_they_are_of_the_lowest_class_among_groups_and_leave_none(root: Path) -> None:
    group = root / f"{GROUP}{os.getpid()}"
    with kept_awake(), HostWatch() as watch:
        assert len(members(group)) == len(os.sched_getaffinity(0))
        assert (group / "cpu.idle").read_text() == "1\n"
        before = spun_ns()
        wait_until("they run", spun_ns, lambda ns: ns > before, within=30.0)
    assert not group.exists()
    assert 0 < watch.sample().kept_awake <= 1
    assert watch.sample().cpu_pressure is None


def test_nothing_is_left_of_a_killed_parent(root: Path) -> None:
    program = (
        "import signal\nfrom labs.telemetry.awake import kept_awake\n"
        "with kept_awake():\n print('in', flush=True)\n signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"in\n"
        group = root / f"{GROUP}{parent.pid}"
        pids = members(group)
        assert pids
        parent.send_signal(signal.SIGKILL)
    assert wait_until("the group is gone", group.exists, lambda there: not there, within=30.0).held
    alive = wait_until(
        "they are gone",
        lambda: [pid for pid in pids if Path(f"/proc/{pid}").exists()],
        lambda left: not left,
        within=30.0,
    )
    assert alive.held
