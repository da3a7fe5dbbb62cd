"""What a switch's hash engine computes of a packet's headers: the fields, the algorithm, the seed.

The CRCs are the interpreter's own libraries, so that the soft ASIC's C is judged by somebody else's arithmetic.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable
from functools import cache
from struct import unpack
from types import MappingProxyType
from zlib import crc32

from topologies.ecmp import EcmpRule, HashAlgorithm, HashField, Headers, Inner

MASK32 = (1 << 32) - 1

_Reader = Callable[[Headers], bytes | None]


def hashed_bytes(headers: Headers, fields: HashField | int) -> bytes:
    """The asked fields, one behind the other in HashField's order; what a frame lacks is left out."""
    return b"".join([said for read in _readers(int(fields)) if (said := read(headers)) is not None])


def raw_hash(data: bytes, algorithm: HashAlgorithm) -> int:
    """What an algorithm makes of the bytes. Raises ValueError for RANDOM, which makes nothing of them."""
    if algorithm is HashAlgorithm.CRC:
        return crc32(data)
    if algorithm is HashAlgorithm.CRC_32LO:
        return crc32(data) & 0xFFFF
    if algorithm is HashAlgorithm.CRC_32HI:
        return crc32(data) >> 16
    if algorithm is HashAlgorithm.CRC_CCITT:
        return crc_hqx(data, 0xFFFF)
    if algorithm is HashAlgorithm.XOR:
        return _folded(data)
    if algorithm is HashAlgorithm.CRC_XOR:
        return crc32(data) ^ _folded(data)
    raise ValueError("a random hash is no function of a packet")


def mix(raw: int, seed: int = 0, offset: int = 0) -> int:
    """The 32-bit hash: murmur3's finaliser of raw ^ seed, rotated right by `offset`.

    The finaliser because a CRC is linear: two seeds would only swap the members' names, and tiers stay polarised.
    """
    x = raw ^ seed
    x = (x ^ x >> 16) * 0x85EBCA6B & MASK32
    x = (x ^ x >> 13) * 0xC2B2AE35 & MASK32
    x ^= x >> 16
    return (x >> offset | x << (32 - offset)) & MASK32 if offset else x


def flow_hash(rule: EcmpRule, headers: Headers, drawn: Callable[[], int] | None = None) -> int:
    """The 32-bit hash of a packet under a rule; `drawn` is asked for the draw that RANDOM hashes instead of fields."""
    if rule.algorithm is HashAlgorithm.RANDOM and drawn is not None:
        return mix(drawn(), rule.seed, rule.offset)
    return mix(raw_hash(hashed_bytes(headers, rule.fields), rule.algorithm), rule.seed, rule.offset)


def _folded(data: bytes) -> int:
    """The 32-bit big-endian words of the bytes, padded with zeros, XORed."""
    data += bytes(-len(data) % 4)
    folded = 0
    for word in unpack(f">{len(data) // 4}I", data):
        folded ^= word
    return int(folded)


def _number(read: Callable[[Headers], int | None], size: int) -> _Reader:
    def packed(headers: Headers) -> bytes | None:
        number = read(headers)
        return None if number is None else number.to_bytes(size, "big")

    return packed


def _inner(read: Callable[[Inner], bytes | None]) -> _Reader:
    return lambda headers: None if headers.inner is None else read(headers.inner)


def _inner_number(read: Callable[[Inner], int | None], size: int) -> _Reader:
    return _number(lambda headers: None if headers.inner is None else read(headers.inner), size)


# In the order of hashing.
_READERS = MappingProxyType(
    {
        HashField.IN_PORT: _number(lambda said: said.in_port + 1, 2),
        HashField.SRC_MAC: lambda said: said.src_mac,
        HashField.DST_MAC: lambda said: said.dst_mac,
        HashField.ETHERTYPE: _number(lambda said: said.ethertype, 2),
        HashField.IP_PROTOCOL: _number(lambda said: said.protocol, 1),
        HashField.SRC_IP: lambda said: said.src,
        HashField.DST_IP: lambda said: said.dst,
        HashField.IPV6_FLOW_LABEL: _number(lambda said: said.flow_label, 3),
        HashField.L4_SRC_PORT: _number(lambda said: said.sport, 2),
        HashField.L4_DST_PORT: _number(lambda said: said.dport, 2),
        HashField.DST_QP: _number(lambda said: said.queue_pair, 3),
        HashField.INNER_SRC_MAC: _inner(lambda said: said.src_mac),
        HashField.INNER_DST_MAC: _inner(lambda said: said.dst_mac),
        HashField.INNER_ETHERTYPE: _inner_number(lambda said: said.ethertype, 2),
        HashField.INNER_IP_PROTOCOL: _inner_number(lambda said: said.protocol, 1),
        HashField.INNER_SRC_IP: _inner(lambda said: said.src),
        HashField.INNER_DST_IP: _inner(lambda said: said.dst),
        HashField.INNER_L4_SRC_PORT: _inner_number(lambda said: said.sport, 2),
        HashField.INNER_L4_DST_PORT: _inner_number(lambda said: said.dport, 2),
    }
)


@cache
def _readers(fields: int) -> tuple[_Reader, ...]:
    return tuple(read for field, read in _READERS.items() if field & fields)
