"""Where a plan's profiles go in the maps of a soft ASIC that is playing another plan. Pure.

What is in use is never overwritten: a packet is treated by the old profile or by the new one, whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ctypes import LittleEndianStructure, sizeof
from dataclasses import dataclass

from labs.dataplane.abi import PortProfile
from labs.dataplane.abi_ecmp import ECMP_PROFILES, EcmpProfile
from labs.dataplane.plan import LabPlan
from topologies.errors import SpecError

SPARE_PROFILES = 64


def profile_slots(wanted: LabPlan) -> int:
    """How many port profiles the map holds: those in use, those that are to replace them, and some to spare."""
    return SPARE_PROFILES + 2 * len(wanted.profiles)


@dataclass(frozen=True, slots=True)
class Slots:
    """What asicd is to be told of a plan's profiles (`lines`), and where each of `LabPlan.profiles` then stands."""

    lines: tuple[str, ...]
    profiles: tuple[int, ...]


def empty_slots(wanted: LabPlan) -> Slots:
    """Those of a soft ASIC that plays nothing yet."""
    numbers = {at: at for at in range(1, len(wanted.ecmps) + 1)}
    places = tuple(range(len(wanted.profiles)))
    return Slots((*_ecmp_lines(wanted, numbers), *_profile_lines(wanted, places, numbers)), places)


def free_slots(wanted: LabPlan, *, used: Collection[int], profiles: bytes, ecmps: bytes) -> Slots:
    """Those beside what is in use.

    Args:
        wanted: what is to be played.
        used: the places of the port profiles that ports follow now.
        profiles: the map of port profiles.
        ecmps: that of the hash engine's profiles; b"" where no switch ever had the engine on.

    Raises SpecError when there is no room.
    """
    slots = len(profiles) // sizeof(PortProfile)
    places = tuple([at for at in range(slots) if at not in used][: len(wanted.profiles)])
    if len(places) < len(wanted.profiles):
        raise SpecError(
            f"the profile needs {len(wanted.profiles)} kinds of port beside the {len(used)} in use",
            allowed=f"{slots} in all",
        )
    followed = [PortProfile.from_buffer_copy(profiles, at * sizeof(PortProfile)) for at in sorted(used)]
    hashing = {number for profile in followed for number in profile.ecmp_of_tc if number}
    known = {_entry(ecmps, number, EcmpProfile): number for number in sorted(hashing)}
    new = [made for made in wanted.ecmps if made not in known]
    free = [number for number in range(1, ECMP_PROFILES) if number not in hashing]
    if len(free) < len(new):
        raise SpecError(
            f"the profile needs {len(new)} ways of hashing beside the {len(hashing)} in use",
            allowed=f"{ECMP_PROFILES - 1} in all",
        )
    known |= dict(zip(new, free, strict=False))
    numbers = {at: known[made] for at, made in enumerate(wanted.ecmps, 1)}
    told = {at: number for at, number in numbers.items() if number not in hashing}
    return Slots((*_ecmp_lines(wanted, told), *_profile_lines(wanted, places, numbers)), places)


def _entry(entries: bytes, at: int, kind: type[LittleEndianStructure]) -> bytes:
    return entries[at * sizeof(kind) : (at + 1) * sizeof(kind)]


def _ecmp_lines(wanted: LabPlan, numbers: Mapping[int, int]) -> list[str]:
    """`numbers`: of the plan's, to those in the map; the others stand there already."""
    return [f"ecmp at={number} bytes={wanted.ecmps[at - 1].hex()}" for at, number in numbers.items()]


def _profile_lines(wanted: LabPlan, places: Sequence[int], numbers: Mapping[int, int]) -> list[str]:
    lines = []
    for place, made in zip(places, wanted.profiles, strict=True):
        profile = PortProfile.from_buffer_copy(made)
        profile.ecmp_of_tc[:] = [numbers.get(number, 0) for number in profile.ecmp_of_tc]
        lines.append(f"profile at={place} bytes={bytes(profile).hex()}")
    return lines
