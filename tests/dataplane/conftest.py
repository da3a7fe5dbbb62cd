"""The soft ASIC's programs on a bench: loaded as they are shipped, fed frame by frame, their maps in plain sight.

BPF_PROG_RUN runs a program on bytes and a context (mark, interface, not the hash: see stamp.bpf.c). Maps are never
pinned, and no interface is made: what the bench takes ends with the process. Every frame is said to be on `lo`, and
each port has a copy of the programs that takes `lo` for it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p, memmove
from dataclasses import dataclass
from mmap import PAGESIZE, mmap
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from labs.dataplane import abi, abi_ecmp
from labs.dataplane.abi import LimitMode, PortKind
from topologies.ecmp import BUCKETS

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "labs" / "dataplane" / "bpf"
FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror")
PROGRAMS = ("ingress", "egress", "repair", "hash")
OWN = ("stamp", "crc", "copied", "heard")  # of this folder

LO = 1
_DATASEC = 15  # BTF_KIND_DATASEC
STAMP_MARK = 0x155
PASS = 2**32 - 1  # TC_ACT_UNSPEC
FRAME = 2048  # bytes at most of one that is run quickly
SPOT = 32  # words of the ingress matrix that a port has: four ports a node

# port -> (the node's first port, the port's number there, the far end, the node's pools)
SWITCH_PORTS = {1: (1, 0, 5, 0), 2: (1, 1, 6, 0), 3: (1, 2, 7, 0), 4: (1, 3, 8, 0), 7: (7, 0, 3, 4), 8: (7, 1, 4, 4)}
HOST_PORTS = {5: (5, 0, 1, 8), 6: (6, 0, 2, 8)}
PORTS, POOLS, PROFILES, ECMP_GROUPS = 9, 12, 4, 8
SWITCH_PROFILE, HOST_PROFILE = 1, 2

_Seen = TypeVar("_Seen", bound="ctypes.Structure | c_int64 | c_uint64")

_Read = TypeVar("_Read", bound="ctypes.Structure | ctypes.Array[c_uint64]")

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
for _name, _result, _arguments in (
    ("bpf_object__open_file", c_void_p, (c_char_p, c_void_p)),
    ("bpf_object__load", c_int, (c_void_p,)),
    ("bpf_object__close", None, (c_void_p,)),
    ("bpf_object__next_map", c_void_p, (c_void_p, c_void_p)),
    ("bpf_object__next_program", c_void_p, (c_void_p, c_void_p)),
    ("bpf_map__name", c_char_p, (c_void_p,)),
    ("bpf_map__fd", c_int, (c_void_p,)),
    ("bpf_map__set_max_entries", c_int, (c_void_p, c_uint32)),
    ("bpf_map__set_pin_path", c_int, (c_void_p, c_char_p)),
    ("bpf_map__reuse_fd", c_int, (c_void_p, c_int)),
    ("bpf_map__initial_value", c_void_p, (c_void_p, ctypes.POINTER(c_size_t))),
    ("bpf_program__fd", c_int, (c_void_p,)),
    ("bpf_prog_test_run_opts", c_int, (c_int, c_void_p)),
    ("bpf_object__btf", c_void_p, (c_void_p,)),
    ("btf__find_by_name_kind", c_int, (c_void_p, c_char_p, c_uint32)),
    ("btf__type_by_id", c_void_p, (c_void_p, c_uint32)),
    ("btf__name_by_offset", c_char_p, (c_void_p, c_uint32)),
    ("bpf_map_lookup_elem", c_int, (c_int, c_void_p, c_void_p)),
    ("bpf_map_update_elem", c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    ("bpf_map_delete_elem", c_int, (c_int, c_void_p)),
    ("bpf_map_update_batch", c_int, (c_int, c_void_p, c_void_p, c_void_p, c_void_p)),
    ("bpf_map_create", c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p)),
    ("bpf_link_create", c_int, (c_int, c_int, c_int, c_void_p)),
    ("ring_buffer__new", c_void_p, (c_int, c_void_p, c_void_p, c_void_p)),
    ("ring_buffer__consume", c_int, (c_void_p,)),
    ("ring_buffer__free", None, (c_void_p,)),
):
    getattr(_lib, _name).restype = _result
    getattr(_lib, _name).argtypes = _arguments


def _done(answer: int | None, what: str) -> int:
    """What libbpf answers, unless that is a failure."""
    if answer is None or answer < 0:
        number = ctypes.get_errno() or (-answer if answer else errno.EIO)
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return answer


class _Run(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class _SkBuff(ctypes.Structure):
    """struct __sk_buff, up to the last field that is set here."""

    _fields_ = (
        ("before", c_uint32 * 2),
        ("mark", c_uint32),
        ("between", c_uint32 * 5),
        ("priority", c_uint32),
        ("ingress_ifindex", c_uint32),
        ("ifindex", c_uint32),
        ("tc_index", c_uint32),
        ("cb", c_uint32 * 5),
        ("rest", c_uint8 * 124),
    )


class Ran(NamedTuple):
    """What a program made of a frame."""

    verdict: int
    mark: int
    priority: int
    frame: bytes
    cb: tuple[int, ...] = ()

    @property
    def queue(self) -> int:
        """The queue that a frame went to."""
        assert self.priority & ~7 == 0x10010, hex(self.priority)
        return self.priority & 7


@dataclass(frozen=True)
class Told:
    """An event, as asicd would read it."""

    port: int
    kind: abi.EventKind
    priorities: int
    pg: int
    quanta: tuple[int, ...]


def types_of(compiled: Path) -> list[dict[str, Any]]:
    """The BTF of an object, type 1 first."""
    said = subprocess.run(
        ["bpftool", "btf", "dump", "-j", "file", compiled], capture_output=True, check=True, timeout=30
    ).stdout
    types: list[dict[str, Any]] = json.loads(said)["types"]
    return types


def compile_bpf(source: Path, folder: Path, *include: Path) -> Path:
    made = folder / source.with_suffix(".o").name
    arch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True, timeout=30)
    includes = [f"-I{path}" for path in (*include, f"/usr/include/{arch.stdout.strip()}")]
    subprocess.run(["clang", *FLAGS, *includes, "-c", source, "-o", made], check=True, timeout=60)
    return made


class Bench:
    """The programs and their maps: `ports`, `queues` … are the live memory of the maps of these names."""

    def __init__(self, objects: Mapping[str, Path]) -> None:
        self._objects = objects
        self._open: list[int] = []
        self._memory: list[mmap] = []
        self._told: list[Told] = []
        self.fds: dict[str, int] = {}
        self._programs: dict[tuple[str, int], int] = {}
        self._repair = self.load("repair")
        self._stamped = self.load("stamp")
        self.ports = self.see("ports", abi.PortState, PORTS)
        self.profiles = self.see("profiles", abi.PortProfile, PROFILES)
        self.queues = self.see("queues", abi.QueueState, PORTS * abi.QUEUES)
        self.pools = self.see("pools", abi.PoolState, POOLS)
        self.matrix = self.see("matrix", c_int64, PORTS * SPOT)
        self.impairments = self.see("impairments", abi.Impairment, PORTS)
        self.receivers = self.see("receivers", abi.Receiver, PORTS)
        self._hear = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)(self._heard)
        self._ring = _done(
            _lib.ring_buffer__new(self.fds["events"], ctypes.cast(self._hear, c_void_p), None, None), "events"
        )

    # --- loading

    def load(self, name: str, ports: Mapping[int, int] | None = None) -> int:
        """Load an object; `ports` says which port an interface is. Returns its program."""
        opened = _done(_lib.bpf_object__open_file(os.fsencode(self._objects[name]), None), name)
        self._open.append(opened)
        sizes = {
            "ports": PORTS,
            "profiles": PROFILES,
            "queues": PORTS * abi.QUEUES,
            "groups": PORTS * abi.QUEUES,
            "pools": POOLS,
            "matrix": PORTS * SPOT,
            "impairments": PORTS,
            "receivers": PORTS,
            "ecmp_counts": PORTS * abi_ecmp.ECMP_MODES,
            "routes": PORTS,
            "bucket_seen": ECMP_GROUPS * BUCKETS,
            "turns": PORTS,
        }
        maps = {}
        at = None
        while at := _lib.bpf_object__next_map(opened, at):
            maps[_lib.bpf_map__name(at).decode()] = at
        for called, found in maps.items():
            if called.endswith(".rodata"):
                self._set_constants(opened, found, ports or {})
                continue
            _done(_lib.bpf_map__set_pin_path(found, None), called)
            if called in self.fds:
                _done(_lib.bpf_map__reuse_fd(found, self.fds[called]), called)
            elif called in sizes:
                _done(_lib.bpf_map__set_max_entries(found, sizes[called]), called)
        _done(_lib.bpf_object__load(opened), name)
        self.fds = {called: _lib.bpf_map__fd(found) for called, found in maps.items()} | self.fds
        return _done(_lib.bpf_program__fd(_lib.bpf_object__next_program(opened, None)), name)

    @staticmethod
    def _set_constants(opened: int, rodata: int, ports: Mapping[int, int]) -> None:
        """Say in .rodata which port an interface is. Where a constant stands there, the object's BTF tells."""
        if not ports:
            return
        types = _done(_lib.bpf_object__btf(opened), "BTF")
        section = _lib.btf__type_by_id(
            types, _done(_lib.btf__find_by_name_kind(types, b".rodata", _DATASEC), ".rodata")
        )
        size = c_size_t()
        values = _done(_lib.bpf_map__initial_value(rodata, ctypes.byref(size)), ".rodata")
        at = {}
        for i in range(c_uint32.from_address(section + 4).value & 0xFFFF):
            kind, offset, _size = (c_uint32 * 3).from_address(section + 12 + 12 * i)
            name = c_uint32.from_address(_lib.btf__type_by_id(types, kind)).value
            at[_lib.btf__name_by_offset(types, name)] = values + offset
        first = min(ports)
        c_uint32.from_address(at[b"first_ifindex"]).value = first
        c_uint32.from_address(at[b"stamp_mark"]).value = STAMP_MARK
        table = (c_uint16 * abi.IFINDEXES).from_address(at[b"port_of_ifindex"])
        for ifindex, port in ports.items():
            table[ifindex - first] = port

    def see(self, name: str, kind: type[_Seen], count: int) -> ctypes.Array[_Seen]:
        stride = (ctypes.sizeof(kind) + 7) & ~7
        assert stride == ctypes.sizeof(kind), f"{name}: an array map's values lie {stride} bytes apart"
        self._memory.append(mmap(self.fds[name], -(-stride * count // PAGESIZE) * PAGESIZE))
        return cast("ctypes.Array[_Seen]", (kind * count).from_buffer(self._memory[-1]))

    def close(self) -> None:
        for opened in self._open:
            _lib.bpf_object__close(opened)

    # --- state

    def reset(self) -> None:
        """Every port and pool with room for everything; all counters 0."""
        for memory in self._memory:
            memory[:] = bytes(len(memory))
        for port in range(PORTS):
            for pg in range(abi.QUEUES):
                self.set_group(port, pg, abi.PgState())
        self.told()
        for number, (first, local, peer, pools) in (SWITCH_PORTS | HOST_PORTS).items():
            state = self.ports[number]
            state.first, state.local, state.peer, state.pools = first, local, peer, pools
            state.matrix, state.seed, state.rate_bps = number * SPOT, number, 10**9
            state.kind = PortKind.SWITCH if number in SWITCH_PORTS else PortKind.HOST
            state.profile = SWITCH_PROFILE if number in SWITCH_PORTS else HOST_PROFILE
        for pool in self.pools:
            pool.size = 1 << 40
        for host in (False, True):
            profile = self.profiles[HOST_PROFILE if host else SWITCH_PROFILE]
            profile.pfc_enable = 0b00011000
            profile.tc_of_dscp[:] = [dscp & 7 for dscp in range(abi.DSCPS)]
            profile.queue_of_tc[:] = profile.pg_of_tc[:] = [tc & 7 for tc in range(abi.CLASSES)]
            profile.queue_of_priority[:] = range(abi.QUEUES)
            for i in range(abi.QUEUES):
                queue, pg = profile.queue[i], profile.pg[i]
                queue.mode, queue.limit, queue.pool = LimitMode.STATIC, 1 << 30, 0
                queue.reserved = 2**32 - 1 if host else 0
                pg.mode, pg.limit, pg.pool = LimitMode.STATIC, 1 << 30, 1
                pg.lossless, pg.priorities = int(i in {3, 4}), 1 << i if i in {3, 4} else 0

    @property
    def profile(self) -> abi.PortProfile:
        """The profile of all ports of switches."""
        return self.profiles[SWITCH_PROFILE]

    def queue(self, port: int, queue: int) -> abi.QueueState:
        return self.queues[port * abi.QUEUES + queue]

    def depth(self, port: int, queue: int) -> tuple[int, int]:
        """Packets and bytes in a queue."""
        word = self.queue(port, queue).depth
        return abi.packed_packets(word), abi.packed_bytes(word)

    def charged(self, port: int, local: int, pg: int) -> tuple[int, int]:
        """Packets and bytes of an egress port that came in by a port and PG of the same node."""
        word = self.matrix[port * SPOT + local * abi.QUEUES + pg]
        return abi.packed_packets(word), abi.packed_bytes(word)

    def read(self, name: str, at: int, into: _Read) -> _Read:
        """An element of an array that is not live memory here."""
        _done(_lib.bpf_map_lookup_elem(self.fds[name], ctypes.byref(c_uint32(at)), ctypes.byref(into)), name)
        return into

    def write(self, name: str | int, key: Any, value: Any) -> None:
        """An element of a map, by name or file descriptor."""
        number = self.fds[name] if isinstance(name, str) else name
        _done(_lib.bpf_map_update_elem(number, ctypes.byref(key), ctypes.byref(value), 0), str(name))

    def delete(self, name: str, key: Any) -> None:
        """An element of a map goes."""
        _done(_lib.bpf_map_delete_elem(self.fds[name], ctypes.byref(key)), name)

    def clear(self, name: str, entries: int, size: int) -> None:
        """Zeros for the first entries, of so many bytes each, of an array."""
        keys, values, count = (c_uint32 * entries)(*range(entries)), bytes(entries * size), c_uint32(entries)
        _done(_lib.bpf_map_update_batch(self.fds[name], keys, values, ctypes.byref(count), None), name)

    @staticmethod
    def trie(key: int, value: int, entries: int) -> int:
        """A new map of prefixes. Returns its descriptor, the caller's to close."""
        opts = (c_uint32 * 8)(32, 0, 0, 0, 0, 0, 0, 1)  # size (8 bytes), BTF ids, inner map, BPF_F_NO_PREALLOC
        return _done(_lib.bpf_map_create(11, b"prefixes", key, value, entries, opts), "bpf_map_create")

    def group(self, port: int, pg: int) -> abi.PgState:
        found = abi.PgState()
        key = c_uint32(port * abi.QUEUES + pg)
        _done(_lib.bpf_map_lookup_elem(self.fds["groups"], ctypes.byref(key), ctypes.byref(found)), "groups")
        return found

    def set_group(self, port: int, pg: int, state: abi.PgState) -> None:
        key = c_uint32(port * abi.QUEUES + pg)
        _done(_lib.bpf_map_update_elem(self.fds["groups"], ctypes.byref(key), ctypes.byref(state), 0), "groups")

    def told(self) -> list[Told]:
        """The events since this was last asked."""
        self._told.clear()
        while _done(_lib.ring_buffer__consume(self._ring), "events"):
            pass
        return list(self._told)

    def _heard(self, _context: int, data: int, size: int) -> int:
        assert size == ctypes.sizeof(abi.Event)
        event = abi.Event.from_address(data)
        kind = abi.EventKind(event.kind)
        self._told.append(Told(event.port, kind, event.priorities, event.pg, tuple(event.quanta)))
        return 0

    # --- running

    def egress(self, port: int, frame: bytes, *, came: int | None = None, repeat: int = 1, mark: int = 0) -> Ran:
        """A frame leaves by a port; `came`: the port of the same switch that it came in by."""
        if came is not None:
            mark = abi.MARK_INGRESS | self.ports[came].local
        return self._run(self._of_port("egress", port), frame, _SkBuff(mark=mark, ifindex=LO), repeat)

    def ingress(self, port: int, frame: bytes, stamp: int = 0, *, repeat: int = 1) -> Ran:
        """A frame comes in by a port, stamped by the far end's egress."""
        self._of_port("ingress", port)
        return self._run(self._stamped, frame, _SkBuff(cb=(stamp, port, 0, 0, 0), ifindex=LO), repeat)

    def cross(self, port: int, frame: bytes, *, came: int | None = None) -> Ran:
        """A frame that left by a port arrives at the far end."""
        return self.ingress(self.ports[port].peer, frame, self.stamp(port, frame, came))

    def stamp(self, port: int, frame: bytes, came: int | None = None) -> int:
        """What the egress program writes; test_stamp_on_a_veth.py holds it to that."""
        profile = self.profiles[self.ports[port].profile]
        tos = {0x0800: frame[15], 0x86DD: (frame[14] << 4 | frame[15] >> 4) & 255}.get(int.from_bytes(frame[12:14]))
        tc = 0 if tos is None else profile.tc_of_dscp[tos >> 2]
        queue, pg = int(profile.queue_of_tc[tc]), int(profile.pg_of_tc[tc])
        if came is None:
            return STAMP_MARK << 19 | (7 if self.ports[port].kind == PortKind.SWITCH else queue)
        return STAMP_MARK << 19 | int(self.ports[came].local) << 7 | abi.STAMP_CHARGED | pg << 3 | queue

    def run(self, program: int, frame: bytes, *cb: int, repeat: int = 1) -> Ran:
        """A program that `load` gave, with words in skb->cb."""
        return self._run(program, frame, _SkBuff(cb=cb, ifindex=LO), repeat)

    @staticmethod
    def quick(program: int) -> Callable[[bytes, int], list[int]]:
        """Runs a program on one frame after the other, with cb[0]; what it left in cb[1..3]. Frames are not given back.

        A frame takes some two microseconds: what a run needs is made once.
        """
        data, context, after = ctypes.create_string_buffer(FRAME), _SkBuff(ifindex=LO), _SkBuff()
        run = _Run(
            sz=ctypes.sizeof(_Run),
            data_in=ctypes.addressof(data),
            ctx_in=ctypes.addressof(context),
            ctx_out=ctypes.addressof(after),
            ctx_size_in=ctypes.sizeof(_SkBuff),
            ctx_size_out=ctypes.sizeof(_SkBuff),
        )
        said = (c_uint32 * 5).from_buffer(after, _SkBuff.cb.offset)
        start, options = _lib.bpf_prog_test_run_opts, ctypes.byref(run)

        def once(frame: bytes, word: int) -> list[int]:
            size = run.data_size_in = len(frame)
            assert size <= FRAME
            memmove(data, frame, size)
            context.cb[0], run.data_size_out = word, 0  # where a run writes the frame's size
            _done(start(program, options), "BPF_PROG_RUN")
            assert run.retval == PASS
            return said[1:4]

        return once

    def repair(self, what: abi.Repair) -> int:
        """What asicd asks for, after 14 bytes of nothing. Returns the program's verdict."""
        return self._run(self._repair, bytes(14) + bytes(what) + bytes(32), _SkBuff(ifindex=LO), 1).verdict

    def _of_port(self, name: str, port: int) -> int:
        if (name, port) not in self._programs:
            program = self._programs[name, port] = self.load(name, {LO: port})
            if name == "ingress":
                key, value = c_uint32(port), c_uint32(program)
                table = self.fds["programs"]
                _done(_lib.bpf_map_update_elem(table, ctypes.byref(key), ctypes.byref(value), 0), "programs")
        return self._programs[name, port]

    @staticmethod
    def _run(program: int, frame: bytes, context: _SkBuff, repeat: int) -> Ran:
        data, made = ctypes.create_string_buffer(frame, len(frame)), ctypes.create_string_buffer(len(frame) + 64)
        after = _SkBuff()
        run = _Run(
            sz=ctypes.sizeof(_Run),
            data_in=ctypes.addressof(data),
            data_out=ctypes.addressof(made),
            data_size_in=len(frame),
            data_size_out=len(made),
            ctx_in=ctypes.addressof(context),
            ctx_out=ctypes.addressof(after),
            ctx_size_in=ctypes.sizeof(_SkBuff),
            ctx_size_out=ctypes.sizeof(_SkBuff),
            repeat=repeat,
        )
        _done(_lib.bpf_prog_test_run_opts(program, ctypes.byref(run)), "BPF_PROG_RUN")
        left = made.raw[: run.data_size_out]
        return Ran(c_int(run.retval).value, after.mark, after.priority, left, tuple(after.cb))

    # --- on real interfaces of the current network namespace

    def attach(self, name: str, ifindex: int, port: int) -> int:
        """Put a program on an interface, by tcx. Returns the link, which holds it there until it is closed."""
        program = self.load(name, {ifindex: port})
        hook = 47 if name == "egress" else 46
        return _done(_lib.bpf_link_create(program, ifindex, hook, None), f"tcx on {ifindex}")


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The programs, compiled as scripts/build_native does, and the bench's own."""
    folder = tmp_path_factory.mktemp("objects")
    sources = {name: SOURCES / f"{name}.bpf.c" for name in PROGRAMS} | {name: HERE / f"{name}.bpf.c" for name in OWN}
    return {name: compile_bpf(source, folder, SOURCES) for name, source in sources.items()}


@pytest.fixture(scope="session")
def loaded(objects: Mapping[str, Path]) -> Iterator[Bench]:
    """One bench for all tests; a test takes `bench`."""
    bench = Bench(objects)
    yield bench
    bench.close()


@pytest.fixture
def bench(loaded: Bench) -> Bench:
    loaded.reset()
    return loaded


@pytest.fixture(scope="session")
def compile_program() -> Callable[..., Path]:
    return compile_bpf


@pytest.fixture(scope="session")
def btf() -> Callable[[Path], list[dict[str, Any]]]:
    return types_of


def udp_frame(dscp: int = 0, ecn: int = 0, size: int = 100, **settings: Any) -> bytes:
    """A UDP packet in a frame of `size` bytes; settings: v6, src, dst, sport, dport."""
    tos = dscp << 2 | ecn
    settings = {"v6": False, "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 4791, "dport": 4791} | settings
    ip: Packet = IPv6(tc=tos) if settings["v6"] else IP(tos=tos, src=settings["src"], dst=settings["dst"])
    headers = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip
    packet = headers / UDP(sport=settings["sport"], dport=settings["dport"])
    made = bytes(packet / bytes(size - len(packet)))
    assert len(made) == size
    return made


@pytest.fixture(scope="session")
def udp() -> Callable[..., bytes]:
    return udp_frame
