from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from labs.errors import LabError
from labs.telemetry import host_watch
from labs.telemetry.host_watch import HostWatch, Patience, cpu_ticks, stalled_us, stolen_under_load

STAT = "cpu  {user} 0 10 {idle} 0 0 0 {steal} 5 0\ncpu0 1 2 3 4 5 6 7 8 9 0\nintr 1\n"
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=0\n"


class Clock:
    """Rises by `step` at every look."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step
        self.looked = threading.Event()
        self.looks = 0

    def __call__(self) -> float:
        self.now += self.step
        self.looks += 1
        if self.looks > 5:
            self.looked.set()
        return self.now


def proc(folder: Path, *, user: int, idle: int, steal: int, total: int | None = None) -> None:
    (folder / "stat").write_text(STAT.format(user=user, idle=idle, steal=steal))
    if total is not None:
        (folder / "pressure").mkdir(exist_ok=True)
        (folder / "pressure" / "cpu").write_text(PRESSURE.format(total=total))


def test_steal_is_the_stolen_share_of_all_ticks_in_between(tmp_path: Path) -> None:
    proc(tmp_path, user=100, idle=100, steal=50)
    with HostWatch(proc=tmp_path) as watch:
        proc(tmp_path, user=160, idle=120, steal=70)
    assert watch.sample().steal == pytest.approx(20 / 100)
    assert watch.sample().cpu_pressure is None


def test_pressure_is_the_share_of_the_time(tmp_path: Path) -> None:
    proc(tmp_path, user=1, idle=1, steal=0, total=1000)
    with HostWatch(proc=tmp_path, clock=Clock(1.0), period_s=60.0) as watch:
        proc(tmp_path, user=1, idle=1, steal=0, total=501_000)
        sample = watch.sample()
    assert sample.cpu_pressure == pytest.approx(0.5 / sample.duration_s)
    assert sample.steal == 0.0, "no tick has passed"


def test_lateness_is_what_the_clock_shows_beyond_the_period(tmp_path: Path) -> None:
    proc(tmp_path, user=1, idle=1, steal=0)
    clock = Clock(0.3)
    with HostWatch(proc=tmp_path, clock=clock, period_s=0.001) as watch:
        assert clock.looked.wait(5.0)
    assert watch.sample().starved_s >= 0.299


def test_after_the_block_the_sample_stands(tmp_path: Path) -> None:
    proc(tmp_path, user=1, idle=1, steal=0)
    with HostWatch(proc=tmp_path) as watch:
        pass
    assert watch.sample() == watch.sample()
    assert watch.sample().duration_s >= 0


def test_this_workstation_can_be_watched() -> None:
    with HostWatch() as watch:
        sample = watch.sample()
    assert sample.duration_s > 0
    assert 0.0 <= sample.steal <= 1.0
    assert not [thread for thread in threading.enumerate() if thread.name == "railbed-host-watch"]


def test_no_proc_is_an_error_of_the_testbed(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot read"), HostWatch(proc=tmp_path):
        pass
    with pytest.raises(LabError, match="no line for all CPUs"):
        cpu_ticks("intr 5\n")
    assert cpu_ticks("cpu 1 2 3 4\n") == ((10, 0),)
    assert cpu_ticks("cpu 2 0 0 8 0 0 0 2\ncpu0 1 0 0 4 0 0 0 2\n") == ((12, 2), (7, 2))
    assert stalled_us("nonsense") is None


def test_every_processor_is_kept_busy_while_steal_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread a processor computes, and what the worst of them loses meanwhile is what is said."""
    proc(tmp_path, user=100, idle=100, steal=50)
    working, all_work = set[int](), threading.Event()

    def hashed(_: bytes) -> None:
        working.add(threading.get_ident())
        if len(working) == os.cpu_count() and not all_work.is_set():
            proc(tmp_path, user=160, idle=120, steal=70)
            all_work.set()
        all_work.wait(10)

    monkeypatch.setattr(host_watch, "hashlib", SimpleNamespace(sha256=hashed))
    monkeypatch.setattr(host_watch, "HostWatch", lambda: HostWatch(proc=tmp_path))
    assert stolen_under_load(0.1) == pytest.approx(20 / 100)
    assert all_work.is_set()


def test_calm_is_waited_for_and_not_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [0.05, 0.2, 0.06, 0.05, 0.9]
    monkeypatch.setattr(host_watch, "stolen_under_load", lambda: taken.pop(0))
    patience = Patience(within=30.0, in_all=30.0)
    patience.wait_calm()
    assert (len(taken), patience.left_s) == (4, 30.0), "a look that is calm costs nothing"
    patience.wait_calm()
    assert taken == [0.9]
    assert patience.left_s < 30.0

    def look() -> float:
        taken.append(0.9)
        return 0.9

    monkeypatch.setattr(host_watch, "stolen_under_load", look)
    patience = Patience(within=0.1, in_all=0.15)
    patience.wait_calm()
    assert patience.left_s <= 0.05
    patience.wait_calm()
    assert patience.left_s <= 0
    seen = len(taken)
    patience.wait_calm()
    assert len(taken) == seen, "it is over"
