"""What a switch hashes and how, against published check values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from topologies.ecmp import FIVE_TUPLE, EcmpRule, HashAlgorithm, HashField, Headers, Inner
from topologies.switch_hash import flow_hash, hashed_bytes, mix, raw_hash

CHECK = b"123456789"
INNER = Inner(b"\x0a" * 6, b"\x0b" * 6, 0x86DD, 6, bytes(range(16)), bytes(range(16, 32)), 80, 443)
FRAME = Headers(
    in_port=2,
    src_mac=b"\x01" * 6,
    dst_mac=b"\x02" * 6,
    ethertype=0x0800,
    protocol=17,
    src=bytes((10, 0, 0, 1)),
    dst=bytes((10, 0, 0, 2)),
    sport=49152,
    dport=4791,
    flow_label=0xABCDE,
    queue_pair=0x000012,
    inner=INNER,
)
# Each field's bytes of FRAME, in the order in which they are hashed.
PARTS = {
    HashField.IN_PORT: b"\x00\x03",
    HashField.SRC_MAC: b"\x01" * 6,
    HashField.DST_MAC: b"\x02" * 6,
    HashField.ETHERTYPE: b"\x08\x00",
    HashField.IP_PROTOCOL: b"\x11",
    HashField.SRC_IP: bytes((10, 0, 0, 1)),
    HashField.DST_IP: bytes((10, 0, 0, 2)),
    HashField.IPV6_FLOW_LABEL: b"\x0a\xbc\xde",
    HashField.L4_SRC_PORT: b"\xc0\x00",
    HashField.L4_DST_PORT: b"\x12\xb7",
    HashField.DST_QP: b"\x00\x00\x12",
    HashField.INNER_SRC_MAC: b"\x0a" * 6,
    HashField.INNER_DST_MAC: b"\x0b" * 6,
    HashField.INNER_ETHERTYPE: b"\x86\xdd",
    HashField.INNER_IP_PROTOCOL: b"\x06",
    HashField.INNER_SRC_IP: bytes(range(16)),
    HashField.INNER_DST_IP: bytes(range(16, 32)),
    HashField.INNER_L4_SRC_PORT: b"\x00\x50",
    HashField.INNER_L4_DST_PORT: b"\x01\xbb",
}
ALL = HashField(sum(PARTS))


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        (HashAlgorithm.CRC, 0xCBF43926),  # the catalogue's check of CRC-32/ISO-HDLC
        (HashAlgorithm.CRC_32LO, 0x3926),
        (HashAlgorithm.CRC_32HI, 0xCBF4),
        (HashAlgorithm.CRC_CCITT, 0x29B1),  # CRC-16/IBM-3740
        (HashAlgorithm.XOR, 0x31323334 ^ 0x35363738 ^ 0x39000000),
        (HashAlgorithm.CRC_XOR, 0xCBF43926 ^ 0x31323334 ^ 0x35363738 ^ 0x39000000),
    ],
)
def test_check_values(algorithm: HashAlgorithm, value: int) -> None:
    assert raw_hash(CHECK, algorithm) == value
    assert raw_hash(CHECK + b"\x01", algorithm) != value


def test_chance_is_no_function_of_bytes() -> None:
    with pytest.raises(ValueError, match="no function of a packet"):
        raw_hash(CHECK, HashAlgorithm.RANDOM)
    draws = iter((7, 8))
    rule = EcmpRule(algorithm=HashAlgorithm.RANDOM, seed=3, offset=1)
    assert [flow_hash(rule, FRAME, lambda: next(draws)) for _ in range(2)] == [mix(7, 3, 1), mix(8, 3, 1)]


@pytest.mark.parametrize(("word", "value"), [(0, 0), (1, 0x514E28B7), (0xFFFFFFFF, 0x81F16F39)])
def test_finaliser(word: int, value: int) -> None:
    """MurmurHash3_x86_32 of no bytes is its finaliser of the seed; published test vectors."""
    assert mix(word) == value
    assert mix(0, word) == value


@pytest.mark.parametrize("offset", range(32))
def test_offset_rotates_right(offset: int) -> None:
    plain = f"{mix(99, 5):032b}"
    assert f"{mix(99, 5, offset):032b}" == plain[32 - offset :] + plain[: 32 - offset]


def test_fields_stand_in_their_order() -> None:
    assert set(PARTS) == set(HashField)
    assert hashed_bytes(FRAME, ALL) == b"".join(PARTS.values())
    for field, part in PARTS.items():
        assert hashed_bytes(FRAME, field) == part
        assert hashed_bytes(FRAME, ALL & ~field) == b"".join(said for one, said in PARTS.items() if one != field)


def test_what_a_frame_lacks_is_left_out() -> None:
    fragment = replace(FRAME, sport=None, dport=None, flow_label=None, queue_pair=None, inner=None)
    assert hashed_bytes(fragment, ALL) == b"".join(list(PARTS.values())[:7])
    bare = replace(FRAME, inner=Inner(b"\x0a" * 6, b"\x0b" * 6, 0x86DD))
    assert hashed_bytes(bare, ALL) == b"".join(list(PARTS.values())[:14])
    assert hashed_bytes(fragment, HashField.DST_QP) == b""


def test_flow_hash_is_the_three_steps() -> None:
    rule = EcmpRule(algorithm=HashAlgorithm.CRC_CCITT, fields=FIVE_TUPLE, seed=77, offset=9)
    data = b"\x11" + bytes((10, 0, 0, 1, 10, 0, 0, 2)) + b"\xc0\x00\x12\xb7"
    assert flow_hash(rule, FRAME) == mix(raw_hash(data, HashAlgorithm.CRC_CCITT), 77, 9)
    assert flow_hash(rule, replace(FRAME, queue_pair=1)) == flow_hash(rule, FRAME)
    assert flow_hash(rule, replace(FRAME, sport=1)) != flow_hash(rule, FRAME)
