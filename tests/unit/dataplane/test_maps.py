"""Pinned maps, read through a kernel that is played: what the system call is asked, byte for byte."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labs.dataplane.maps import LOCK, MAP_LOOKUP_BATCH, MAP_LOOKUP_ELEM, OBJ_GET, OBJ_GET_INFO, RDONLY, read_maps
from labs.errors import NotReady

SIZE = 16


@dataclass
class Kernel:
    """bpf() with array maps at paths. `at_most`: entries that one batch gives; None: there are no batches."""

    maps: dict[str, list[bytes]]
    at_most: int | None = 1 << 20
    says: int = errno.EINVAL
    value_size: int = SIZE
    calls: list[int] = field(default_factory=list)
    flags: set[int] = field(default_factory=set)
    open: dict[int, list[bytes]] = field(default_factory=dict)

    def __call__(self, command: int, told: bytes | bytearray) -> int:
        self.calls.append(command)
        return {OBJ_GET: self.get, OBJ_GET_INFO: self.info, MAP_LOOKUP_BATCH: self.batch, MAP_LOOKUP_ELEM: self.one}[
            command
        ](told)

    def get(self, told: bytes | bytearray) -> int:
        name, _, flags = struct.unpack("=QII", told)
        path = ctypes.string_at(name).decode()
        assert flags == RDONLY
        if path not in self.maps:
            raise OSError(errno.ENOENT, "no such file")
        fd = os.open(os.devnull, os.O_RDONLY)
        self.open[fd] = self.maps[path]
        return fd

    def info(self, told: bytes | bytearray) -> int:
        fd, length, to = struct.unpack("=IIQ", told)
        assert length == 20
        ctypes.memmove(to, struct.pack("=5I", 2, 7, 4, self.value_size, len(self.open[fd])), length)
        return 0

    def batch(self, told: bytes | bytearray) -> int:
        if self.at_most is None:
            raise OSError(self.says, "refused")
        assert isinstance(told, bytearray)
        after, out, keys, values, count, fd, flags, _ = struct.unpack("=QQQQIIQQ", told)
        self.flags.add(flags)
        first = struct.unpack("=I", ctypes.string_at(after, 4))[0] + 1 if after else 0
        found = self.open[fd][first : first + min(count, self.at_most)]
        for at, value in enumerate(found):
            ctypes.memmove(keys + 4 * at, struct.pack("=I", first + at), 4)
            ctypes.memmove(values + len(value) * at, value, len(value))
        struct.pack_into("=I", told, 32, len(found))
        if found:
            ctypes.memmove(out, struct.pack("=I", first + len(found) - 1), 4)
        return 0

    def one(self, told: bytes | bytearray) -> int:
        fd, _, key, to, flags = struct.unpack("=IIQQQ", told)
        self.flags.add(flags)
        value = self.open[fd][struct.unpack("=I", ctypes.string_at(key, 4))[0]]
        ctypes.memmove(to, value, len(value))
        return 0


def entries(count: int) -> list[bytes]:
    return [bytes([at + 1]) * SIZE for at in range(count)]


def kernel(**of: object) -> Kernel:
    return Kernel({"/pins/queues": entries(5), "/pins/groups": entries(2)}, **of)  # type: ignore[arg-type]


def read(played: Kernel, **values: int) -> dict[str, bytes]:
    return read_maps(Path("/pins"), values or {"queues": SIZE}, bpf=played)


def test_a_map_is_one_call() -> None:
    played = kernel()
    assert read(played) == {"queues": b"".join(entries(5))}
    assert played.calls == [OBJ_GET, OBJ_GET_INFO, MAP_LOOKUP_BATCH]
    assert played.flags == {0}


def test_a_batch_that_gives_fewer_is_gone_on_with() -> None:
    played = kernel(at_most=2)
    assert read(played) == {"queues": b"".join(entries(5))}
    assert played.calls.count(MAP_LOOKUP_BATCH) == 3


@pytest.mark.parametrize("says", [errno.EINVAL, errno.EOPNOTSUPP, 524])
def test_without_batches_entries_are_read_one_by_one(says: int) -> None:
    played = kernel(at_most=None, says=says)
    assert read(played) == {"queues": b"".join(entries(5))}
    assert played.calls.count(MAP_LOOKUP_ELEM) == 5


@pytest.mark.parametrize("at_most", [None, 9])
def test_entries_with_a_lock_are_read_under_it(at_most: int | None) -> None:
    played = kernel(at_most=at_most)
    values = {"groups": SIZE}
    assert read_maps(Path("/pins"), values, locked=frozenset({"groups"}), bpf=played)["groups"] == b"".join(entries(2))
    assert played.flags == {LOCK}


def test_descriptors_are_closed() -> None:
    played = kernel()
    read(played, queues=SIZE, groups=SIZE)
    for fd in played.open:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_no_maps_is_an_asic_that_is_not_attached() -> None:
    with pytest.raises(NotReady, match="the soft ASIC is not attached: there is no map /pins/pools"):
        read(kernel(), pools=SIZE)


def test_a_map_that_need_not_be_there() -> None:
    wanted = {"queues": SIZE, "ecmps": SIZE}
    assert set(read_maps(Path("/pins"), wanted, optional=frozenset({"ecmps", "queues"}), bpf=kernel())) == {"queues"}
    with pytest.raises(NotReady, match="there is no map /pins/ecmps"):
        read_maps(Path("/pins"), wanted, bpf=kernel())
    played = Kernel({"/pins/ecmps": entries(2)}, value_size=24)
    with pytest.raises(NotReady, match="another version's"):
        read_maps(Path("/pins"), {"ecmps": SIZE}, optional=frozenset({"ecmps"}), bpf=played)


def test_another_versions_map_is_refused() -> None:
    with pytest.raises(NotReady, match=r"another version's: entries of 16 bytes, 24 expected"):
        read(kernel(), queues=24)


def test_a_map_that_stops_early_is_an_error() -> None:
    with pytest.raises(NotReady, match="only 0 of 5 entries came"):
        read(kernel(at_most=0))


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EPERM, "remedy: run it as root"), (errno.EIO, "Input/output error")]
)
def test_maps_that_may_not_be_read(number: int, words: str) -> None:
    def refuse(command: int, told: bytes | bytearray) -> int:
        del command, told
        raise OSError(number, os.strerror(number))

    with pytest.raises(NotReady, match=words):
        read_maps(Path("/pins"), {"queues": SIZE}, bpf=refuse)
