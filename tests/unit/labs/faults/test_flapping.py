"""When a flapping port goes and comes."""

from __future__ import annotations

from itertools import islice

from labs.faults.flapping import schedule


def test_it_keeps_to_its_period() -> None:
    turns = [(0.0, False), (0.25, True), (1.0, False), (1.25, True)]
    assert list(schedule(1.0, 0.25, 2)) == turns
    assert list(islice(schedule(1.0, 0.25, 0), 4)) == turns
    assert [at for at, _ in islice(schedule(0.1, 0.05, 0), 20000, 20002)] == [1000.0, 1000.05]
