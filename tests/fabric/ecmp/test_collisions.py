"""HASH-9 (V6): 4 flows over 4 uplinks meet as often as chance has it, and never where they are dealt in turn.

    host1 ─ leaf1 ═ spine1 … spine4 ═ leaf2 ─ host2        9.4 % of all draws have no collision (4!/4⁴), and 68.4 %
                                                           of the uplinks are used; 400 draws of source ports

V4, a thousand queue pairs over sixteen uplinks, is in test_switch_hash.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labs.ecmp_cases import v6
from labs.lab import Lab

pytestmark = pytest.mark.lab(str(Path(__file__).with_name("clos_4x2.yaml")), profile="roce_default")

Play = Callable[..., object]
Note = Callable[[object], None]
MODE = """
base: roce_default
RAILBED_ECMP:
  "*|3": {{mode: {mode}}}
"""


def test_four_flows_over_four_paths(lab: Lab, play: Play, note: Note) -> None:
    """Linux' own hash, and the hash engine's; control: dealt in turn, four flows never meet."""
    for mode in ("kernel", "switch_hash"):
        play(MODE.format(mode=mode))
        verdict = v6(lab, seed=4)
        note(f"{mode}: {verdict}")
        assert verdict
    play(MODE.format(mode="spray, by: round_robin"))
    control = v6(lab, seed=4)
    note(control)
    assert not control
