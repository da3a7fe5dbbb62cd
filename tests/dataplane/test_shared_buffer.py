"""The shared buffer, byte by byte: reserved sizes, static and dynamic limits, XOFF, headroom and XON, and repair.

Every expected number is worked out here from SAI's rules (asic.h, queue.h), never read back from a program.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import pytest

from labs.dataplane import abi
from labs.dataplane.abi import EventKind, LimitMode, RepairKind

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

PASS, DROP = -1, 2
OUT, CAME, OTHER = 3, 1, 2  # of one switch; OUT's far end is port 7
EGRESS_POOL, INGRESS_POOL = 0, 1
LOSSLESS = 3
KIB = 1024


def free_share(alpha: int, free: int) -> int:
    """2^alpha times what is free of the pool."""
    return free >> -alpha if alpha < 0 else free << alpha


def fill(bench: Bench, frame: bytes, *, came: int | None = CAME, most: int = 100_000) -> int:
    """Frames that pass before the first one is dropped."""
    for passed in count():
        assert passed < most
        if bench.egress(OUT, frame, came=came).verdict == DROP:
            return passed
    raise AssertionError


# --- queues: tail drop


@pytest.mark.parametrize("reserved", [0, 1000])
def test_a_static_limit_is_met_to_the_byte(bench: Bench, udp: Callable[..., bytes], reserved: int) -> None:
    queue = bench.profile.queue[1]
    queue.reserved, queue.limit = reserved, 5000 - reserved
    assert fill(bench, udp(1, size=500)) == 10  # 10 x 500 = 5000: the limit may be reached
    assert bench.depth(OUT, 1) == (10, 5000)
    assert bench.pools[EGRESS_POOL].used == 5000 - reserved
    state = bench.queue(OUT, 1)
    assert (state.tail_dropped_packets, state.tail_dropped_bytes, state.watermark) == (1, 500, 5000)
    assert bench.group(CAME, 1).packets == 10, "a frame that its queue refuses is not charged to its PG"
    # Negative control: one byte more of limit makes room for nothing, 500 for one frame, and then for no other.
    queue.limit += 499
    assert fill(bench, udp(1, size=500)) == 0
    queue.limit += 1
    assert fill(bench, udp(1, size=500)) == 1
    assert fill(bench, udp(1, size=60)) == 0


def test_the_pool_is_the_last_limit(bench: Bench, udp: Callable[..., bytes]) -> None:
    bench.pools[EGRESS_POOL].size = 2000
    assert fill(bench, udp(1, size=500)) == 4
    # Reserved bytes are the queue's own, whatever is left of the pool.
    bench.profile.queue[2].reserved = 1000
    assert fill(bench, udp(2, size=500)) == 2
    assert bench.pools[EGRESS_POOL].used == 2000
    assert bench.pools[EGRESS_POOL].watermark == 2000


@pytest.mark.parametrize("alpha", range(-8, 8))
@pytest.mark.parametrize("reserved", [0, 700])
def test_a_dynamic_limit_follows_what_is_free(
    bench: Bench, udp: Callable[..., bytes], alpha: int, reserved: int
) -> None:
    size, held, frame = 200_000, 60_000, 300
    queue = bench.profile.queue[1]
    queue.mode, queue.alpha, queue.reserved = LimitMode.DYNAMIC, alpha, reserved
    bench.pools[EGRESS_POOL].size, bench.pools[EGRESS_POOL].used = size, held
    expected = depth = 0
    while True:
        used = max(0, depth - reserved)  # of the pool, before this frame
        after = max(0, depth + frame - reserved)
        free = size - held - used
        if after > used and (after > free_share(alpha, free) or after - used > free):
            break
        depth += frame
        expected += 1
    assert fill(bench, udp(1, size=frame)) == expected
    # As algebra has it: one user of a pool B comes to rest at alpha B / (1 + alpha), to a frame or two.
    rest = 2**alpha * (size - held) / (1 + 2**alpha)
    assert abs(expected * frame - reserved - rest) <= frame * (2 + 2**alpha) or alpha > 3
    # Negative control: a larger pool has more to share.
    bench.pools[EGRESS_POOL].size *= 8
    assert fill(bench, udp(1, size=frame)) > 0


def test_what_leaves_makes_room(bench: Bench, udp: Callable[..., bytes]) -> None:
    bench.profile.queue[1].limit = 1000
    frame = udp(1, size=500)
    assert fill(bench, frame) == 2
    assert bench.cross(OUT, frame, came=CAME).verdict == PASS
    assert bench.depth(OUT, 1) == (1, 500)
    assert fill(bench, frame) == 1
    state = bench.queue(OUT, 1)
    assert (state.sent_packets, state.sent_bytes) == (1, 500)


# --- priority groups: XOFF, headroom, XON


def lossless(bench: Bench, *, limit: int, headroom: int, xon: int = 0, xon_offset: int = 0, reserved: int = 0) -> None:
    pg = bench.profile.pg[LOSSLESS]
    pg.limit, pg.headroom, pg.xon, pg.xon_offset, pg.reserved = limit, headroom, xon, xon_offset, reserved


@pytest.mark.parametrize("reserved", [0, 400])
def test_xoff_at_the_frame_that_crosses(bench: Bench, udp: Callable[..., bytes], reserved: int) -> None:
    lossless(bench, limit=2000 - reserved, headroom=1500, reserved=reserved)
    frame = udp(LOSSLESS, size=500)
    for _ in range(4):
        assert bench.egress(OUT, frame, came=CAME).verdict == PASS
    assert bench.told() == []
    assert bench.group(CAME, LOSSLESS).xoff == 0
    assert bench.egress(OUT, frame, came=CAME).verdict == PASS
    (event,) = bench.told()
    assert (event.kind, event.port, event.priorities, event.pg) == (EventKind.XOFF, CAME, 1 << LOSSLESS, LOSSLESS)
    # Headroom takes what is on its way, and tells nobody again; when it is full, frames are lost.
    assert [bench.egress(OUT, frame, came=CAME).verdict for _ in range(3)] == [PASS, PASS, DROP]
    assert bench.told() == []
    group = bench.group(CAME, LOSSLESS)
    assert (group.used, group.headroom, group.xoff, group.xoffs) == (2000, 1500, 1, 1)
    assert (group.packets, group.bytes, group.dropped_packets, group.dropped_bytes) == (7, 3500, 1, 500)
    assert (group.shared_watermark, group.headroom_watermark) == (2000 - reserved, 1500)
    assert (bench.pools[INGRESS_POOL].used, bench.pools[INGRESS_POOL].headroom) == (2000 - reserved, 1500)
    # What its PG refuses takes no room in its queue either.
    state = bench.queue(OUT, LOSSLESS)
    assert (state.ingress_dropped_packets, state.ingress_dropped_bytes) == (1, 500)
    assert bench.depth(OUT, LOSSLESS) == bench.charged(OUT, 0, LOSSLESS) == (7, 3500)
    assert bench.pools[EGRESS_POOL].used == 3500


def test_a_lossy_group_has_no_headroom(bench: Bench, udp: Callable[..., bytes]) -> None:
    bench.profile.pg[1].limit, bench.profile.pg[1].headroom = 1000, 5000
    assert fill(bench, udp(1, size=500)) == 2
    group = bench.group(CAME, 1)
    assert (group.xoff, group.headroom, bench.told()) == (0, 0, [])


def test_only_enabled_priorities_are_told(bench: Bench, udp: Callable[..., bytes]) -> None:
    lossless(bench, limit=100, headroom=1000)
    bench.profile.pg[LOSSLESS].priorities = 0b01001000
    bench.egress(OUT, udp(LOSSLESS, size=500), came=CAME)
    assert [event.priorities for event in bench.told()] == [1 << LOSSLESS]  # pfc_enable is 3 and 4
    bench.profile.pfc_enable = 0
    bench.egress(OUT, udp(LOSSLESS, size=500), came=OTHER)
    assert bench.told() == []
    assert bench.group(OTHER, LOSSLESS).headroom == 500, "headroom is the buffer's, not PFC's"


@pytest.mark.parametrize("alpha", range(-8, 8))
def test_a_dynamic_group_asks_when_its_share_is_used_up(bench: Bench, udp: Callable[..., bytes], alpha: int) -> None:
    size, frame = 100_000, 200
    lossless(bench, limit=0, headroom=10_000)
    pg = bench.profile.pg[LOSSLESS]
    pg.mode, pg.alpha = LimitMode.DYNAMIC, alpha
    bench.pools[INGRESS_POOL].size = size
    expected = 0
    while (expected + 1) * frame <= min(free_share(alpha, size - expected * frame), size):
        expected += 1
    for _ in range(expected):
        bench.egress(OUT, udp(LOSSLESS, size=frame), came=CAME)
    assert bench.told() == []
    assert bench.egress(OUT, udp(LOSSLESS, size=frame), came=CAME).verdict == PASS
    assert [event.kind for event in bench.told()] == [EventKind.XOFF]
    assert (bench.group(CAME, LOSSLESS).used, bench.group(CAME, LOSSLESS).headroom) == (expected * frame, frame)


def test_the_shared_headroom_pool_caps_all_groups_together(bench: Bench, udp: Callable[..., bytes]) -> None:
    lossless(bench, limit=0, headroom=1500)
    bench.pools[INGRESS_POOL].headroom_size = 2000
    frame = udp(LOSSLESS, size=500)
    assert [bench.egress(OUT, frame, came=CAME).verdict for _ in range(4)] == [PASS, PASS, PASS, DROP]
    assert [bench.egress(OUT, frame, came=OTHER).verdict for _ in range(2)] == [PASS, DROP]
    pool = bench.pools[INGRESS_POOL]
    assert (pool.headroom, pool.headroom_watermark, pool.used) == (2000, 2000, 0)
    # Negative control: without that pool each group has its own headroom.
    pool.headroom_size = 0
    assert [bench.egress(OUT, frame, came=OTHER).verdict for _ in range(3)] == [PASS, PASS, DROP]
    # What leaves gives it back.
    for _ in range(3):
        bench.cross(OUT, frame, came=CAME)
    assert (pool.headroom, bench.group(CAME, LOSSLESS).headroom) == (1500, 0)


@pytest.mark.parametrize(
    ("xon", "xon_offset", "resume_at"),
    [(1000, 0, 4000), (1000, 1000, 3000), (3500, 1000, 3500), (0, 3999, 1), (500, 9999, 500)],
)
def test_xon_at_the_larger_mark(
    bench: Bench, udp: Callable[..., bytes], xon: int, xon_offset: int, resume_at: int
) -> None:
    lossless(bench, limit=4000, headroom=2000, xon=xon, xon_offset=xon_offset)
    frame = udp(LOSSLESS, size=250)
    for _ in range(24):
        assert bench.egress(OUT, frame, came=CAME).verdict == PASS
    assert [event.kind for event in bench.told()] == [EventKind.XOFF]
    left = 24 * 250
    while left > resume_at:
        assert bench.told() == [], f"XON came at {left}"
        assert bench.group(CAME, LOSSLESS).xoff == 1
        bench.cross(OUT, frame, came=CAME)
        left -= 250
    (event,) = bench.told()
    assert (event.kind, event.port, event.priorities) == (EventKind.XON, CAME, 1 << LOSSLESS)
    group = bench.group(CAME, LOSSLESS)
    assert (group.xoff, group.used + group.headroom) == (0, left)
    while left:
        bench.cross(OUT, frame, came=CAME)
        left -= 250
    assert bench.told() == [], "XON is told once"


def test_headroom_is_given_back_first(bench: Bench, udp: Callable[..., bytes]) -> None:
    lossless(bench, limit=1000, headroom=1000)
    frame = udp(LOSSLESS, size=400)
    for _ in range(4):
        bench.egress(OUT, frame, came=CAME)  # 800 of the pool, 800 of headroom
    for used, headroom in [(800, 400), (800, 0), (400, 0), (0, 0)]:
        bench.cross(OUT, frame, came=CAME)
        group = bench.group(CAME, LOSSLESS)
        assert (group.used, group.headroom) == (used, headroom)
    assert (bench.pools[INGRESS_POOL].used, bench.pools[INGRESS_POOL].headroom) == (0, 0)


def test_a_group_that_holds_nothing_stops_nobody(bench: Bench, udp: Callable[..., bytes]) -> None:
    """XON follows what leaves. A group that is stopped while it holds nothing would stay so for ever."""
    lossless(bench, limit=0, headroom=0)
    pg = bench.profile.pg[LOSSLESS]
    pg.mode, pg.alpha = LimitMode.DYNAMIC, 0
    pool = bench.pools[INGRESS_POOL]
    pool.size = pool.used = 10_000  # others have it all
    frame = udp(LOSSLESS, size=500)
    assert bench.egress(OUT, frame, came=CAME).verdict == DROP
    stopped = [event.kind for event in bench.told()] == [EventKind.XOFF]
    pool.used = 0
    # Either it was never stopped, or a look at it (asicd's, with nothing to give back) lets it go on.
    bench.repair(abi.Repair(kind=RepairKind.GROUP, port=OUT, local=0, pg=LOSSLESS))
    assert bench.group(CAME, LOSSLESS).xoff == 0
    assert [event.kind for event in bench.told()] == [EventKind.XON] * stopped


# --- repair


def test_repair_gives_all_room_back(bench: Bench, udp: Callable[..., bytes]) -> None:
    lossless(bench, limit=1000, headroom=2000, reserved=300)
    bench.profile.queue[LOSSLESS].reserved = 700
    frame = udp(LOSSLESS, size=400)
    for _ in range(7):
        assert bench.egress(OUT, frame, came=CAME).verdict == PASS
    bench.told()
    queue = abi.Repair(kind=RepairKind.QUEUE, port=OUT, queue=LOSSLESS, packets=3, bytes=1200)
    assert bench.repair(queue) == PASS
    assert bench.depth(OUT, LOSSLESS) == (4, 1600)
    assert bench.pools[EGRESS_POOL].used == 900
    assert bench.charged(OUT, 0, LOSSLESS) == (7, 2800), "the group is another matter"
    word = bench.queue(OUT, LOSSLESS).lost
    assert (abi.packed_packets(word), abi.packed_bytes(word)) == (3, 1200)
    group = abi.Repair(kind=RepairKind.GROUP, port=OUT, local=0, pg=LOSSLESS, packets=7, bytes=2800)
    assert bench.repair(group) == PASS
    assert bench.charged(OUT, 0, LOSSLESS) == (0, 0)
    state = bench.group(CAME, LOSSLESS)
    assert (state.used, state.headroom, state.xoff) == (0, 0, 0)
    assert (bench.pools[INGRESS_POOL].used, bench.pools[INGRESS_POOL].headroom) == (0, 0)
    assert [event.kind for event in bench.told()] == [EventKind.XON]
    bench.repair(abi.Repair(kind=RepairKind.QUEUE, port=OUT, queue=LOSSLESS, packets=4, bytes=1600))
    assert bench.depth(OUT, LOSSLESS) == (0, 0)
    assert bench.pools[EGRESS_POOL].used == 0


def test_repair_takes_back_what_was_given_too_early(bench: Bench, udp: Callable[..., bytes]) -> None:
    """A frame that was only late is given back twice: counters stand below zero until that is put right."""
    frame = udp(LOSSLESS, size=400)
    bench.egress(OUT, frame, came=CAME)
    for kind in RepairKind:
        bench.repair(abi.Repair(kind=kind, port=OUT, queue=LOSSLESS, local=0, pg=LOSSLESS, packets=1, bytes=400))
    bench.cross(OUT, frame, came=CAME)
    assert bench.depth(OUT, LOSSLESS) == bench.charged(OUT, 0, LOSSLESS) == (-1, -400)
    for kind in RepairKind:
        back = {"packets": 2**32 - 1, "bytes": -400}
        bench.repair(abi.Repair(kind=kind, port=OUT, queue=LOSSLESS, local=0, pg=LOSSLESS, **back))
    assert bench.depth(OUT, LOSSLESS) == bench.charged(OUT, 0, LOSSLESS) == (0, 0)
    group = bench.group(CAME, LOSSLESS)
    assert (group.used, group.headroom) == (0, 0)
    assert (bench.pools[EGRESS_POOL].used, bench.pools[INGRESS_POOL].used) == (0, 0)
    assert bench.queue(OUT, LOSSLESS).lost == 0


@pytest.mark.parametrize("port", [0, 1000])
def test_repair_of_no_port_changes_nothing(bench: Bench, udp: Callable[..., bytes], port: int) -> None:
    bench.egress(OUT, udp(LOSSLESS), came=CAME)
    for kind in RepairKind:
        bench.repair(abi.Repair(kind=kind, port=port, queue=LOSSLESS, local=90, pg=LOSSLESS, packets=1, bytes=100))
    assert bench.depth(OUT, LOSSLESS) == bench.charged(OUT, 0, LOSSLESS) == (1, 100)
    assert bench.group(CAME, LOSSLESS).used == 100
