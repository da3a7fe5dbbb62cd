"""Faults of a lab's QoS profile: edits laid over what the lab plays, and taken away again in any order.

What the lab plays without them is kept beside the journal, with the edits of each fault. Whoever takes one back turns
the ports to the rest. What somebody applied to the running lab meanwhile (`railbed profile set`) stays.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labs import index
from labs.dataplane.asic import SoftAsic
from labs.dataplane.edits import Edit, carried_over, edited, edits_of, profile_from
from labs.dataplane.profile import Profile, Tables
from labs.errors import CapabilityMissing
from labs.faults.fault import Site, Step
from labs.faults.undoing import WentWithIt
from labs.lab import Lab

PROFILE_BACK = "profile"
BENEATH_FILE = "profile-beneath-faults.json"


@dataclass(frozen=True, slots=True)
class Layers:
    """The tables beneath, and the edits of every fault by its token, in the order in which they came."""

    name: str
    beneath: Tables
    faults: Mapping[str, Sequence[Edit]]

    def tables(self, without: str = "") -> Tables:
        """What is played; `without` leaves a fault's edits out."""
        rest = [one for token, edits in self.faults.items() if token != without for one in edits]
        return edited(self.beneath, rest)


def soft_asic(lab: Lab) -> SoftAsic:
    """The lab's soft ASIC. Raises CapabilityMissing."""
    if lab.asic is None:
        raise CapabilityMissing("soft-asic", f"lab {lab.name} plays no profile", remedy="railbed up … --profile")
    return lab.asic


def playing(lab: Lab) -> SoftAsic:
    """The lab's soft ASIC, to take back what was changed in it. Raises WentWithIt where it plays no more.

    The kernel takes its programs off with asicd: packets are forwarded again as on a lab without one.
    """
    if lab.asic is None or not lab.asic.plays:
        raise WentWithIt("asicd has ended, and everything that it played with it")
    return lab.asic


def beneath(lab: Lab) -> Profile:
    """The profile that the lab would play without faults. Raises CapabilityMissing."""
    asic = soft_asic(lab)
    asic.reread()
    kept = _kept(lab)
    return asic.profile if kept is None else profile_from(kept.beneath, kept.name)


def profile_step(site: Site, edits: Sequence[Edit], claims: Sequence[str]) -> Step:
    """A step that lays edits over the lab's profile. Raises SpecError for what the lab could not play.

    Whether it can beside what other faults laid over it is known once their claims are known to be others.
    """
    lab, token = site.lab, secrets.token_hex(8)
    now = _kept(lab) or _fresh(beneath(lab))
    alone = replace(now, faults={token: tuple(edits)})
    soft_asic(lab).check(profile_from(alone.tables(), now.name))

    def make() -> None:
        wanted = replace(now, faults={**now.faults, token: tuple(edits)})
        profile = profile_from(wanted.tables(), wanted.name)
        soft_asic(lab).check(profile)
        _keep(lab, wanted)
        soft_asic(lab).apply(profile)

    return Step(PROFILE_BACK, {"token": token}, make, tuple(f"profile/{claim}" for claim in claims))


def profile_back(lab: Lab, args: Mapping[str, Any]) -> None:
    """Take one fault's edits away. What is played is turned first: a second try begins where this one ended."""
    kept = _kept(lab)
    if kept is None or args["token"] not in kept.faults:
        return
    try:
        asic = playing(lab)
    except WentWithIt:
        _leave_out(lab, kept, args["token"], kept.beneath)
        raise
    asic.reread()
    now, rest = asic.profile.tables, kept.tables(without=args["token"])
    # Killed between its word and its deed, it never came to be: the lab plays the rest already.
    tables = rest if now == rest else carried_over(rest, kept.tables(), now)
    asic.apply(profile_from(tables, kept.name))
    _leave_out(lab, kept, args["token"], carried_over(kept.beneath, rest, tables))


def _leave_out(lab: Lab, kept: Layers, token: str, tables: Tables) -> None:
    """Forget one fault's edits."""
    left = {known: edits for known, edits in kept.faults.items() if known != token}
    if left:
        _keep(lab, replace(kept, beneath=tables, faults=left))
    else:
        _path(lab).unlink(missing_ok=True)


def _fresh(profile: Profile) -> Layers:
    return Layers(profile.name, profile.tables, {})


def _path(lab: Lab) -> Path:
    return index.lab_dir(lab.name) / BENEATH_FILE


def _kept(lab: Lab) -> Layers | None:
    try:
        data = json.loads(_path(lab).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return Layers(data["name"], data["beneath"], {token: edits_of(some) for token, some in data["faults"].items()})


def _keep(lab: Lab, layers: Layers) -> None:
    """In one step: a reader finds the old file or the new one."""
    draft = _path(lab).with_suffix(".new")
    faults = {token: [one.as_dict() for one in edits] for token, edits in layers.faults.items()}
    draft.write_text(json.dumps({"name": layers.name, "beneath": layers.beneath, "faults": faults}))
    draft.replace(_path(lab))
