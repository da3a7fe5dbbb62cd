"""Targets, parameters and claims of faults: what is allowed, and what is said of what is not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from labs import index
from labs.errors import SpecError
from labs.faults import catalogue, daemons
from labs.faults.fault import REQUIRED, Fault, On, Param, Site, Step, clash
from labs.faults.injecting import Active, check_free, duration_of
from labs.faults.state import differences, judged
from labs.faults.undoing import gone, verbs
from labs.journal import Change, Entry, Journal, boot_id
from labs.lab import Lab
from labs.reaper import RECORDER_LATE_S, stale_faults
from labs.undo import identity


def nothing() -> None:
    """Make nothing."""


def a_fault(*params: Param, on: On = On.LINK, one_way: bool = False) -> Fault:
    return Fault("bit-rot", on, "rot", "eyes", "bits", lambda _: (), params, one_way)


def test_parameters_have_bounds_and_defaults() -> None:
    p = Param("p", "chance", kind=float, least=0, most=1)
    n = Param("n", "each n-th", default=256, kind=int, least=2, unit="packets")
    word = Param("daemon", "which", choices=("bgpd", "zebra"))
    assert a_fault(p, n, word).read_params({"p": "0.5", "daemon": "zebra"}) == {"p": 0.5, "n": 256, "daemon": "zebra"}
    for given, said in (
        ({}, "no p; allowed: p: a number, 0 to 1"),
        ({"p": "2", "daemon": "bgpd"}, "p=2; allowed: a number, 0 to 1"),
        ({"p": "nan", "daemon": "bgpd"}, "p=nan; allowed"),
        ({"p": "0.1", "daemon": "ospfd"}, "daemon=ospfd; allowed: bgpd | zebra"),
        ({"p": "0.1", "daemon": "bgpd", "n": "1.5"}, "n=1.5; allowed: a whole number, 2 or more packets"),
        ({"q": "1"}, "parameter 'q'; allowed: p, n, daemon"),
    ):
        with pytest.raises(SpecError) as told:
            a_fault(p, n, word).read_params(given)
        assert said in str(told.value)


def test_durations() -> None:
    assert [duration_of(text) for text in ("500ms", "10s", "2m", "1h", "0.5m", "24h")] == [
        0.5,
        10,
        120,
        3600,
        30,
        86400,
    ]
    for text in ("0", "0s", "10", "-1s", "10y", "25h", "1e3s", "", "10 s s", "99ms"):
        with pytest.raises(SpecError, match=r"allowed: 0\.1s to 24h"):
            duration_of(text)


@pytest.mark.parametrize(
    ("wanted", "taken", "met"),
    [
        ("leaf1/eth1/wire", "leaf1/eth1/wire", True),
        ("leaf1/eth1/wire", "leaf1", True),
        ("leaf1", "leaf1/eth1/wire", True),
        ("leaf1/eth1/wire", "leaf1/eth1/admin", False),
        ("leaf1/eth1", "leaf1/eth10", False),
        ("leaf1", "leaf10", False),
    ],
)
def test_claims_meet_above_and_below(wanted: str, taken: str, met: bool) -> None:
    assert (clash([wanted], [taken]) is not None) is met


def test_what_is_taken_is_refused_by_name() -> None:
    step = Step("x", {}, nothing, ("leaf1/eth1/wire",))
    taken = Active("f3", "random-loss", "leaf1:spine1", {}, ("leaf1/eth1/wire",), "now", None, None)
    check_free([step], ())
    with pytest.raises(SpecError, match=r"leaf1/eth1/wire is already faulted by f3 \(random-loss on leaf1:spine1\)"):
        check_free([step], (taken,))


def test_a_daemon_claims_what_is_restarted_with_it() -> None:
    """A zebra that is started again takes bgpd along: a drain of that switch would be gone unseen."""
    claims = daemons._claims({"node": "leaf1", "daemon": "zebra", "claimed": ["bgpd"]})
    assert clash(claims, ["leaf1/bgpd/drain"])
    assert not clash(daemons._claims({"node": "leaf1", "daemon": "bfdd", "claimed": []}), ["leaf1/bgpd/drain"])


def test_every_row_can_be_undone_and_tried() -> None:
    """Each row of the catalogue says all it has to, and has an example; each verb is there."""
    assert catalogue.faults().keys() == catalogue.examples().keys()
    assert verbs()
    for name, row in catalogue.faults().items():
        assert name == name.lower()
        assert "_" not in name
        assert all((row.imitates, row.detected_by, row.recovers)), name
        assert all(
            one.default is REQUIRED or one.read(one.default) == one.default for one in row.params if one.default
        ), name
        json.dumps(row.as_dict())
        assert callable(getattr(catalogue, name.replace("-", "_")))
    with pytest.raises(SpecError, match="fault 'cosmic-ray'; allowed: link-down"):
        catalogue.fault("cosmic-ray")


def test_differences_name_node_and_aspect() -> None:
    before = {
        "leaf1": {"links": ["eth1 up", "eth2 up"], "daemons": ["bgpd", "bgpd"]},
        "leaf2": {"links": ["eth1 up"]},
    }
    after = {
        "leaf1": {"links": ["eth1 up", "eth2 down"], "daemons": ["bgpd", "iperf3"]},
        "leaf2": {"links": ["eth1 up"]},
    }
    found = differences(before, after)
    assert [str(one) for one in found] == [
        "leaf1: daemons: - bgpd",
        "leaf1: links: - eth2 up",
        "leaf1: links: + eth2 down",
    ]
    verdict = judged(found, 5)
    assert not verdict.held
    assert verdict.evidence.summary == "3 of 5 facts differ: leaf1 daemons, leaf1 links"
    assert judged(differences(before, before), 5).held


class Routing:
    """A lab of one netns, in which this very process is."""

    def __init__(self, netns: Path) -> None:
        self.deployment = SimpleNamespace(netns=lambda _: netns)


def test_what_a_change_was_made_in_may_be_gone(tmp_path: Path) -> None:
    """A namespace or a device that is gone took the change along; one that is only closed to us did not."""
    here = cast("Lab", Routing(tmp_path / "none"))
    assert gone(here, {"node": "leaf1"}) == "the network namespace of leaf1 is gone"
    assert gone(here, {"token": "x"}) is None
    (tmp_path / "no-namespace").touch()
    assert gone(cast("Lab", Routing(tmp_path / "no-namespace")), {"node": "leaf1", "netdev": "eth9"}) is None


def an_entry(**more: object) -> Entry:
    return Entry(1, Change("fault", {"fault": "x", "until_ns": None, "boot": boot_id(), "steps": [], **more}))


def test_faults_that_outlived_their_process_or_time_are_stale() -> None:
    now = time.monotonic_ns()
    lives, over = an_entry(by=identity(os.getpid())), an_entry(by={"pid": 1, "start": 0, "boot": "another"})
    late, due = an_entry(until_ns=now - int((RECORDER_LATE_S + 1) * 1e9)), an_entry(until_ns=now - 1)
    stays, other = an_entry(), Entry(2, Change("netns", {"by": {"pid": 1, "start": 0, "boot": "x"}}))
    assert stale_faults((lives, over, late, due, stays, other)) == (over, late)


def test_ports_that_faults_have_set_down(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path))
    journal: Journal = index.journal("x")
    steps = [
        {"undo": "link-up", "args": {"node": "leaf1", "netdev": "eth1"}},
        {"undo": "ip-lines", "args": {"node": "leaf1", "lines": []}},
    ]
    made = journal.will(Change("fault", {"steps": steps}))
    assert index.cut_ports("x") == {("leaf1", "eth1")}
    index.journal("x").done(made)
    assert index.cut_ports("x") == frozenset()


def test_a_site_names_what_it_is() -> None:
    site = Site(lab=None, target="leaf1", params={})  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="allowed: a node"):
        _ = site.node
    with pytest.raises(SpecError, match="allowed: a link"):
        _ = site.cable
