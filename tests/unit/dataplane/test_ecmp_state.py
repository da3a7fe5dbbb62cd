"""The hash engine's live tables, read through a kernel that is played."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from ctypes import sizeof
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from labs.dataplane import abi, place
from labs.dataplane.abi_ecmp import EcmpGroup, EcmpMember, EcmpProfile, Flowlet, RouteKey
from labs.dataplane.ecmp_state import LiveEcmp, live_ecmp, route_key, rule_of
from labs.dataplane.load import load_profile
from labs.dataplane.maps import (
    MAP_GET_FD_BY_ID,
    MAP_LOOKUP_BATCH,
    MAP_LOOKUP_ELEM,
    OBJ_GET,
    OBJ_GET_INFO,
    read_entry,
)
from labs.dataplane.plan import plan
from labs.errors import NotReady
from topologies.ecmp import EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField
from topologies.ecmp_model import Member
from topologies.load import load_fabric

PLAN = plan(load_profile("roce_default"), load_fabric("clos_2x4"))
PORT = next(port for port in PLAN.ports if port.node == "leaf1" and port.local == 1)
RULE = EcmpRule(
    EcmpMode.FLOWLET,
    HashAlgorithm.CRC_XOR,
    HashField.SRC_IP | HashField.DST_QP,
    seed=0xDEADBEEF,
    offset=31,
    by=EcmpBy.RAIL,
    quantum=7,
    gap_ns=1 << 40,
    idle_ms=5,
    unbalanced_ms=6,
    marked=True,
)
TRIE = 77


def route(address: str, length: int) -> bytes:
    key = route_key(address)
    return bytes(RouteKey(length + (96 if ip_address(address).version == 4 else 0), key.address))


def group(number: int, *ports: int) -> bytes:
    made = EcmpGroup(number, len(ports))
    for i, port in enumerate(ports):
        made.member[i] = EcmpMember(hash=2 * i + 1, share=100 * i, port=port)
    made.bucket[255] = 9
    return bytes(made)


@dataclass
class Kernel:
    """bpf() over maps of entries by key; `tries` are found by the longest prefix."""

    maps: dict[str, dict[bytes, bytes]]
    tries: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    open: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    opens: int = 0

    def __call__(self, command: int, told: bytes | bytearray) -> int:
        if command == OBJ_GET:
            path = ctypes.string_at(struct.unpack_from("=Q", told)[0]).decode()
            if path not in self.maps:
                raise OSError(errno.ENOENT, "no such file")
            return self.opened(self.maps[path])
        if command == MAP_GET_FD_BY_ID:
            return self.opened(self.tries[struct.unpack_from("=I", told)[0]])
        if command == OBJ_GET_INFO:
            fd, length, to = struct.unpack("=IIQ", told)
            held = self.open[fd]
            ctypes.memmove(to, struct.pack("=5I", 2, 1, 4, len(next(iter(held.values()))), len(held)), length)
            return 0
        if command == MAP_LOOKUP_BATCH:
            raise OSError(errno.EINVAL, "no batches")
        assert command == MAP_LOOKUP_ELEM
        fd, _, key, to, _ = struct.unpack("=IIQQQ", told)
        value = self.found(self.open[fd], key)
        ctypes.memmove(to, value, len(value))
        return 0

    def opened(self, held: dict[bytes, bytes]) -> int:
        fd = os.open(os.devnull, os.O_RDONLY)
        self.open[fd] = held
        self.opens += 1
        return fd

    def found(self, held: dict[bytes, bytes], key: int) -> bytes:
        size = len(next(iter(held)))
        asked = ctypes.string_at(key, size)
        if size == sizeof(RouteKey):
            asked = max((one for one in held if covers(one, asked)), key=lambda one: one[0], default=b"")
        if asked not in held:
            raise OSError(errno.ENOENT, "no such entry")
        return held[asked]


def covers(prefix: bytes, key: bytes) -> bool:
    drop = 128 - int.from_bytes(prefix[:4], "little")
    return int.from_bytes(prefix[4:], "big") >> drop == int.from_bytes(key[4:], "big") >> drop


def index(at: int) -> bytes:
    return struct.pack("=I", at)


def ecmp_profile(rule: EcmpRule) -> bytes:
    of = {name: getattr(rule, name) for name in ("mode", "algorithm", "by", "offset", "fields", "seed", "quantum")}
    of |= {name: getattr(rule, name) for name in ("gap_ns", "idle_ms", "unbalanced_ms", "marked")}
    return bytes(EcmpProfile(**{name: int(value) for name, value in of.items()}))


def kernel(*, on: int = 1) -> Kernel:
    told = abi.PortProfile(ecmp=on)
    told.tc_of_dscp[26] = 3
    told.ecmp_of_tc[3] = 1
    told.tc_of_dscp[30] = 4
    told.ecmp_of_tc[4] = 2
    state = abi.PortState(profile=1)
    ports = {index(at): bytes(abi.PortState(profile=0)) for at in range(len(PLAN.ports) + 1)}
    maps = {
        "ports": ports | {index(PORT.number): bytes(state)},
        "profiles": {index(0): bytes(abi.PortProfile()), index(1): bytes(told)},
        "ecmps": {index(at): ecmp_profile(one) for at, one in enumerate((EcmpRule(), RULE, EcmpRule()))},
        "routes": {index(PORT.first): index(TRIE)},
        "flowlets": {index(9): bytes(Flowlet(seen_ns=1 << 50, tag=5, port=300, member=2))},
    }
    trie = {route("10.0.0.0", 8): group(1, 1, 2), route("10.1.0.0", 16): group(2, 3, 4), route("fd00::", 16): group(3)}
    return Kernel({f"/pins/{name}": held for name, held in maps.items()}, {TRIE: trie})


def live(played: Kernel) -> LiveEcmp:
    return LiveEcmp(PLAN, Path("/pins"), played)


def test_the_rule_of_a_class() -> None:
    tables = live(kernel())
    assert tables.rule("leaf1", PORT.name, 26) == RULE
    assert tables.rule("leaf1", PORT.name, 30) is None  # a row that says "kernel"
    assert tables.rule("leaf1", PORT.name, 0) is None
    assert tables.rule("leaf2", PLAN.nodes[0].ports[0].name, 26) is None  # another profile
    assert live(kernel(on=0)).rule("leaf1", PORT.name, 26) is None


def test_every_field_of_a_rule() -> None:
    assert rule_of(EcmpProfile.from_buffer_copy(ecmp_profile(RULE))) == RULE
    assert rule_of(EcmpProfile()) != RULE


@pytest.mark.parametrize(
    ("dst", "number"), [("10.0.0.9", 1), ("10.1.2.3", 2), ("fd00::7", 3), ("11.0.0.1", None), ("fe00::1", None)]
)
def test_the_group_of_the_longest_prefix(dst: str, number: int | None) -> None:
    found = live(kernel()).group(PORT.first, dst)
    assert (found and found.id) == number


def test_a_group_as_it_is() -> None:
    found = live(kernel()).group(PORT.first, "10.1.2.3")
    assert found is not None
    assert found.members == (Member(port=3, share=0, hash=1), Member(port=4, share=100, hash=3))
    assert (len(found.buckets), found.buckets[255]) == (256, 9)


def test_a_switch_without_a_trie_has_no_group() -> None:
    assert live(kernel()).group(PORT.first + 1, "10.0.0.9") is None


def test_flowlets_and_names() -> None:
    tables = live(kernel())
    there = tables.flowlet(9)
    assert (there.seen_ns, there.tag, there.port, there.place) == (1 << 50, 5, 300, 2)
    assert tables.port_name(PORT.number) == PORT.name
    assert tables.port_name(0) == "port 0"


def test_descriptors_are_closed() -> None:
    played = kernel()
    tables = live(played)
    tables.rule("leaf1", PORT.name, 26)
    tables.group(PORT.first, "10.0.0.9")
    assert played.opens == 5
    for fd in played.open:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_maps_that_are_not_there() -> None:
    with pytest.raises(NotReady, match="there is no map /pins/none"):
        read_entry(Path("/pins/none"), index(0), 4, bpf=kernel())


def test_a_lab_whose_soft_asic_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "RUN", tmp_path)
    assert live_ecmp("lab", PLAN) is None
    (tmp_path / "lab" / "maps").mkdir(parents=True)
    (tmp_path / "lab" / "maps" / "profiles").touch()
    assert live_ecmp("lab", PLAN) is not None
