"""What faults say of hosts' RoCE settings: added up, taken back by token, and seen in the settings of what starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from labs import index
from labs.faults import host_traffic
from labs.faults.host_traffic import FIXED_PORT, UNCONTROLLED, change, remarks, take_back, with_faults
from labs.lab import Lab
from traffic.engines.iperf3_plan import Iperf3Settings
from traffic.engines.rc_settings import RcSettings

LAB = cast("Lab", SimpleNamespace(name="quiet"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path))
    index.lab_dir(LAB.name).mkdir(parents=True)
    return index.lab_dir(LAB.name)


def test_without_faults_settings_are_what_was_asked_for() -> None:
    asked = RcSettings(qps=4)
    assert with_faults(LAB, asked) == asked
    assert with_faults(LAB, None) == RcSettings()
    assert remarks(asked) == {}


def test_two_faults_add_up_and_go_one_by_one(folder: Path) -> None:
    change(LAB.name, "a", UNCONTROLLED, ["host1"])
    change(LAB.name, "b", UNCONTROLLED, ["host2"])
    change(LAB.name, "c", FIXED_PORT, ["host1"])
    found = with_faults(LAB, RcSettings())
    assert remarks(found) == {"congestion control off": ["host1", "host2"], "one source port": ["host1"]}
    take_back(LAB.name, "a")
    assert cast("RcSettings", with_faults(LAB, None)).uncontrolled == {"host2"}
    for token in ("b", "c", "c"):
        take_back(LAB.name, token)
    assert not list(folder.iterdir())


def test_what_was_asked_for_stays() -> None:
    change(LAB.name, "a", UNCONTROLLED, ["host1"])
    found = with_faults(LAB, RcSettings(uncontrolled=frozenset({"host3"})))
    assert cast("RcSettings", found).uncontrolled == {"host1", "host3"}


def test_engines_without_such_cards_are_left_alone() -> None:
    change(LAB.name, "a", UNCONTROLLED, ["host1"])
    asked = Iperf3Settings()
    assert with_faults(LAB, asked) is asked
    assert remarks(asked) == {}


def test_every_setting_is_a_field_of_rnics() -> None:
    assert all(getattr(RcSettings(), name) == frozenset() for name in host_traffic.WORDS)
