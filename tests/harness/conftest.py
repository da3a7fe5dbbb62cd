"""A workstation of its own for every harness test: its own index and folder, and nothing of the caller's settings."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import scipy.stats  # noqa: F401 - a pytest inside this one would load numpy twice, which it does not stand

import labs.certifying
import labs.convergence
import labs.telemetry.host_watch
from labs.lab import open_lab
from labs.telemetry.samples import HostSample

Break = Callable[..., None]
# A fabric that is sound has converged at the first look, however busy the workstation; one that is broken never will.
PATIENT_S, IMPATIENT_S = 30.0, 0.2
NEVER = {"links_down", "silent", "unreachable"}


class CalmWatch:
    """A workstation that nothing disturbs: what is judged here is the harness, not the machine that tests it."""

    starved_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self) -> HostSample:
        return HostSample(duration_s=1.0, steal=0.0, starved_s=self.starved_s)


class StarvedWatch(CalmWatch):
    """One whose threads woke a minute late: nothing with a time limit holds there."""

    starved_s = 60.0


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The index's folder. Nobody looks on once a deadline has passed."""
    for name in [name for name in os.environ if name.startswith(("RAILBED_", "SUDO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RAILBED_KEEP_AWAKE", "0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labs.convergence, "HostWatch", CalmWatch)
    monkeypatch.setattr(labs.certifying, "HostWatch", CalmWatch)
    monkeypatch.setattr(labs.telemetry.host_watch, "stolen_under_load", lambda: 0.0)
    monkeypatch.setattr(labs.convergence, "GRACE_S", 0.0)
    monkeypatch.setattr(labs.convergence, "PATIENCE_S", 0.0)
    monkeypatch.setitem(open_lab.__kwdefaults__ or {}, "within", PATIENT_S)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "state"
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def starved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workstation was starved while it measured."""
    monkeypatch.setattr(labs.convergence, "HostWatch", StarvedWatch)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Break:
    """Say what is broken on the fake backend: ``broken(links_down=["leaf1:spine1"])``; ``broken()`` mends all."""

    def write(**what: object) -> None:
        (tmp_path / "fake.json").write_text(json.dumps(what))
        within = IMPATIENT_S if NEVER & what.keys() else PATIENT_S
        monkeypatch.setitem(open_lab.__kwdefaults__ or {}, "within", within)
        monkeypatch.setenv("RAILBED_FAKE", str(tmp_path / "fake.json"))

    return write
