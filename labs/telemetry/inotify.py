"""Hearing that files change (inotify(7)): Python has no name for it. Numbers are the kernel's ABI."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

MODIFY, CLOSE_WRITE, MOVED_TO, CREATE, DELETE = 0x2, 0x8, 0x80, 0x100, 0x200
OVERFLOWED = -1  # the number of an event that says that others were lost
_EVENT = struct.Struct("=iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """One inotify instance, to be waited for by its `fd`."""

    def __init__(self) -> None:
        self.fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")

    def add(self, path: Path, mask: int) -> int | None:
        """Hear of a file or folder from now on; returns the number that its events carry, None when it is not there."""
        number = int(_libc.inotify_add_watch(self.fd, os.fsencode(path), mask))
        return None if number < 0 else number

    def read(self) -> Iterator[tuple[int, str]]:
        """What has changed since the last time: the number of what is heard of, and the name in a folder."""
        try:
            said = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(said):
            number, _, _, length = _EVENT.unpack_from(said, at)
            at += _EVENT.size
            yield number, said[at : at + length].rstrip(b"\0").decode(errors="replace")
            at += length
