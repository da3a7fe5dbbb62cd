"""Waiting for routes and convergence on nodes that answer by script."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from labs import convergence
from labs.convergence import wait_routes
from labs.errors import NotReady
from labs.lab import Lab

Break = Callable[..., None]


pytestmark = pytest.mark.usefixtures("broken")


def test_routes_match(lab: Lab) -> None:
    verdict = lab.wait_routes_match(within=5)
    assert verdict.held
    assert verdict.valid
    assert verdict.budget_s == 5
    assert verdict.evidence.summary.startswith("routes match: after 0.")


def test_routes_of_a_cut_fabric(lab: Lab, broken: Break) -> None:
    broken(links_down=["leaf1:spine1"])
    assert lab.wait_routes_match(lab.fabric.without("leaf1:spine1"), within=5).held
    broken()
    assert not lab.wait_routes_match(lab.fabric.without("leaf1:spine1"), within=0.05).held


def test_routes_that_do_not_come_are_listed(lab: Lab, broken: Break) -> None:
    broken(links_down=["leaf1:spine1"])
    verdict = lab.wait_routes_match(within=0.05)
    assert verdict.valid
    assert not verdict.held
    assert verdict.evidence.summary.startswith("routes match: not within 0.05 s")
    assert any(row.startswith("leaf1: ") and "missing eth1 (has eth2)" in row for row in verdict.evidence.rows)
    assert not any(row.startswith("leaf1: ") and "missing eth2" in row for row in verdict.evidence.rows)


def test_without_grace_nobody_looks_past_the_deadline(lab: Lab, broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(links_down=["leaf1:spine1"])
    monkeypatch.setattr(convergence, "GRACE_S", 60.0)
    began = time.monotonic()
    assert not lab.wait_routes_match(within=0.05, grace=False).held
    assert time.monotonic() - began < 30


def test_routes_that_come_late_say_by_how_much(lab: Lab, broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mended only once the deadline has passed: by the fifth look at leaf1."""
    broken(links_down=["leaf1:spine1"])
    monkeypatch.setattr(convergence, "GRACE_S", 20.0)
    looks = []
    look = convergence._Progressing.probe

    def probe(self: convergence._Progressing) -> tuple[str, ...]:
        looks.append(1)
        if len(looks) == 5:
            broken()
        return look(self)

    monkeypatch.setattr(convergence._Progressing, "probe", probe)
    verdict = lab.wait_routes_match(within=0.001)
    assert verdict.valid
    assert not verdict.held
    assert verdict.evidence.rows == ()
    assert "routes match: became true at " in verdict.evidence.summary
    assert "allowed 0.001 s" in verdict.evidence.summary


def test_starved_workstation_vouches_for_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labs.convergence.HostWatch.starved_s", 60.0)
    assert not lab.wait_routes_match(within=5).valid
    assert not lab.wait_converged(5).valid


def test_converged(lab: Lab) -> None:
    stages: list[str] = []
    verdict = lab.wait_converged(5, stages.append)
    assert verdict.held
    assert stages[-1] == "pings"


@pytest.mark.parametrize(
    ("what", "words"),
    [({"links_down": ["leaf1:spine1"]}, "leaf1: "), ({"unreachable": ["all"]}, "host1 > host2 (IPv4): 1 of 1 lost")],
)
def test_not_converged(lab: Lab, broken: Break, what: dict[str, list[str]], words: str) -> None:
    broken(**what)
    verdict = lab.wait_converged(0.05)
    assert verdict.valid
    assert not verdict.held
    assert any(words in row for row in verdict.evidence.rows), verdict.evidence


def test_daemon_that_does_not_answer_is_no_verdict(lab: Lab, broken: Break) -> None:
    broken(silent=["leaf2"])
    with pytest.raises(NotReady, match="leaf2: zebra, bgpd does not answer"):
        lab.wait_converged(5)


def test_timeout_scale_stretches_the_deadline(lab: Lab) -> None:
    lab.timeout_scale = 3.0
    assert lab.wait_routes_match(within=2).budget_s == 6
    assert wait_routes(lab.fabric, lab.nodes, lab.rendered.spec, within=2).budget_s == 2
