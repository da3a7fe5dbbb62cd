"""The kernel's messages, and what is news in them. Messages are put together here as the kernel does."""

from __future__ import annotations

import struct

from labs.telemetry.known import KnownKernel
from labs.telemetry.records import LinkEvent, RouteEvent
from labs.telemetry.rtnetlink import AF_INET, AF_INET6, DumpDone, LinkSeen, RouteSeen, dump_links, dump_routes, heard

UP, LOWER_UP = 0x1, 0x10000


def message(kind: int, body: bytes, flags: int = 0, sequence: int = 0) -> bytes:
    raw = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    return raw + b"\0" * (-len(raw) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    raw = struct.pack("=HH", 4 + len(value), kind) + value
    return raw + b"\0" * (-len(raw) % 4)


def link(name: str, index: int, flags: int, *, kind: int = 16) -> bytes:
    return message(kind, struct.pack("=BxHiII", 0, 1, index, flags, 0) + attribute(3, name.encode() + b"\0"))


def route(
    prefix: bytes, bits: int, *out: int, family: int = AF_INET, kind: int = 24, table: int = 254, sequence: int = 0
) -> bytes:
    body = struct.pack("=8BI", family, bits, 0, 0, table, 186, 0, 1, 0) + attribute(1, prefix)
    if len(out) == 1:
        body += attribute(4, struct.pack("=I", *out))
    else:
        hops = b"".join(struct.pack("=HBBi", 16, 0, 0, one) + attribute(5, b"\x0a\0\0\x01") for one in out)
        body += attribute(9, hops)
    return message(kind, body + attribute(6, struct.pack("=I", 20)), sequence=sequence)


PREFIX = bytes([10, 64, 8, 0])


def test_a_link() -> None:
    assert [seen for _, seen in heard(link("eth1", 17, UP | LOWER_UP))] == [LinkSeen(17, "eth1", up=True, admin=True)]
    assert [seen for _, seen in heard(link("eth1", 17, UP))] == [LinkSeen(17, "eth1", up=False, admin=True)]
    gone = next(heard(link("eth1", 17, UP | LOWER_UP, kind=17)))[1]
    assert gone == LinkSeen(17, "eth1", up=False, admin=False, gone=True)


def test_a_route_and_its_next_hops() -> None:
    one, several = heard(route(PREFIX, 24, 17) + route(PREFIX, 24, 17, 18))
    assert one == (False, RouteSeen(AF_INET, "10.64.8.0/24", 20, (17,), "bgp"))
    assert several[1] == RouteSeen(AF_INET, "10.64.8.0/24", 20, (17, 18), "bgp")
    six = next(heard(route(bytes.fromhex("fd000001") + b"\0" * 12, 64, 17, family=AF_INET6)))[1]
    assert isinstance(six, RouteSeen)
    assert six.prefix == "fd00:1::/64"


def test_what_is_of_another_table_or_nothing() -> None:
    assert list(heard(route(PREFIX, 24, 17, table=255))) == []
    assert list(heard(b"\0" * 40)) == []


def test_the_end_of_a_dump() -> None:
    assert list(heard(message(3, b"\0" * 4, flags=2, sequence=7))) == [(True, DumpDone(7))]
    assert len(dump_links(1)) == struct.unpack_from("=I", dump_links(1))[0]
    assert len(dump_routes(2, AF_INET6)) == struct.unpack_from("=I", dump_routes(2, AF_INET6))[0]


def known() -> KnownKernel:
    found = KnownKernel("leaf1", {"eth1": "eth1", "eth2": "eth2"})
    for name, index in (("eth1", 17), ("eth2", 18), ("lo", 1)):
        assert list(found.learn(0, True, LinkSeen(index, name, up=True, admin=True))) == []
    return found


def test_only_changes_of_ports_are_events() -> None:
    kernel = known()
    assert list(kernel.learn(1, False, LinkSeen(17, "eth1", up=True, admin=True))) == []
    assert list(kernel.learn(2, False, LinkSeen(1, "lo", up=False, admin=False))) == []
    lost = list(kernel.learn(3, False, LinkSeen(17, "eth1", up=False, admin=True)))
    assert lost == [LinkEvent(t=3, node="leaf1", port="eth1", up=False)]


def test_routes_before_and_after() -> None:
    kernel = known()
    both = RouteSeen(AF_INET, "10.64.8.0/24", 20, (18, 17), "bgp")
    assert list(kernel.learn(1, True, both)) == []  # as it was found
    assert list(kernel.learn(2, False, both)) == []  # said again
    less = RouteSeen(AF_INET, "10.64.8.0/24", 20, (18,), "bgp")
    told = list(kernel.learn(3, False, less))
    assert told == [RouteEvent(t=3, node="leaf1", prefix="10.64.8.0/24", ports=("eth2",), protocol="bgp")]
    gone = RouteSeen(AF_INET, "10.64.8.0/24", 20, (18,), "bgp", gone=True)
    assert next(iter(kernel.learn(4, False, gone))) == RouteEvent(
        t=4, node="leaf1", prefix="10.64.8.0/24", ports=(), protocol="bgp"
    )


def test_next_hops_of_ipv6_go_one_by_one() -> None:
    kernel = known()
    kernel_says = [
        RouteSeen(AF_INET6, "fd00::/64", 20, (17, 18), "bgp"),
        RouteSeen(AF_INET6, "fd00::/64", 20, (17,), "bgp", gone=True),
    ]
    told = [event for seen in kernel_says for event in kernel.learn(1, False, seen)]
    assert [event.ports for event in told if isinstance(event, RouteEvent)] == [("eth1", "eth2"), ("eth2",)]


def test_a_namespace_that_is_gone_takes_its_ports_along() -> None:
    kernel = known()
    assert [event.port for event in kernel.lost(5) if isinstance(event, LinkEvent)] == ["eth1", "eth2"]
    back = list(kernel.learn(6, True, LinkSeen(40, "eth1", up=True, admin=True)))
    assert back == [LinkEvent(t=6, node="leaf1", port="eth1", up=True)]
