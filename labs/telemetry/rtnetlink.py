"""The kernel's messages about links and routes (rtnetlink(7)), decoded: what `LinkEvent` and `RouteEvent` are made of.

Pure: bytes in, frozen values out. Attributes that nobody here asks for are stepped over.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10
GROUPS = 0x1 | 0x40 | 0x400  # links, IPv4 routes, IPv6 routes
NEWLINK, DELLINK, GETLINK, NEWROUTE, DELROUTE, GETROUTE = 16, 17, 18, 24, 25, 26
DONE, ERROR = 3, 2
_REQUEST_DUMP, _MULTI = 0x1 | 0x300, 0x2
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_CLONED = 0x200  # a cached copy, not a route
_MAIN, _UNICAST = 254, 1
_HEADER, _LINK, _ROUTE, _ATTRIBUTE, _HOP = (
    struct.Struct("=IHHII"),
    struct.Struct("=BxHiII"),
    struct.Struct("=8BI"),
    struct.Struct("=HH"),
    struct.Struct("=HBBi"),
)
_IFNAME, _EXT_MASK, _SKIP_STATS = 3, 29, 8
_DST, _OIF, _PRIORITY, _MULTIPATH, _TABLE = 1, 4, 6, 9, 15
PROTOCOLS: Mapping[int, str] = MappingProxyType(
    {2: "kernel", 3: "boot", 4: "static", 9: "ra", 11: "zebra", 186: "bgp", 188: "ospf", 187: "isis", 196: "static"}
)
_BITS: Mapping[int, int] = MappingProxyType({AF_INET: 32, AF_INET6: 128})


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """An interface as the kernel has it; `gone` when it was removed."""

    index: int
    name: str
    up: bool
    admin: bool
    gone: bool = False


@dataclass(frozen=True, slots=True)
class RouteSeen:
    """A unicast route of the main table, out of interfaces `out`; `gone` when these next hops were removed."""

    family: int
    prefix: str
    metric: int
    out: tuple[int, ...]
    protocol: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class DumpDone:
    """The answer to dump number `sequence` has come to its end."""

    sequence: int


Heard = LinkSeen | RouteSeen | DumpDone


def dump_links(sequence: int) -> bytes:
    """The request for every interface of a namespace, without its counters."""
    body = _LINK.pack(0, 0, 0, 0, 0) + struct.pack("=HHI", 8, _EXT_MASK, _SKIP_STATS)
    return _HEADER.pack(_HEADER.size + len(body), GETLINK, _REQUEST_DUMP, sequence, 0) + body


def dump_routes(sequence: int, family: int) -> bytes:
    """The request for every route of a family."""
    body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), GETROUTE, _REQUEST_DUMP, sequence, 0) + body


def heard(datagram: bytes) -> Iterator[tuple[bool, Heard]]:
    """What a datagram of the kernel says, each with whether it is part of a dump.

    An event has the sequence number of whoever caused it, so that number says nothing here.
    """
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            return
        body = datagram[at + _HEADER.size : at + length]
        at += (length + 3) & ~3
        if kind in {DONE, ERROR}:
            yield True, DumpDone(sequence)
        elif kind in {NEWLINK, DELLINK}:
            if (link := _link(body, gone=kind == DELLINK)) is not None:
                yield bool(flags & _MULTI), link
        elif kind in {NEWROUTE, DELROUTE} and (route := _route(body, gone=kind == DELROUTE)) is not None:
            yield bool(flags & _MULTI), route


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _link(body: bytes, *, gone: bool) -> LinkSeen | None:
    family, _, index, flags, _ = _LINK.unpack_from(body)
    name = _attributes(body, _LINK.size).get(_IFNAME)
    if family != AF_UNSPEC or name is None:  # a bridge's own words about its port
        return None
    admin = bool(flags & _IFF_UP) and not gone
    return LinkSeen(index, name.rstrip(b"\0").decode(), admin and bool(flags & _IFF_LOWER_UP), admin, gone)


def _route(body: bytes, *, gone: bool) -> RouteSeen | None:
    family, bits, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(body)
    if family not in _BITS or kind != _UNICAST or flags & _CLONED:
        return None
    found = _attributes(body, _ROUTE.size)
    if _number(found, _TABLE, table) != _MAIN:
        return None
    address = found.get(_DST, b"").ljust(_BITS[family] // 8, b"\0")
    prefix = _prefix(address, bits)
    out = tuple(_hops(found[_MULTIPATH])) if _MULTIPATH in found else (_number(found, _OIF, 0),)
    word = PROTOCOLS.get(protocol, str(protocol))
    return RouteSeen(family, prefix, _number(found, _PRIORITY, 0), out, word, gone)


@lru_cache(4096)
def _prefix(address: bytes, bits: int) -> str:
    """In words: switches of a fabric route the same prefixes, and writing one costs as much as reading its route."""
    return f"{ipaddress.ip_address(address)}/{bits}"


def _number(found: Mapping[int, bytes], which: int, otherwise: int) -> int:
    return int.from_bytes(found[which], "little") if which in found else otherwise


def _hops(nested: bytes) -> Iterator[int]:
    at = 0
    while at + _HOP.size <= len(nested):
        length, _, _, index = _HOP.unpack_from(nested, at)
        if length < _HOP.size:
            return
        yield index
        at += (length + 3) & ~3
