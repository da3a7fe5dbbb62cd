"""What `status` calls a node, a link and a lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labs import index
from labs.backends.base import NodeState
from labs.journal import Change
from labs.lab import Lab
from labs.status import status

Break = Callable[..., None]


pytestmark = pytest.mark.usefixtures("broken")


def odd(facts: dict[str, Any], what: str) -> dict[str, str]:
    """The nodes or links that are not as they should be."""
    return {item["name"]: item["state"] for item in facts[what] if item["state"] not in {"running", "up"}}


def test_sound(lab: Lab) -> None:
    facts = status(lab)
    assert (facts["state"], odd(facts, "nodes"), odd(facts, "links")) == ("ready", {}, {})
    assert facts["bgp"] == {"established": 16, "expected": 16}
    assert status(lab, starting=True)["state"] == "starting"


def test_link_down(lab: Lab, broken: Break) -> None:
    broken(links_down=["leaf1:spine1"])
    facts = status(lab)
    assert (facts["state"], odd(facts, "links"), odd(facts, "nodes")) == ("degraded", {"leaf1:spine1": "down"}, {})
    assert facts["bgp"] == {"established": 14, "expected": 16}


def test_link_with_a_fault_in_it(lab: Lab, broken: Break) -> None:
    broken(links_down=["leaf1:spine1", "leaf2:spine2"])
    journal = index.journal(lab.name)
    fault = journal.will(Change("fault", {"claims": ["leaf1/eth1/admin"], "steps": []}))
    assert odd(status(lab), "links") == {"leaf1:spine1": "faulted", "leaf2:spine2": "down"}
    journal.done(fault)
    assert odd(status(lab), "links") == {"leaf1:spine1": "down", "leaf2:spine2": "down"}


def test_daemons_that_do_not_answer(lab: Lab, broken: Break) -> None:
    broken(silent=["leaf2"])
    facts = status(lab)
    assert (facts["state"], odd(facts, "nodes")) == ("degraded", {"leaf2": "unready"})
    assert odd(facts, "links") == {}  # its kernel still tells of them


@pytest.mark.parametrize("state", [NodeState.STOPPED, NodeState.PAUSED])
def test_stopped_and_paused(lab: Lab, state: NodeState) -> None:
    (lab.stop if state is NodeState.STOPPED else lab.pause)("leaf3")
    facts = status(lab)
    assert (facts["state"], odd(facts, "nodes")) == ("degraded", {"leaf3": str(state)})
    assert bool(odd(facts, "links")) is (state is NodeState.STOPPED)  # who has no power tells of no link
    lab.start("leaf3")
    assert status(lab)["state"] == "ready"


def test_capabilities(lab: Lab, broken: Break) -> None:
    broken(missing={"soft-asic": "why"})
    assert status(lab)["capabilities"] == {"soft-asic": {"have": False, "because": "why"}}
