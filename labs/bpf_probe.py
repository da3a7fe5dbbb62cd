"""Whether this kernel takes what the soft ASIC gives it: tiny BPF programs and maps, loaded and let go at once.

Asked by the system call itself, so that neither a version number nor a tool has to be believed. Numbers are the
kernel's ABI (include/uapi/linux/bpf.h). Every function gives None for yes, else why not.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from labs.bpf_syscall import bpf

_MAP_CREATE, _PROG_LOAD, _LINK_CREATE = 0, 5, 28
_SCHED_CLS = 3
ARRAY, RINGBUF = 2, 27
TCX_INGRESS, TCX_EGRESS = 46, 47
HELPERS = {"set-hash": 48, "ecn-set-ce": 97, "spin-lock": 93, "ringbuf": 130}

_RETURN_0 = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
_LOG_SIZE = 1 << 16
# What the verifier says of a helper that the kernel does not have, or does not give to this type of program. Anything
# else it says is about the arguments, which are none here: then the helper is there.
_REFUSALS = ("invalid func", "unknown func", "cannot use helper")


def program() -> str | None:
    """Whether a classifier (``sched_cls``) can be loaded at all."""
    try:
        with _loaded(_RETURN_0):
            return None
    except OSError as error:
        return _said(error, "a program of type sched_cls is refused")


def helper(number: int) -> str | None:
    """Whether a classifier may call a helper."""
    call = struct.pack("=BBhi", 0x85, 0, 0, number)
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        with _loaded(call + _RETURN_0, log):
            return None
    except OSError as error:
        text = log.value.decode(errors="replace")
        if any(refusal in text for refusal in _REFUSALS):
            return f"a classifier cannot call helper {number}"
        return None if text else _said(error, f"helper {number} cannot be asked for")


def make_map(kind: int, size: int) -> str | None:
    """Whether a map of so many bytes can be made."""
    value = 0 if kind == RINGBUF else 4096
    entries = size if kind == RINGBUF else size // value
    try:
        os.close(bpf(_MAP_CREATE, struct.pack("=5I", kind, 4 if value else 0, value, entries, 0)))
    except OSError as error:
        return _said(error, f"a map of type {kind} and {size // 1024} KiB is refused")
    return None


def tcx(ifindex: int) -> str | None:
    """Whether a program can be attached by tcx, both ways, to an interface of the current network namespace."""
    try:
        with _loaded(_RETURN_0) as prog:
            for way in (TCX_INGRESS, TCX_EGRESS):
                os.close(bpf(_LINK_CREATE, struct.pack("=4I", prog, ifindex, way, 0)))
    except OSError as error:
        return _said(error, "a link of type tcx is refused")
    return None


@contextmanager
def _loaded(instructions: bytes, log: ctypes.Array[ctypes.c_char] | None = None) -> Iterator[int]:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    terms = ctypes.create_string_buffer(b"Dual MIT/GPL")
    told = (1, _LOG_SIZE, ctypes.addressof(log)) if log is not None else (0, 0, 0)
    count = len(instructions) // 8
    attributes = struct.pack("=IIQQIIQ", _SCHED_CLS, count, ctypes.addressof(code), ctypes.addressof(terms), *told)
    fd = bpf(_PROG_LOAD, attributes)
    try:
        yield fd
    finally:
        os.close(fd)


def _said(error: OSError, what: str) -> str:
    return f"{what}: {error.strerror}"
