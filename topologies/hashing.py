"""Which member of an ECMP group a packet takes: one pure model per way of hashing.

`linux_fields_hash` is Linux' own with fib_multipath_hash_policy 3 (kernel 6.11 and later): SipHash-2-4 over the
kernel's flow keys with a key made of fib_multipath_hash_seed, then one round of jhash. Sources: net/ipv4/route.c,
net/ipv6/route.c (rt6_multipath_custom_hash_skb), net/core/flow_dissector.c, include/net/flow_dissector.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

# Bits of net.ipv{4,6}.fib_multipath_hash_fields.
SRC_IP, DST_IP, IP_PROTOCOL, L4_SRC_PORT, L4_DST_PORT = 0x01, 0x02, 0x04, 0x10, 0x20
PROTOCOLS = {"tcp": 6, "udp": 17}
_MASK64 = (1 << 64) - 1
_MASK32 = (1 << 32) - 1
_JHASH_INITVAL = 0xDEADBEEF


@dataclass(frozen=True, slots=True)
class HashedFlow:
    """The header fields that a five-tuple hash may read. Addresses are text, `protocol` the IP protocol number."""

    src: str
    dst: str
    protocol: int
    sport: int
    dport: int


def linux_fields_hash(flow: HashedFlow, *, fields: int, seed: int) -> int:
    """The 31-bit multipath hash of a forwarded packet without tunnels, for hash policy 3. `seed` is not 0.

    The same for both directions of a flow: the kernel orders addresses and ports before it hashes.
    """
    word = seed << 32 | seed
    hashed = siphash24(_flow_keys(flow, fields), word, word) & _MASK32
    return _jhash_2words(hashed or 1, 0) >> 1


def member(hash31: int, weights: Sequence[int]) -> int:
    """The index of the member that a 31-bit hash falls to: each owns a share of the range as large as its weight.

    Raises ValueError for a group without members.
    """
    total, reached = sum(weights), 0
    for i, weight in enumerate(weights):
        reached += weight
        # DIV_ROUND_CLOSEST_ULL((u64)reached << 31, total) - 1, the last hash of this member
        if hash31 <= ((reached << 31) + total // 2) // total - 1:
            return i
    raise ValueError("a group without members")


def siphash24(data: bytes, k0: int, k1: int) -> int:
    """SipHash-2-4 (Aumasson and Bernstein, 2012) of `data` with the 128-bit key `k0`, `k1`; a 64-bit number."""
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    whole = len(data) - len(data) % 8
    blocks = [int.from_bytes(data[i : i + 8], "little") for i in range(0, whole, 8)]
    blocks.append((len(data) & 0xFF) << 56 | int.from_bytes(data[whole:], "little"))
    for block in blocks:
        v[3] ^= block
        _sip_rounds(v, 2)
        v[0] ^= block
    v[2] ^= 0xFF
    _sip_rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _sip_rounds(v: list[int], rounds: int) -> None:
    v0, v1, v2, v3 = v
    for _ in range(rounds):
        v0 = (v0 + v1) & _MASK64
        v1 = _rotate(v1, 13, 64) ^ v0
        v0 = _rotate(v0, 32, 64)
        v2 = (v2 + v3) & _MASK64
        v3 = _rotate(v3, 16, 64) ^ v2
        v0 = (v0 + v3) & _MASK64
        v3 = _rotate(v3, 21, 64) ^ v0
        v2 = (v2 + v1) & _MASK64
        v1 = _rotate(v1, 17, 64) ^ v2
        v2 = _rotate(v2, 32, 64)
    v[:] = [v0, v1, v2, v3]


def _flow_keys(flow: HashedFlow, fields: int) -> bytes:
    """The kernel's struct flow_keys from `basic` to its end, as the kernel fills it for policy 3; unused fields are 0.

    n_proto 2, ip_proto 1, padding 1 | tags 4 | vlan 8 | cvlan 8 | keyid 4 | ports 2 + 2 | icmp 4 | addresses | 4: they
    round the structure up to whole 8 bytes: the kernel hashes as many bytes as that leaves for the address family
    """
    ends = [ip_address(flow.src), ip_address(flow.dst)]
    addresses = [
        end.packed if fields & bit else bytes(len(end.packed)) for end, bit in zip(ends, (SRC_IP, DST_IP), strict=True)
    ]
    ports = [
        port.to_bytes(2, "big") if fields & bit else bytes(2)
        for port, bit in ((flow.sport, L4_SRC_PORT), (flow.dport, L4_DST_PORT))
    ]
    # __flow_hash_consistentify: IPv6 addresses compare as bytes, IPv4 ones and ports as the CPU's own integers.
    if _as_number(addresses[1], ends[1]) < _as_number(addresses[0], ends[0]):
        addresses.reverse()
    if int.from_bytes(ports[1], "little") < int.from_bytes(ports[0], "little"):
        ports.reverse()
    protocol = flow.protocol if fields & IP_PROTOCOL else 0
    return (
        bytes((0, 0, protocol, 0)) + bytes(4 + 8 + 8 + 4) + b"".join(ports) + bytes(4) + b"".join(addresses) + bytes(4)
    )


def _as_number(packed: bytes, address: IPv4Address | IPv6Address) -> int:
    return int.from_bytes(packed, "little" if address.version == 4 else "big")


def _jhash_2words(a: int, b: int) -> int:
    """jhash_2words(a, b, 0) of include/linux/jhash.h (Bob Jenkins' lookup3, final mix)."""
    start = _JHASH_INITVAL + (2 << 2)
    a, b, c = (a + start) & _MASK32, (b + start) & _MASK32, start & _MASK32
    c = (c ^ b) - _rotate(b, 14, 32) & _MASK32
    a = (a ^ c) - _rotate(c, 11, 32) & _MASK32
    b = (b ^ a) - _rotate(a, 25, 32) & _MASK32
    c = (c ^ b) - _rotate(b, 16, 32) & _MASK32
    a = (a ^ c) - _rotate(c, 4, 32) & _MASK32
    b = (b ^ a) - _rotate(a, 14, 32) & _MASK32
    return (c ^ b) - _rotate(b, 24, 32) & _MASK32


def _rotate(word: int, by: int, width: int) -> int:
    return (word << by | word >> (width - by)) & ((1 << width) - 1)
