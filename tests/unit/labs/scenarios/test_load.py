"""What scenario files come to; what is wrong with one stands in tests/golden/bad_scenario."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from labs.errors import SpecError
from labs.scenarios import claims, conditions, words
from labs.scenarios.load import CATALOG, catalog_names, load_scenario, scenario_schema
from labs.scenarios.scenario import ClaimStep, FaultStep, LoadStep, ProbeStep, TrafficStep, WaitStep
from topologies.units import MBIT
from topologies.yaml_source import read

HEAD = "about: what it shows\nlab: clos_2x4\nprofile: roce_default\n"


def loaded(tmp_path: Path, *steps: str, head: str = HEAD) -> Path:
    path = tmp_path / "one.yaml"
    path.write_text(head + "steps:\n" + "".join(f"  - {step}\n" for step in (*steps, "{claim: converged}")))
    return path


@pytest.mark.parametrize("name", catalog_names())
def test_what_is_shipped_is_sound(name: str) -> None:
    scenario, _, fabric = load_scenario(name)
    assert scenario.claims
    assert fabric.hosts
    jsonschema.validate(read(CATALOG / f"{name}.yaml").at(), dict(scenario_schema()))


def test_what_is_shipped_stands_in_its_page() -> None:
    page = (CATALOG.parents[2] / "docs/scenarios.md").read_text(encoding="utf-8")
    table = page.partition("## What comes along")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+)`", table)) >= set(catalog_names())


def test_the_schema_refuses_what_the_loader_refuses(tmp_path: Path) -> None:
    path = loaded(tmp_path, '{fault: link-down, target: "leaf1:spine1", for: 10}')
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read(path).at(), dict(scenario_schema()))


def test_every_word_does_something() -> None:
    assert words.CLAIMS.keys() == claims.CLAIMS.keys()
    assert words.CONDITIONS.keys() == conditions.CONDITIONS.keys()


def test_defaults_of_traffic(tmp_path: Path) -> None:
    path = loaded(
        tmp_path,
        "{traffic: one, pattern: all_reduce, size: 256K}",
        "{traffic: two, pattern: all_reduce, size: 256K, background: true}",
        "{finish: two}",
    )
    one, two = (step for step in load_scenario(str(path))[0].steps if isinstance(step, TrafficStep))
    assert (one.iterations, one.warmup, one.background, one.size) == (1, 1, False, 256 * 1024)
    assert (two.iterations, two.warmup, two.background) == (None, 0, True)


def test_a_condition_is_a_wait_of_its_own(tmp_path: Path) -> None:
    path = loaded(
        tmp_path,
        '{fault: link-down, target: "leaf1:spine1", for: 2500ms, when: {wait: sessions_up, within: 3s}}',
    )
    wait, fault, _ = load_scenario(str(path))[0].steps
    assert isinstance(wait, WaitStep)
    assert isinstance(fault, FaultStep)
    assert (wait.condition, wait.within_s, wait.place) == ("sessions_up", 3.0, 0)
    assert (fault.name, fault.for_s, fault.place) == ("link-down", 2.5, 0)


def test_what_a_scenario_says_of_its_lab_goes_before_the_labs_file(tmp_path: Path) -> None:
    head = HEAD + "rate: 25Mbit\nbgp: {keepalive: 3, hold: 9}\nseed: 5\n"
    scenario, spec, fabric = load_scenario(str(loaded(tmp_path, head=head)))
    assert {link.rate_bps for link in fabric.links} == {25 * MBIT}
    assert (spec.bgp.keepalive_s, spec.bgp.hold_s, spec.bgp.connect_s) == (3, 9, 10)
    assert scenario.bgp == spec.bgp
    assert scenario.seed == 5


def test_a_fault_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    path = loaded(tmp_path, '{fault: link-dwn, target: "leaf1:spine1"}')
    with pytest.raises(SpecError, match=r"one\.yaml:5: steps\[0\]\.fault: fault 'link-dwn'; allowed: .*link-down"):
        load_scenario(str(path))


def test_a_link_may_be_named_from_either_end(tmp_path: Path) -> None:
    path = loaded(
        tmp_path,
        '{probe: seen, around: "spine1:leaf1"}',
        '{fault: blackhole, name: hole, target: "spine1:leaf1", from: spine1}',
        "{finish: seen}",
    )
    probe, fault, *_ = load_scenario(str(path))[0].steps
    assert isinstance(probe, ProbeStep)
    assert isinstance(fault, FaultStep)
    assert (probe.around, fault.target, fault.sender) == ("leaf1:spine1", "leaf1:spine1", "spine1")


def test_what_is_over_at_once_may_come_again(tmp_path: Path) -> None:
    again = "{fault: node-restart, name: %s, target: spine1}"
    one, two, _ = load_scenario(str(loaded(tmp_path, again % "one", again % "two")))[0].steps
    assert isinstance(one, FaultStep)
    assert isinstance(two, FaultStep)
    assert (one.lasts, one.target) == (False, two.target)


def test_a_probe_for_each_turn_will_do(tmp_path: Path) -> None:
    path = loaded(
        tmp_path,
        '{probe: first, around: "leaf1:spine1"}',
        '{fault: link-down, name: cut, target: "leaf1:spine1"}',
        "{finish: first}",
        '{probe: second, around: "leaf1:spine1"}',
        "{revert: cut}",
        "{finish: second}",
        "{claim: recovered, of: cut, within: 200ms, flows: own}",
        "{claim: came_back, of: cut, within: 15s}",
    )
    recovered, back, _ = load_scenario(str(path))[0].claims
    assert (recovered.which, recovered.numbers) == ("own", {"within": 0.2})
    assert back.which == ""


def test_what_load_comes_to(tmp_path: Path) -> None:
    path = loaded(
        tmp_path,
        "{load: incast, hosts: [host1, host2], sink: host3, rate: 100Mbit, lasts: 1500ms}",
        "{claim: pause_share, of: incast, paused: 0, within: 0.05}",
    )
    load, claim, _ = load_scenario(str(path))[0].steps
    assert isinstance(load, LoadStep)
    assert (load.rate_bps, load.lasts_s, load.dscp) == (100 * MBIT, 1.5, 3)
    assert isinstance(claim, ClaimStep)
    assert claim.numbers == {"paused": 0, "within": 0.05, "priority": 3}
