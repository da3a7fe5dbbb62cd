"""FAULT-1: two who break things at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from labs.errors import SpecError
from labs.faults import catalogue
from labs.faults.injecting import Injected, add, revert_all, state_restored
from labs.lab import Lab
from labs.testing import SECOND

BACK_WITHIN = 60 * SECOND


@pytest.mark.lab("clos_frr")
def test_two_injectors_at_once(lab: Lab) -> None:
    """Of many who cut one cable at the same moment one does, the others are told who. Other cables stay free."""

    def cut(link: str) -> Injected | str:
        try:
            return add(lab, catalogue.fault("link-down"), link)
        except SpecError as refused:
            return str(refused)

    with ThreadPoolExecutor(4) as pool:
        *same, other = pool.map(cut, ["leaf1:spine1", "leaf1:spine1", "leaf1:spine1", "leaf2:spine2"])
    made = [one for one in same if isinstance(one, Injected)]
    assert len(made) == 1
    assert isinstance(other, Injected)
    assert sorted(f"already faulted by {made[0].id}" in str(one) for one in same) == [False, True, True]
    assert {one.id for one in revert_all(lab)} == {made[0].id, other.id}
    assert state_restored(lab, BACK_WITHIN)
