"""A lab on the fake backend, and what breaks it, for the tests of what labs are asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from labs import convergence
from labs.lab import Lab, open_lab
from labs.request import Request
from labs.telemetry.samples import HostSample

Break = Callable[..., None]


class CalmWatch:
    """A workstation that nothing disturbs."""

    starved_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self) -> HostSample:
        return HostSample(1.0, 0.0, self.starved_s)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Break:
    for name in [name for name in os.environ if name.startswith(("RAILBED_", "SUDO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RAILBED_FAKE", str(tmp_path / "fake.json"))
    monkeypatch.setattr(convergence, "HostWatch", CalmWatch)
    monkeypatch.setattr(convergence, "GRACE_S", 0.0)
    monkeypatch.setattr(convergence, "PATIENCE_S", 0.0)
    monkeypatch.chdir(tmp_path)

    def write(**what: object) -> None:
        (tmp_path / "fake.json").write_text(json.dumps(what))

    write()
    return write


@pytest.fixture
def lab(broken: Break) -> Lab:
    broken()
    return open_lab(Request("clos_frr", backend="fake", seed=1), wait=False).lab
