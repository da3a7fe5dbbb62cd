"""The same queue and group from two processors at once: at rest, the pools hold exactly what queues and groups say.

What runs at the same time is the programs themselves (BPF_PROG_RUN repeats them in the kernel, without Python's lock).
A program that keeps its books passes always. One that does not is caught within the rounds, not in each, and only
where two processors are free for some of the time: this can miss, and cannot cry wolf.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from labs.dataplane import abi

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

OUT, CAME, OTHER = 3, 1, 2
QUEUE = 3
ROUNDS, REPEAT = 20, 100_000


def at_once(*runs: Callable[[], object]) -> None:
    """Each on a processor of its own, as far as there are any."""
    processors = sorted(os.sched_getaffinity(0))

    def run(place: int) -> None:
        os.sched_setaffinity(0, {processors[place % len(processors)]})  # of this thread, which ends with the run
        runs[place]()

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(run, range(len(runs))))


def above(used: int, reserved: int) -> int:
    return max(0, used - reserved)


@pytest.mark.parametrize("limit", [0, 2000])
def test_a_full_queue_that_is_drained(bench: Bench, udp: Callable[..., bytes], limit: int) -> None:
    """Refused, admitted and leaving frames meet around the reserved size, where the pool's share begins."""
    queue, pool, state = bench.profile.queue[QUEUE], bench.pools[0], bench.queue(OUT, QUEUE)
    queue.reserved, queue.limit = 5000, limit
    for pg in bench.profile.pg:
        pg.reserved = 2**32 - 1
    large, small = udp(QUEUE, size=1518), udp(QUEUE, size=200)
    stamp = bench.stamp(OUT, small, CAME)
    for _ in range(ROUNDS):
        state.depth, pool.used = (9 << abi.PACKED_SHIFT) + 5000, 0
        bench.set_group(CAME, QUEUE, abi.PgState(used=5000))
        at_once(
            lambda: bench.egress(OUT, large, came=CAME, repeat=REPEAT),
            lambda: bench.ingress(bench.ports[OUT].peer, small, stamp, repeat=REPEAT),
        )
        assert pool.used == above(bench.depth(OUT, QUEUE)[1], 5000)
        group = bench.group(CAME, QUEUE)
        assert group.used + group.headroom == 5000 + bench.charged(OUT, 0, QUEUE)[1]
        bench.matrix[OUT * 32 + QUEUE] = 0


def test_two_groups_share_their_headroom(bench: Bench, udp: Callable[..., bytes]) -> None:
    pg, pool = bench.profile.pg[QUEUE], bench.pools[1]
    pg.reserved, pg.limit, pg.headroom = 1000, 3000, 20_000
    pool.size, pool.headroom_size = 5000, 30_000
    frame = udp(QUEUE, size=500)
    stamps = [bench.stamp(OUT, frame, came) for came in (CAME, OTHER)]
    for _ in range(ROUNDS):
        at_once(
            *(lambda came=came: bench.egress(OUT, frame, came=came, repeat=REPEAT) for came in (CAME, OTHER)),
        )
        packets = [bench.group(came, QUEUE).used + bench.group(came, QUEUE).headroom for came in (CAME, OTHER)]
        held = sum(bench.group(came, QUEUE).headroom for came in (CAME, OTHER))
        assert pool.headroom == held <= pool.headroom_size + len(frame), "one frame of each further processor"
        assert pool.used == sum(above(bench.group(came, QUEUE).used, 1000) for came in (CAME, OTHER)) <= pool.size + 500
        # Both drain at once, the half of it while new ones come.
        at_once(
            *(
                lambda stamp=stamp, bytes_=bytes_: bench.ingress(7, frame, stamp, repeat=bytes_ // 500)
                for stamp, bytes_ in zip(stamps, packets, strict=True)
                if bytes_
            )
        )
        assert [bench.group(came, QUEUE).used for came in (CAME, OTHER)] == [0, 0]
        assert (pool.used, pool.headroom, bench.depth(OUT, QUEUE)) == (0, 0, (0, 0))
