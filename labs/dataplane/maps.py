"""The pinned maps of a running soft ASIC, read as they are: the bytes of every entry of an array map, or of one.

By the system call itself, so that no tool has to be there. A whole map is one call where the kernel can do that
(BPF_MAP_LOOKUP_BATCH, 5.6), else one call an entry. Needs root, as the pins are root's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from labs import bpf_syscall
from labs.errors import NotReady

Bpf = Callable[[int, bytes | bytearray], int]

MAP_LOOKUP_ELEM, OBJ_GET, MAP_GET_FD_BY_ID, OBJ_GET_INFO, MAP_LOOKUP_BATCH = 1, 7, 14, 15, 24
ARRAY = 2
RDONLY = 1 << 3  # BPF_F_RDONLY
LOCK = 4  # BPF_F_LOCK: no entry is read while a program changes it
KEY_SIZE = 4
_NO_BATCH = {errno.EINVAL, errno.EOPNOTSUPP, 524}  # 524: the kernel's own ENOTSUPP
_INFO = struct.Struct("=5I")  # the beginning of struct bpf_map_info: type, id, key size, value size, entries


def read_maps(
    folder: Path,
    values: Mapping[str, int],
    *,
    locked: frozenset[str] = frozenset(),
    optional: frozenset[str] = frozenset(),
    bpf: Bpf | None = None,
) -> dict[str, bytes]:
    """Every entry of the array maps pinned in `folder`, by name: entry after entry.

    Args:
        folder: where they are pinned (`place.maps`).
        values: name to bytes of an entry, as this version of railbed knows it.
        locked: those whose entries hold a spin lock, under which they are read.
        optional: those that need not be there; they are left out then.
        bpf: the system call; another one in tests.

    Raises NotReady when they are not there, when they are another version's, or when we may not read them.
    """
    call = bpf or bpf_syscall.bpf
    found = {}
    for name, size in values.items():
        try:
            found[name] = _read(folder / name, size, LOCK if name in locked else 0, call)
        except OSError as error:
            if error.errno == errno.ENOENT and name in optional:
                continue
            raise _refused(folder / name, error) from None
    return found


def read_entry(path: Path, key: bytes, size: int, *, bpf: Bpf | None = None) -> bytes | None:
    """What a pinned map of any kind holds under a key: `size` bytes; None for a key it has not.

    Raises NotReady as `read_maps` does.
    """
    call = bpf or bpf_syscall.bpf
    try:
        with _opened(path, call) as fd:
            return _look_up(fd, key, size, call)
    except OSError as error:
        raise _refused(path, error) from None


def read_inner_entry(path: Path, index: int, key: bytes, size: int, *, bpf: Bpf | None = None) -> bytes | None:
    """The same of the map that stands at `index` of a pinned array of maps; None too where none stands there."""
    call = bpf or bpf_syscall.bpf
    told = read_entry(path, struct.pack("=I", index), KEY_SIZE, bpf=call)
    if told is None:
        return None
    try:
        with _by_id(struct.unpack("=I", told)[0], call) as fd:
            return _look_up(fd, key, size, call)
    except OSError as error:
        raise _refused(path, error) from None


def _look_up(fd: int, key: bytes, size: int, bpf: Bpf) -> bytes | None:
    asked, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    told = struct.pack("=IIQQQ", fd, 0, ctypes.addressof(asked), ctypes.addressof(value), 0)
    try:
        bpf(MAP_LOOKUP_ELEM, told)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw


def _read(path: Path, value_size: int, flags: int, bpf: Bpf) -> bytes:
    with _opened(path, bpf) as fd:
        entries = _entries(fd, path, value_size, bpf)
        try:
            return _at_once(fd, entries, value_size, flags, bpf)
        except OSError as error:
            if error.errno not in _NO_BATCH:
                raise
        return _one_by_one(fd, entries, value_size, flags, bpf)


def _refused(path: Path, error: OSError) -> NotReady:
    """What a person can do about maps that cannot be read."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return NotReady(
            f"the soft ASIC is not attached: there is no map {path}",
            remedy="railbed status says how the lab is; railbed down and up start it anew",
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return NotReady(f"map {path} cannot be read: {error.strerror}", remedy="run it as root: sudo railbed …")
    return NotReady(f"map {path} cannot be read: {error.strerror}")


@contextmanager
def _opened(path: Path, bpf: Bpf) -> Iterator[int]:
    name = ctypes.create_string_buffer(os.fsencode(path))
    fd = bpf(OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, RDONLY))
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _by_id(number: int, bpf: Bpf) -> Iterator[int]:
    fd = bpf(MAP_GET_FD_BY_ID, struct.pack("=III", number, 0, RDONLY))
    try:
        yield fd
    finally:
        os.close(fd)


def _entries(fd: int, path: Path, value_size: int, bpf: Bpf) -> int:
    """How many entries the map has. Raises NotReady for a map that is not the one we know."""
    said = ctypes.create_string_buffer(_INFO.size)
    bpf(OBJ_GET_INFO, struct.pack("=IIQ", fd, _INFO.size, ctypes.addressof(said)))
    kind, _, key, value, entries = _INFO.unpack(said.raw)
    if (kind, key, value) != (ARRAY, KEY_SIZE, value_size):
        raise NotReady(
            f"map {path} is another version's: entries of {value} bytes, {value_size} expected",
            remedy="railbed down with the version that started the lab, then up with this one",
        )
    return int(entries)


def _at_once(fd: int, entries: int, value_size: int, flags: int, bpf: Bpf) -> bytes:
    """All entries in one call. The kernel says where it stopped, so that a call that gives fewer is gone on with."""
    values = ctypes.create_string_buffer(entries * value_size)
    keys = ctypes.create_string_buffer(entries * KEY_SIZE)
    here = ctypes.create_string_buffer(KEY_SIZE)
    done = 0
    while done < entries:
        told = bytearray(
            struct.pack(
                "=QQQQIIQQ",
                ctypes.addressof(here) if done else 0,
                ctypes.addressof(here),
                ctypes.addressof(keys),
                ctypes.addressof(values) + done * value_size,
                entries - done,
                fd,
                flags,
                0,
            )
        )
        try:
            bpf(MAP_LOOKUP_BATCH, told)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the last entry was reached
                raise
        count = struct.unpack_from("=I", told, 32)[0]
        if not count:
            raise OSError(errno.EIO, f"only {done} of {entries} entries came")
        done += count
    return values.raw


def _one_by_one(fd: int, entries: int, value_size: int, flags: int, bpf: Bpf) -> bytes:
    values = ctypes.create_string_buffer(entries * value_size)
    key = ctypes.c_uint32()
    for index in range(entries):
        key.value = index
        to = ctypes.addressof(values) + index * value_size
        bpf(MAP_LOOKUP_ELEM, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key), to, flags))
    return values.raw
