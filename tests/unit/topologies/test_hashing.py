"""The kernel's hash, against published vectors and against answers of a kernel."""

from __future__ import annotations

from collections import Counter

import pytest

from topologies.hashing import HashedFlow, linux_fields_hash, member, siphash24

FIVE_TUPLE = 0x37
# `ip -j route get 10.64.24.7 from 10.64.8.7 iif eth3 ipproto udp sport S dport 4791` on Linux 6.18, policy 3, fields
# 55, seed 1, two members: the first source ports from 1000 on, member by member.
KERNEL_SAID = "0000101010100100001011111011101111001010001100110001110000101111"


def test_siphash_of_the_paper() -> None:
    """Appendix A of "SipHash: a fast short-input PRF": key 00 … 0f, input 00 … 0e."""
    k0, k1 = (int.from_bytes(bytes(range(i, i + 8)), "little") for i in (0, 8))
    assert siphash24(bytes(range(15)), k0, k1) == 0xA129CA6149BE45E5


def test_members_as_a_kernel_picked_them() -> None:
    """Every one of the 64 answers; by chance that is 2⁻⁶⁴."""
    picked = ""
    for sport in range(1000, 1000 + len(KERNEL_SAID)):
        flow = HashedFlow("10.64.8.7", "10.64.24.7", 17, sport, 4791)
        picked += str(member(linux_fields_hash(flow, fields=FIVE_TUPLE, seed=1), [1, 1]))
    assert picked == KERNEL_SAID


@pytest.mark.parametrize("weights", [[1, 1], [1, 2, 1], [3, 1], [1] * 48])
def test_members_own_the_range_by_weight(weights: list[int]) -> None:
    """Borders: the first hash belongs to the first member, the last to the last, shares are as the weights."""
    top = (1 << 31) - 1
    assert member(0, weights) == 0
    assert member(top, weights) == len(weights) - 1
    counts = Counter(member(top * i // 9999, weights) for i in range(10_000))
    for i, weight in enumerate(weights):
        assert counts[i] == pytest.approx(10_000 * weight / sum(weights), abs=2)


def test_no_members() -> None:
    """An empty group has no answer."""
    with pytest.raises(ValueError, match="without members"):
        member(5, [])


def test_both_directions_hash_alike() -> None:
    """The kernel orders addresses and ports before it hashes."""
    there = HashedFlow("fd00:64:1:3::2", "fd00:64:3:3::2", 6, 50_000, 4791)
    back = HashedFlow("fd00:64:3:3::2", "fd00:64:1:3::2", 6, 4791, 50_000)
    assert linux_fields_hash(there, fields=FIVE_TUPLE, seed=7) == linux_fields_hash(back, fields=FIVE_TUPLE, seed=7)


def test_a_field_that_is_not_hashed_changes_nothing() -> None:
    """Addresses and protocol only: ports do not matter; with ports they do."""
    flows = [HashedFlow("10.0.0.1", "10.0.0.2", 17, sport, 4791) for sport in (1, 2)]
    assert len({linux_fields_hash(flow, fields=0x07, seed=3) for flow in flows}) == 1
    assert len({linux_fields_hash(flow, fields=FIVE_TUPLE, seed=3) for flow in flows}) == 2
