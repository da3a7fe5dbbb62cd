"""On a real veth, between two network namespaces: the stamp that egress writes arrives, mark and priority do not.

What then steers the packet is the hash engine's own hash, which the kernel sees where it looks; also of a large packet,
whose headers lie where programs cannot look.

Frames are sent by a packet socket whose mark says which port they came in by. No queue stands on the interface, so
each has arrived when send returns. Both namespaces have no name and end with this test.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs.dataplane import abi
from labs.dataplane.abi_ecmp import ECMP_ENGINE, ECMP_PROFILES, EcmpProfile
from labs.dataplane.encoding import ecmp_profile
from topologies.ecmp import EcmpMode, EcmpRule
from topologies.switch_hash import mix, raw_hash

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

OUT, IN = 3, 7
CLONE_NEWNET = 0x40000000
RULE = EcmpRule(EcmpMode.SWITCH_HASH, seed=1)
_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: int | None) -> None:
    """Into a network namespace, or a new one; this thread alone."""
    failed = _libc.unshare(CLONE_NEWNET) if namespace is None else _libc.setns(namespace, CLONE_NEWNET)
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


@contextmanager
def veth() -> Iterator[tuple[int, int]]:
    """Two new namespaces with a veth between them, `near` and `far`, both up. Leaves us in the near one."""
    with ExitStack() as stack:
        home = here()
        stack.callback(os.close, home)
        stack.callback(enter, home)
        enter(None)
        far = here()
        stack.callback(os.close, far)
        enter(None)
        near = here()
        stack.callback(os.close, near)
        link = ["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"]
        subprocess.run([*link, "netns", f"/proc/{os.getpid()}/fd/{far}"], check=True, timeout=10)
        for namespace, name in ((far, "far"), (near, "near")):
            enter(namespace)
            # Nothing but our frames may cross.
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            subprocess.run(["ip", "link", "set", name, "mtu", "9000", "up"], check=True, timeout=10)
        yield near, far


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    with veth() as namespaces:
        yield namespaces


@pytest.fixture
def wire(bench: Bench, ends: tuple[int, int]) -> Iterator[Callable[[bytes, int], None]]:
    """The programs on a veth, egress of port 3 and ingress of port 7; gives what sends a frame with a mark."""
    near, far = ends
    with ExitStack() as stack:
        enter(far)
        stack.callback(os.close, bench.attach("ingress", socket.if_nametoindex("far"), IN))
        enter(near)
        stack.callback(os.close, bench.attach("egress", socket.if_nametoindex("near"), OUT))
        sender = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        sender.bind(("near", 0))

        def send(frame: bytes, mark: int) -> None:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            assert sender.send(frame) == len(frame)

        yield send


class Heard(ctypes.Structure):
    """struct heard: what heard.bpf.c saw of the last packet."""

    _fields_ = (
        ("hash", ctypes.c_uint32),
        ("cb", ctypes.c_uint32 * 4),
        ("gathered", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
        ("packets", ctypes.c_uint32),
    )


@pytest.fixture
def heard(bench: Bench, ends: tuple[int, int], wire: Callable[[bytes, int], None]) -> Iterator[Heard]:
    """The far end's port goes on in the hash engine, which has no routes; and what hears is behind it."""
    del wire  # ingress has to stand there first
    near, far = ends
    bench.write("engines", ctypes.c_uint32(ECMP_ENGINE), ctypes.c_uint32(bench.load("hash")))
    bench.see("ecmps", EcmpProfile, ECMP_PROFILES)[1] = ecmp_profile(RULE)
    bench.profile.ecmp = 1
    bench.profile.ecmp_of_tc[:] = [1] * abi.CLASSES
    enter(far)
    link = bench.attach("heard", socket.if_nametoindex("far"), IN)
    enter(near)
    yield bench.see("heard", Heard, 1)[0]
    os.close(link)


def scatter(bench: Bench) -> None:
    """PGs that are no queues, so that a stamp with one in the other's place shows."""
    bench.profile.pg_of_tc[:] = [(tc * 3 + 1) & 7 for tc in range(abi.CLASSES)]


def test_every_stamp_arrives(bench: Bench, wire: Callable[[bytes, int], None], udp: Callable[..., bytes]) -> None:
    scatter(bench)
    for local, dscp in product(range(4), range(8)):
        wire(udp(dscp, size=200), abi.MARK_INGRESS | local)
    for _ in range(3):
        wire(udp(0, size=200), 0)
    sent = [bench.queue(OUT, queue).sent_packets for queue in range(8)]
    assert sent == [4] * 7 + [4 + 3]
    assert [bench.group(1 + local, pg).packets for local, pg in product(range(4), range(8))] == [1] * 32
    # Every one was charged to a queue, a group and a word of the matrix: the right ones have been given back.
    assert not any(bench.matrix)
    assert not any(state.depth for state in bench.queues)
    assert not any(bench.group(port, pg).used for port, pg in product(range(1, 5), range(8)))
    assert not any(pool.used for pool in bench.pools)
    assert bench.ports[IN].unstamped == 0


def test_a_stamp_holds_any_local_number(
    bench: Bench, wire: Callable[[bytes, int], None], udp: Callable[..., bytes]
) -> None:
    """The last bit of each field: a port whose number does not fit the bench is charged to nobody, and released."""
    for local in (1, 2, 1024, 2048, 4095):
        wire(udp(7, size=200), abi.MARK_INGRESS | local)
    assert bench.queue(OUT, 7).sent_packets == 5
    assert bench.depth(OUT, 7) == (0, 0)
    assert not any(bench.matrix)


def test_what_was_not_stamped_is_counted(
    bench: Bench, wire: Callable[[bytes, int], None], udp: Callable[..., bytes]
) -> None:
    """Negative control: past the egress program nothing was charged, and nothing is given back."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as past:
        past.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
        past.bind(("near", 0))
        past.send(udp(3))
    assert bench.ports[IN].unstamped == 1
    assert not any(any(bytes(state)) for state in bench.queues)
    wire(udp(3), 0)
    assert bench.ports[IN].unstamped == 1
    assert bench.queue(OUT, 7).sent_packets == 1


@pytest.mark.parametrize(("size", "gathered"), [(100, True), (8000, False)])
def test_the_engines_hash_is_the_packets(
    bench: Bench, wire: Callable[[bytes, int], None], heard: Heard, udp: Callable[..., bytes], size: int, gathered: bool
) -> None:
    """Read where the kernel reads it. A large packet's headers the kernel has not gathered: the engine copies them."""
    frame = udp(size=size)
    five_tuple = frame[23:24] + frame[26:38]
    h = mix(raw_hash(five_tuple, RULE.algorithm), RULE.seed, RULE.offset)
    wire(frame, abi.MARK_INGRESS)
    assert (heard.packets, heard.len, heard.gathered >= 14 + 20 + 8) == (1, size, gathered)
    assert heard.hash == h | 1
    assert list(heard.cb) == [IN, 0, h, h | 1]
    bench.profile.ecmp = 0
    wire(frame, abi.MARK_INGRESS)
    assert (heard.packets, heard.hash) == (2, 0), "not the engine's, and no sender's either"
