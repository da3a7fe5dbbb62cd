"""docs/ecmp.md against what is computed: nobody checks a table of constants by eye."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labs.dataplane.config_db import HASH_FIELDS, EcmpRow
from labs.dataplane.load import catalog
from topologies.ecmp import EcmpBy, EcmpMode, EcmpRule, HashAlgorithm
from topologies.switch_hash import raw_hash

TEXT = (Path(__file__).parents[3] / "docs" / "ecmp.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]


def row(first: str) -> list[str]:
    (found,) = [cells for cells in ROWS if cells[0].startswith(f"`{first}`")]
    return found


@pytest.mark.parametrize("algorithm", HashAlgorithm)
def test_check_values(algorithm: HashAlgorithm) -> None:
    said = row(algorithm.name)[-1]
    if algorithm is HashAlgorithm.RANDOM:
        assert said == ""
    else:
        assert int(said, 16) == raw_hash(b"123456789", algorithm)


def test_every_mode_option_and_profile_has_a_row() -> None:
    for mode in EcmpMode:
        assert row(mode.name.lower())[1] if mode.name.lower() not in catalog() else mode.name.lower() in TEXT
    for option in set(EcmpRow.model_fields) - {"mode", "by"}:
        assert row(option)[2]
    for by in EcmpBy:
        assert f"`{by.name.lower()}`" in TEXT or f"`by: {by.name.lower()}`" in TEXT


def test_defaults() -> None:
    usual = EcmpRule()
    said = {option: row(option)[-1] for option in ("gap_us", "quantum", "marked", "idle_ms", "unbalanced_ms")}
    assert said == {
        "gap_us": str(usual.gap_ns // 1000),
        "quantum": str(usual.quantum),
        "marked": str(usual.marked).lower(),
        "idle_ms": str(usual.idle_ms),
        "unbalanced_ms": str(usual.unbalanced_ms),
    }


def test_fields_stand_in_the_order_in_which_they_are_hashed() -> None:
    listed = TEXT[TEXT.index("## Fields") : TEXT.index("## Algorithms")]
    table = "\n".join(line for line in listed.splitlines() if line.startswith("|"))
    assert tuple(re.findall(r"`([A-Z0-9_]+)`", table)) == HASH_FIELDS
