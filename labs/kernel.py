"""The few system calls that Python 3.11 has no name for: namespaces, mounts, interface flags.

Numbers are the kernel's ABI (include/uapi/linux/{sched,mount,if}.h).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` for new ones. Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace behind `fd`. Raises OSError."""
    _check(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError that names the target."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode())
    _check(result, f"mount {target}")


def detach(path: Path | str) -> None:
    """Unmount lazily; nothing happens when nothing is mounted there."""
    _libc.umount2(str(path).encode(), MNT_DETACH)


@contextmanager
def inside_netns(path: Path) -> Iterator[None]:
    """Put the calling thread into a network namespace for the length of a block. Raises OSError when it is gone."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


@contextmanager
def inside_new_netns() -> Iterator[None]:
    """Put the calling thread into a network namespace of its own, which is gone after the block. Raises OSError."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def set_link(netdev: str, *, up: bool) -> None:
    """Set an interface of the current network namespace up or down. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        name = netdev.encode()
        got = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", name, 0))
        flags = struct.unpack("16sh14x", got)[1]
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name, flags))


def is_up(netdev: str) -> bool:
    """Whether an interface of the current network namespace is set up, with carrier or without. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        got = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", netdev.encode(), 0))
        return bool(struct.unpack("16sh14x", got)[1] & _IFF_UP)


_TFD_FLAGS = 0x80800  # TFD_CLOEXEC | TFD_NONBLOCK
_TFD_ABSTIME_CANCEL_ON_SET = 0x3
_FAR = 1 << 40  # seconds since the epoch: nobody waits for the timer itself


def timer_on_wall_clock() -> int | None:
    """A timer that is cancelled when the wall clock is set (timerfd_create(2)); None where there is none."""
    fd = int(_libc.timerfd_create(0, _TFD_FLAGS))
    if fd < 0:
        return None
    until = ctypes.create_string_buffer(struct.pack("=4q", 0, 0, _FAR, 0))
    if _libc.timerfd_settime(fd, _TFD_ABSTIME_CANCEL_ON_SET, until, None) != 0:
        os.close(fd)
        return None
    return fd


def clock_was_set(timer: int) -> bool:
    """Whether the wall clock was set since the timer was made, or since this was last asked."""
    try:
        os.read(timer, 8)
    except BlockingIOError:
        return False
    except OSError as error:
        return error.errno == errno.ECANCELED
    return False
