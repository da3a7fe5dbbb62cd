from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.dataplane.load import catalog, load_profile, profile_of
from labs.dataplane.profile import Profile
from labs.dataplane.scaling import (
    MOST_QUANTA,
    PAUSE_S,
    explain,
    pause_s,
    quanta,
    rate,
    refresh_s,
    stretch,
    watchdog_trap,
)
from topologies.units import GBIT, MBIT, MILLISECOND
from topologies.yaml_source import parse

DEFAULT = load_profile("roce_default")
RATES = (50 * MBIT, 100 * MBIT, 200 * MBIT, 500 * MBIT, GBIT, 10 * GBIT)


def with_quanta(number: int) -> Profile:
    text = f"{{base: roce_default, RAILBED_PFC: {{GLOBAL: {{quanta: {number}}}}}}}"
    return profile_of(parse(text.encode(), "x.yaml"), name="x")


def test_how_much_longer_everything_takes() -> None:
    assert [stretch(DEFAULT, bps) for bps in RATES[:5]] == [8000, 4000, 2000, 800, 400]


def test_the_longest_pause_by_rate() -> None:
    # 65535 quanta of 512 bit times: 83.9 us at 400G, and what slower links make of it.
    found = [pause_s(65535, bps) for bps in (400 * GBIT, 100 * GBIT, 40 * GBIT, 10 * GBIT, GBIT, 200 * MBIT, 50 * MBIT)]
    assert found == pytest.approx([83.9e-6, 335.5e-6, 838.8e-6, 3.355e-3, 33.55e-3, 167.8e-3, 671.1e-3], rel=1e-3)


def test_quanta_by_the_rate() -> None:
    assert [quanta(DEFAULT, bps) for bps in RATES] == [1953, 3906, 7812, 19531, 39062, MOST_QUANTA]
    assert refresh_s(DEFAULT, GBIT) == pytest.approx(10 * MILLISECOND, rel=1e-4)
    assert quanta(with_quanta(77), GBIT) == 77


@given(st.integers(MBIT, 2000 * GBIT))
def test_the_default_pause_is_never_a_trap(bps: int) -> None:
    assert 1 <= quanta(DEFAULT, bps) <= MOST_QUANTA
    assert pause_s(quanta(DEFAULT, bps), bps) <= 1.02 * PAUSE_S
    assert watchdog_trap(DEFAULT, bps) is None


def test_the_watchdog_trap() -> None:
    longest = with_quanta(65535)
    # 200 ms / 3 = 66.7 ms: 65535 quanta last 33.6 ms at 1G, but 168 ms at 200M.
    assert watchdog_trap(longest, GBIT) is None
    said = watchdog_trap(longest, 200 * MBIT)
    assert said == (
        "one pause of 65535 quanta lasts 168 ms at 200Mbit, more than a third of the watchdog's 200 ms: "
        "at most 26041 quanta there"
    )
    assert watchdog_trap(with_quanta(26041), 200 * MBIT) is None
    assert watchdog_trap(with_quanta(26042), 200 * MBIT) is not None
    assert any(line == f"warning: {said}" for line in explain(longest, 200 * MBIT))
    assert watchdog_trap(load_profile("lossy"), MBIT) is None, "no watchdog, no trap"


def test_explained() -> None:
    assert explain(DEFAULT, GBIT) == (
        "scale: 1Gbit plays 400Gbit, s = 400",
        "kept: bytes (thresholds, headroom, messages), probabilities, numbers of flows",
        "times s: every delay and timer; a frame of 9230 bytes 0.18 us -> 73.8 us",
        "DCQCN's timer of 55 us is 22 ms for the hosts",
        "not stretched: PFC watchdog, BGP, BFD, TCP's least retransmission time (wall clock)",
        (
            "WRED on queue 3, 4: marks ECT and drops others, 0 to 20 % from 102400 to 409600 bytes of queue "
            "(819 us to 3.28 ms to drain), all above"
        ),
        "PFC on priority 3, 4: 39062 quanta (by the rate) pause for 20 ms, refreshed every 10 ms",
        (
            "priority group 3, 4: alone it pauses at 1416533 bytes (11.3 ms to drain); headroom 2621440 covers a "
            "reaction of 20.8 ms, for 64 such at once in a switch"
        ),
        "PFC watchdog on priority 3, 4: drop; detects in 200 to 400 ms, restores in 200 to 400 ms",
    )


@pytest.mark.parametrize("name", catalog())
@pytest.mark.parametrize("bps", RATES)
def test_every_profile_can_be_explained_at_every_rate(name: str, bps: int) -> None:
    lines = explain(load_profile(name), bps)
    assert lines[0].startswith(f"scale: {rate(bps)} plays 400Gbit")
    assert not any("\n" in line or line.startswith("warning") for line in lines)
    assert ("PFC: none" in lines) == (name in {"ecn_only", "lossy"})


def test_a_profile_says_what_has_no_effect() -> None:
    text = "{base: lossy, CABLE_LENGTH: {AZURE: {eth1: 5m}}}"
    lines = explain(profile_of(parse(text.encode(), "x.yaml"), name="x"), GBIT)
    assert lines[-1].startswith("without effect: CABLE_LENGTH")
