"""The bpf() system call, which no C library has a function for. Numbers are the kernel's ABI (uapi/linux/bpf.h)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from functools import cache

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_LEAST = 128  # the kernel takes what it does not know for absent where it is zero


def bpf(command: int, attributes: bytes | bytearray) -> int:
    """Do one command; returns what the kernel returns (a descriptor, or 0).

    `attributes` is the command's part of `union bpf_attr`. What the kernel writes into it stands in a bytearray
    afterwards. Raises OSError.
    """
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"railbed does not know the number of bpf() on {platform.machine()}")
    size = max(_LEAST, len(attributes))
    told = ctypes.create_string_buffer(bytes(attributes), size)
    done = _libc().syscall(ctypes.c_long(number), ctypes.c_int(command), told, ctypes.c_uint(size))
    if isinstance(attributes, bytearray):
        attributes[:] = told.raw[: len(attributes)]
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(done)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
