"""What the tests of priority flow control share: a lab's soft ASIC, turned to variants of a profile and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from labs import lease
from labs.dataplane.asic import SoftAsic
from labs.dataplane.load import load_profile
from labs.dataplane.profile import Profile
from labs.lab import Lab

Play = Callable[..., Profile]


@pytest.fixture
def play(lab: Lab, asic: SoftAsic, tmp_path: Path) -> Iterator[Play]:
    """``play(TEXT, rates={…})``: the lab plays the profile of this YAML for the length of the test.

    Links have the rates of the design, but for those in `rates`.
    """
    before, designed = asic.profile, {link.name: link.rate_bps for link in lab.fabric.links}

    def turn(text: str, rates: Mapping[str, int] | None = None) -> Profile:
        path = tmp_path / "variant.yaml"
        path.write_text(text)
        profile = load_profile(str(path))
        with lease.changing(lab.name, "another profile"):
            asic.apply(profile, rates={**designed, **(rates or {})})
        return profile

    yield turn
    with lease.changing(lab.name, "its own profile"):
        asic.apply(before, rates=designed)


@pytest.fixture
def note(rundir: Path) -> Callable[[object], None]:
    """Keep what was measured, in the test's folder and its output: the run directory is what can be compared later."""

    def write(what: object) -> None:
        sys.stdout.write(f"{what}\n")
        with (rundir / "measured.txt").open("a") as out:
            out.write(f"{what}\n")

    return write
