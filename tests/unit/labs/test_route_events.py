"""When routes changed, out of what ``ip -ts monitor route`` says."""

from __future__ import annotations

import pytest

from labs.errors import RunInvalid
from labs.route_events import RouteEvents, stamps

SAID = """\
[2026-11-21T14:00:00.250000] Deleted 10.1.0.1 proto bgp metric 20
\tnexthop via 10.0.0.1 dev eth1 weight 1
[2026-11-21T14:00:00.500000] 10.1.0.1 via 10.0.0.3 dev eth2 proto bgp metric 20
no stamp [2026-11-21T14:00:09.000000]
"""
AT = 1795269600.0  # 2026-11-21 14:00 UTC


def test_stamps_are_utc() -> None:
    assert stamps(SAID) == (AT + 0.25, AT + 0.5)
    assert stamps("") == ()


def test_last_change_of_all_before_it_was_seen() -> None:
    """Later changes belong to what came later; the first node may be a moment ahead of the cut."""
    heard = RouteEvents({"leaf1": (AT - 0.05, AT + 0.3), "leaf2": (AT + 0.4, AT + 5.0), "leaf3": (AT - 60,)})
    assert heard.last(["leaf1", "leaf2"], began=AT, seen=AT + 1) == pytest.approx(0.4)
    assert heard.last(["leaf1"], began=AT, seen=AT + 0.2) == 0.0


@pytest.mark.parametrize("events", [{}, {"leaf2": ()}, {"leaf2": (AT - 3600,)}, {"leaf2": (AT + 3600,)}])
def test_a_node_that_was_not_heard(events: dict[str, tuple[float, ...]]) -> None:
    """Nobody listened, or its clock is not ours."""
    with pytest.raises(RunInvalid, match="leaf2's kernel was not heard"):
        RouteEvents({"leaf1": (AT + 0.1,), **events}).last(["leaf1", "leaf2"], began=AT, seen=AT + 1)
