"""The lab that a scenario is played on: what to ask for, and whether one that runs will do."""

from __future__ import annotations

import secrets
from pathlib import Path

from labs.errors import SpecError
from labs.faults.injecting import active_faults
from labs.lab import Lab
from labs.request import Request
from labs.scenarios.scenario import Scenario
from labs.spec import LabSpec
from topologies.fabric import Fabric

ANOTHER_LAB = "one that is brought up for it: no --lab, no --lab-adopt"


def request_of(
    scenario: Scenario, spec: LabSpec, fabric: Fabric, *, backend: str, seed: int, keep: bool = False
) -> Request:
    """What to bring up for a scenario, under a name that nobody else has; it ends with us unless it is kept."""
    return Request(
        ref=scenario.lab,
        given=(spec, fabric),
        backend=backend,
        name=f"{scenario.name.replace('_', '-')[:24].rstrip('-')}-{secrets.token_hex(2)}",
        seed=seed,
        owned=not keep,
        profile=scenario.profile,
    )


def check_lab(lab: Lab, scenario: Scenario, spec: LabSpec, fabric: Fabric) -> None:
    """Raise SpecError for a running lab that is not what the scenario was written for, or is broken already."""
    wanted, there = ({(link.name, link.rate_bps) for link in one.links} for one in (fabric, lab.fabric))
    if wanted != there:
        missing = sorted(f"{name} at {rate / 1e6:g} Mbit/s" for name, rate in wanted - there)
        said = f"it has no {missing[0]}" if missing else "it has links that the scenario does not know"
        raise SpecError(f"lab {lab.name} is not {scenario.lab}: {said}", allowed=f"a lab of {fabric.name}, or no --lab")
    plays = lab.asic.profile.name if lab.asic is not None else "none"
    wanted_profile = scenario.profile and Path(scenario.profile).stem
    if wanted_profile is not None and plays != wanted_profile:
        raise SpecError(
            f"lab {lab.name} plays profile {plays}, the scenario wants {wanted_profile}",
            allowed=f"railbed profile apply {scenario.profile}, or no --lab",
        )
    if lab.rendered.spec.bgp != spec.bgp:
        raise SpecError(f"lab {lab.name} has other BGP settings than the scenario wants", allowed=ANOTHER_LAB)
    for node in fabric.nodes:
        kind, found = (one.kind_of(node) for one in (spec, lab.rendered.spec))
        if kind != found:
            raise SpecError(
                f"{node.name} of lab {lab.name} is a {found}, the scenario wants a {kind}", allowed=ANOTHER_LAB
            )
    broken = active_faults(lab.name)
    if broken:
        raise SpecError(
            f"lab {lab.name} has active faults: {', '.join(map(str, broken))}",
            allowed="a lab without: railbed fault revert --all",
        )
