"""The scenarios that come along, as tests: each claim of each holds, and the lab is as it was afterwards.

The ordinary run plays the cheap ones that no other test does by hand, the nightly one all.

That a scenario can fail is seen in tests/harness/test_cli_run.py, and here: the same steps with a claim turned round.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs.pytest_scenarios import PlaysScenario
from labs.scenarios.load import catalog_names

TIMED = str(Path(__file__).with_name("timed_fault.yaml"))
ORDINARY = (
    "ring_beside_cut_link",
    "bytes_ledger",
    "link_down_recovery",
    "hash_collisions",
    "bfd_detects_blackhole",
    "rate_degrade",
)
NIGHTLY_TOO = tuple(name for name in catalog_names() if name not in ORDINARY)
LONGER = NIGHTLY_TOO if os.environ.get("RAILBED_NIGHTLY") == "1" else ()


@pytest.mark.scenario(*ORDINARY, TIMED, *LONGER)
def test_scenario(scenario: PlaysScenario) -> None:
    scenario.verify()
