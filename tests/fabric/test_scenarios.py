"""The scenarios of the smoke set, as tests: each claim of each holds, and the lab is as it was afterwards.

That a scenario can fail is seen in tests/harness/test_cli_run.py, and here: the same steps with a claim turned round.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.pytest_scenarios import PlaysScenario

TIMED = str(Path(__file__).with_name("timed_fault.yaml"))


@pytest.mark.scenario(
    "ring_beside_cut_link",
    "bytes_ledger",
    "link_down_recovery",
    "hash_collisions",
    "bfd_detects_blackhole",
    "rate_degrade",
    TIMED,
)
def test_scenario(scenario: PlaysScenario) -> None:
    scenario.verify()
