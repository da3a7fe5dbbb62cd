from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.dataplane.headroom import (
    CURRENT,
    KIB,
    PUBLISHED,
    SPECTRUM_3,
    Headroom,
    LosslessTraffic,
    dynamic_bound,
    needed,
    sonic_headroom,
    static_bound,
)
from topologies.units import GBIT, KBIT, MBIT, MILLISECOND

# Speed in Mbit/s, cable in m, then size, xon, xoff: pg_profile_lookup.ini of the MSN4700 in sonic-buildimage.
MSN4700 = """
 10000   5  52224 19456  32768
 25000   5  52224 19456  32768
 40000   5  53248 19456  33792
 50000   5  53248 19456  33792
100000   5  53248 19456  33792
200000   5  55296 19456  35840
400000   5  86016 37888  38912
 10000  40  53248 19456  33792
 25000  40  55296 19456  35840
 40000  40  57344 19456  37888
 50000  40  58368 19456  38912
100000  40  63488 19456  44032
200000  40  74752 19456  55296
400000  40 124928 37888  77824
 10000 300  60416 19456  40960
 25000 300  73728 19456  54272
 40000 300  86016 19456  66560
 50000 300  95232 19456  75776
100000 300 137216 19456 117760
200000 300 223232 19456 203776
400000 300 420864 37888 373760
"""


@pytest.mark.parametrize("row", MSN4700.split("\n")[1:-1])
def test_the_published_table_of_a_real_switch(row: str) -> None:
    speed, cable, size, xon, xoff = map(int, row.split())
    assert sonic_headroom(speed, cable, arithmetic=PUBLISHED) == Headroom(xon, xoff, size)


def test_sonic_as_it_is_now_worked_by_hand() -> None:
    # 100G, 5 m, every packet small, so three whole cells of 144 bytes for two packets' worth of 64:
    # wire 2·5 m·100G/198e6/8 = 631.3; MAC 819.2; peer 394·64 = 25216; together 9216 + … = 35882.5; ·3 + 1024 = 108671.5
    assert sonic_headroom(100_000, 5) == Headroom(xon=19 * KIB, xoff=107 * KIB, size=126 * KIB)
    # Half of them small: 64/(0.5·64 + 0.5·1024) of the bytes, so 1 + 0.1176·2 cells: 35882.5·1.2353 + 1024 = 45349.4,
    # that is 45 KiB, and 2 KiB more as this is far from the worst case.
    half = LosslessTraffic(small_percent=50)
    assert sonic_headroom(100_000, 5, traffic=half) == Headroom(xon=19 * KIB, xoff=47 * KIB, size=66 * KIB)


def test_a_shared_headroom_pool_leaves_xon_reserved() -> None:
    shared = sonic_headroom(100_000, 5, shared_pool=True)
    assert shared == Headroom(xon=19 * KIB, xoff=107 * KIB, size=19 * KIB)


def test_a_speed_without_a_listed_response() -> None:
    with pytest.raises(ValueError, match="no response time is listed for 123 Mbit/s"):
        sonic_headroom(123, 5, arithmetic=CURRENT)
    assert sonic_headroom(123, 5, arithmetic=PUBLISHED).xoff == 32 * KIB


def test_small_cells() -> None:
    small = type(SPECTRUM_3)(96, Fraction(19), Fraction("0.8"), Fraction("3.8"))
    # 2·96/(1 + 96) = 1.98 cells a byte: (9216 + 0.1 + 819.2 + 3891.2)·1.979 + 1024 = 28593.8
    assert sonic_headroom(100, 1, chip=small, arithmetic=PUBLISHED).xoff == 28 * KIB


def test_what_the_soft_asic_needs() -> None:
    # For: MTU 1500, 100 Mbit/s and 1 Gbit/s, reaction 0.2, 1 and 5 ms.
    at = [needed(rate, 1500, 0, ms * MILLISECOND) for rate in (100 * MBIT, GBIT) for ms in (0.2, 1, 5)]
    assert at == [5_500, 15_500, 65_500, 28_000, 128_000, 628_000]
    assert needed(GBIT, 9230, 0, 2 * MILLISECOND) == 268_460
    assert needed(GBIT, 9230, 1 * MILLISECOND, 0) == 268_460, "the wire counts both ways"
    with pytest.raises(ValueError, match="negative"):
        needed(GBIT, 9230, -1, 0)


@given(
    rate=st.integers(0, 10**12),
    mtu=st.integers(64, 9230),
    delay=st.floats(0, 0.1),
    reaction=st.floats(0, 0.1),
    more=st.floats(0, 0.1),
)
def test_more_of_anything_needs_no_less(rate: int, mtu: int, delay: float, reaction: float, more: float) -> None:
    least = needed(rate, mtu, delay, reaction)
    assert least >= 2 * mtu
    assert needed(rate + KBIT, mtu, delay, reaction) >= least
    assert needed(rate, mtu + 1, delay, reaction) > least
    assert needed(rate, mtu, delay + more, reaction) >= least
    assert needed(rate, mtu, delay, reaction + more) >= least


@given(speed=st.sampled_from((10_000, 100_000, 400_000)), cable=st.integers(0, 2000), small=st.integers(0, 100))
def test_a_longer_cable_needs_no_less(speed: int, cable: int, small: int) -> None:
    traffic = LosslessTraffic(small_percent=small)
    near, far = (sonic_headroom(speed, metres, traffic=traffic) for metres in (cable, cable + 100))
    assert far.xoff >= near.xoff
    assert near.xoff % KIB == near.size % KIB == near.xon % KIB == 0


def test_dcqcns_thresholds() -> None:
    # Section 4 of the paper: Trident II, 32 ports of 40G, 12 MB, 8 priorities, 22.4 KB in flight each.
    assert static_bound(12e6, 32, 22.4e3) == pytest.approx(24.47e3, rel=5e-4)
    assert static_bound(12e6, 32, 22.4e3) / 32 < 1500, "less than a packet: a fixed threshold is infeasible there"
    assert dynamic_bound(12e6, 32, 22.4e3) == pytest.approx(21.75e3, rel=5e-4)


@given(st.integers(1, 64), st.floats(0.1, 100))
def test_a_dynamic_threshold_is_below_the_static_one(ports: int, beta: float) -> None:
    assert dynamic_bound(64e6, ports, 22.4e3, beta) < static_bound(64e6, ports, 22.4e3)
