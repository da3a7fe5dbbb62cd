"""Which labs tests ask for by their markers, read when tests are collected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from labs.spec import Bgp, LabSpec
from topologies.fabric import Fabric


@dataclass(frozen=True, slots=True)
class WantedLab:
    """What a test's marker asks for. `profile` None: what the lab's own file says, or --lab-profile.

    `bgp` and `rate_bps` are a scenario's, instead of the lab file's; `scenario` is its name. Scenarios that ask for the
    same lab share it.
    """

    ref: str
    profile: str | None = None
    bgp: Bgp | None = None
    rate_bps: int | None = None
    scenario: str = field(default="", compare=False)

    @classmethod
    def by(cls, marker: pytest.Mark | None, item: str, adopt: str) -> WantedLab:
        """Read a marker. Raises pytest.UsageError for one that says nothing, or too much."""
        args, named = (marker.args, marker.kwargs) if marker is not None else ((), {})
        if odd := set(named) - {"profile"}:
            raise pytest.UsageError(f"{item}: lab({min(odd)}=…); allowed: lab(NAME, profile=PROFILE)")
        ref = args[0] if args else adopt
        if not ref:
            raise pytest.UsageError(
                f"{item} uses a lab and names none; allowed: @pytest.mark.lab(NAME), or --lab-adopt NAME"
            )
        return cls(str(ref), named.get("profile"))

    @property
    def id(self) -> str:
        """What stands in the test's name."""
        if self.scenario:
            return Path(self.scenario).stem
        names = [self.ref, self.profile] if self.profile else [self.ref]
        return "-".join(Path(name).stem for name in names)

    def __str__(self) -> str:
        return self.ref

    def given(self) -> tuple[LabSpec, Fabric] | None:
        """The lab as a scenario wants it, where that is not as its file says. Raises SpecError."""
        if self.bgp is None and self.rate_bps is None:
            return None
        from labs.load import load_lab
        from labs.scenarios.load import adjusted

        spec, fabric = load_lab(self.ref)
        return adjusted(replace(spec, bgp=self.bgp or spec.bgp), fabric, self.rate_bps)


def wanted_labs(test: pytest.Item, adopt: str) -> list[WantedLab]:
    """The lab of a test's `lab` marker, or that of each scenario of its `scenario` marker. Raises pytest.UsageError."""
    scenarios = test.get_closest_marker("scenario")
    if scenarios is None:
        return [WantedLab.by(test.get_closest_marker("lab"), test.nodeid, adopt)]
    if not scenarios.args or scenarios.kwargs:
        raise pytest.UsageError(f"{test.nodeid}: allowed: @pytest.mark.scenario(NAME or FILE, …)")
    return [_of_scenario(str(name)) for name in scenarios.args]


def wanted_by(test: pytest.Item) -> WantedLab | None:
    """What a test that uses our `lab` fixture asks for; None for all others, also with a `lab` of the user's own."""
    wanted = getattr(getattr(test, "callspec", None), "params", {}).get("lab")
    return wanted if isinstance(wanted, WantedLab) else None


def by_lab(tests: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Tests without a lab first, then lab by lab as each is first asked for; otherwise as they were."""
    groups: dict[WantedLab | None, list[pytest.Item]] = {None: []}
    for test in tests:
        groups.setdefault(wanted_by(test), []).append(test)
    return [test for group in groups.values() for test in group]


def _of_scenario(ref: str) -> WantedLab:
    from labs.errors import SpecError
    from labs.scenarios.load import load_scenario

    try:
        found = load_scenario(ref)[0]
    except SpecError as error:
        raise pytest.UsageError(str(error)) from None
    return WantedLab(found.lab, found.profile, found.bgp, found.rate_bps, ref)
