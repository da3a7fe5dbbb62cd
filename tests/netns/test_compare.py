"""COMPARE-1: a build of a switch that converges more slowly is found; compared with itself it raises no alarm.

         spine1   spine2
           | \\    / |          two leaves, one host each: played again and again on `netns`, by turns as A and as B;
           |   \\/   |          leaf1:spine1 is cut and mended each time
         leaf1    leaf2

B is FRR as it comes: it gathers sessions for a second (`coalesce-time 1000`) before it tells them its routes, where
this project's switches wait 100 ms. That makes some 0.9 s of 1.4 s, six times the margin of 10 %.

At night 8 rounds, 95 % for all claims together: a tail of 0.05 / 2 / 5 = 0.005 for each limit, and 2⁻⁸ = 0.0039. By
day 6 rounds, 80 %: a tail of 0.02, and 2⁻⁶ = 0.016. Either way the limits are the extreme rounds, so an alarm takes
differences that are all beyond the margin on one side: in an A/A comparison whose rounds are beyond it by chance one
time of ten, on that side, this is five claims × 0.1⁶ = 5e-6. B's delay is beyond it in every round.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labs import index
from labs.compare import compare, make_plan
from labs.kinds.frr import recipe
from labs.lab import open_lab
from labs.request import Request
from labs.spec import LabSpec
from labs.verdicts import Verdict
from topologies.fabric import Fabric, Node

FABRIC = "{shape: leaf_spine, spines: 2, leaves: 2, hosts_per_leaf: 1}"
ROUNDS, CONFIDENCE = (8, 0.95) if os.environ.get("RAILBED_NIGHTLY") else (6, 0.8)
# How the patched recipe below knows B: a setting that changes nothing in a fabric without lost connections.
B_CONNECT_S = 11


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One recorded run of each, below the current folder; B's switches gather for a second."""
    original = recipe._context

    def slowed(node: Node, fabric: Fabric, spec: LabSpec) -> dict[str, object]:
        slow = {"coalesce_ms": 1000} if spec.bgp.connect_s == B_CONNECT_S else {}
        return {**original(node, fabric, spec), **slow}

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("compared"))
        patch.setattr(recipe, "_context", slowed)
        for name, connect in (("cmp-old", 10), ("cmp-new", B_CONNECT_S)):
            Path(f"{name}.yaml").write_text(f"fabric: {FABRIC}\nbgp: {{connect: {connect}}}\n")
            open_lab(Request(f"{name}.yaml", backend="netns", name=name, owned=True)).lab.close()
        yield


def judged(a: str, b: str) -> Mapping[str, Verdict]:
    """Every verdict by the first word of its claim; no lab of the comparison is left."""
    found = compare(make_plan(a, b, rounds=ROUNDS, confidence=CONFIDENCE))
    assert not [name for name in index.names() if name.startswith("cmp-")]
    return {verdict.claim.split()[0].rstrip(":"): verdict for verdict in found.verdicts}


@pytest.mark.nightly
@pytest.mark.usefixtures("runs")
def test_an_image_against_itself_raises_no_alarm() -> None:
    """A/A: nothing is called slower."""
    outcomes = {claim: verdict.evidence.numbers["outcome"] for claim, verdict in judged("cmp-old", "cmp-old").items()}
    assert "slower" not in outcomes.values(), outcomes
    assert outcomes["B"] == "no slower", "A settles as often as itself"


@pytest.mark.nightly
@pytest.mark.usefixtures("runs")
def test_a_slower_image_is_found() -> None:
    """Control: convergence is called slower, by more than half a second; both always come to rest."""
    verdicts = judged("cmp-old", "cmp-new")
    assert verdicts["B"]
    verdict = verdicts["converge_s"]
    assert not verdict
    numbers = verdict.evidence.numbers
    assert float(str(numbers["b_median_s"])) - float(str(numbers["a_median_s"])) > 0.5
