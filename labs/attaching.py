"""The soft ASIC of a lab: which profile it is to play, attached when the lab comes up, found again later.

A lab without one does not load what plays it: that would be a third of the start of every command.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from labs.backends.base import Capability, Deployment, Progress
from labs.errors import CapabilityMissing
from labs.journal import Journal
from labs.kinds import driver
from labs.node import LiveNode
from labs.spec import NO_PROFILE, RenderedLab

if TYPE_CHECKING:
    from labs.dataplane.asic import SoftAsic
    from labs.dataplane.profile import Profile

CAPABILITY = "soft-asic"
QOS = PurePosixPath("qos")


def with_profile(lab: RenderedLab, wanted: str | None) -> RenderedLab:
    """The same rendering with the profile it is to play: `wanted`, or what its file names; checked against its fabric.

    The profile is one of the rendered files, in SONiC's own words. Raises SpecError with file, line and key.
    """
    ref = wanted if wanted is not None else lab.spec.profile
    if ref in {None, NO_PROFILE}:
        return replace(lab, spec=replace(lab.spec, profile=None))
    from labs.dataplane import asic
    from labs.dataplane.load import load_profile

    profile = load_profile(str(ref))
    asic.plan_of(profile, lab.fabric, lab.spec.seed)
    text = json.dumps(profile.tables, indent=2) + "\n"
    spec = replace(lab.spec, profile=str(ref))
    return replace(lab, spec=spec, files={**lab.files, QOS / f"{profile.name}.json": text})


def attach(
    lab: RenderedLab,
    nodes: Mapping[str, LiveNode],
    deployment: Deployment,
    *,
    run_dir: Path,
    journal: Journal,
    can: Collection[Capability],
    required: bool,
    progress: Progress,
) -> SoftAsic | None:
    """Attach the profile of a lab that has just been deployed; None where it is to have none.

    Where the backend `can` not play it, the lab goes without and `progress` says why; a profile that is `required`
    raises CapabilityMissing instead. Raises DeployFailed.
    """
    if lab.spec.profile is None:
        return None
    found = next((one for one in can if one.name == CAPABILITY), None)
    if found is None or not found.have:
        because = (found and found.because) or "this backend has no ports to play it on"
        if required:
            raise CapabilityMissing(CAPABILITY, because, remedy="railbed doctor")
        progress(f"without the soft ASIC: {because}")
        return None
    from labs.dataplane import asic

    progress(f"attaching the soft ASIC, profile {lab.spec.profile}")
    places = {
        name: asic.Place(
            deployment.netns(name), {port.name: driver(node.kind).netdev(node, port.name) for port in node.ports}
        )
        for name, node in nodes.items()
    }
    return asic.attach(
        lab.name,
        lab.fabric,
        _profile_in(lab, run_dir),
        places,
        run_dir=run_dir,
        seed=lab.spec.seed,
        journal=journal,
        own_ports=lab.foreign is None,
    )


def _profile_in(lab: RenderedLab, run_dir: Path) -> Profile:
    """The profile among a lab's rendered files: what the user's file says by now does not matter."""
    from labs.dataplane.load import load_profile

    for path in lab.files:
        if path.parts[0] == QOS.name:
            return load_profile(str(run_dir / "rendered" / path))
    return load_profile(str(lab.spec.profile))


def attached(lab: RenderedLab, run_dir: Path, journal: Journal) -> SoftAsic | None:
    """The soft ASIC that a running lab has; None for a lab that was brought up without."""
    if any(entry.change.undo == "soft-asic" for entry in journal.open_entries()):
        from labs.dataplane.asic import SoftAsic

        return SoftAsic(lab.name, lab.fabric, run_dir, lab.spec.seed)
    return None
