"""No packet has two fates or none, whatever comes in whatever order; and when all have left, nothing is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labs.dataplane import abi
from labs.dataplane.abi import EventKind, LimitMode, RepairKind

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

PASS, DROP = -1, 2
SWITCH = (1, 2, 3, 4)
SIZES = (60, 300, 1518)

Limits = list[tuple[LimitMode, int, int, int]]  # mode, limit, alpha, reserved
Rules = tuple[Limits, Limits, int, int]

ARRIVALS = st.tuples(
    st.sampled_from(SWITCH),  # leaves by
    st.sampled_from([None, *SWITCH]),  # came in by; None: the switch's own
    st.integers(0, 7),  # DSCP, traffic class and queue
    st.integers(0, 3),  # ECN
    st.sampled_from(SIZES),
)
STEPS = st.lists(
    st.one_of(
        ARRIVALS,
        st.tuples(st.sampled_from(SWITCH), st.integers(0, 7)),  # the first in a queue leaves
        st.tuples(st.sampled_from(SWITCH), st.integers(0, 7), st.just("lost")),
        st.tuples(st.sampled_from(SWITCH), st.integers(0, 255), st.just("storm"), st.booleans()),
    ),
    min_size=30,
    max_size=250,
)
LIMITS = st.tuples(
    st.sampled_from([LimitMode.STATIC, LimitMode.DYNAMIC]),
    st.sampled_from([0, 500, 3000, 10_000]),
    st.integers(-3, 3),
    st.sampled_from([0, 200, 2000]),
)
# What a queue and a PG of one number are held to, the pools' sizes, and headroom with and without a pool of its own.
RULES = st.tuples(
    st.lists(LIMITS, min_size=8, max_size=8),
    st.lists(LIMITS, min_size=8, max_size=8),
    st.sampled_from([4000, 20_000, 10**6]),
    st.sampled_from([0, 2000]),
)


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS, rules=RULES)
def test_every_packet_has_one_fate(
    loaded: Bench,
    udp: Callable[..., bytes],
    steps: list[tuple[int | str | None, ...]],
    rules: Rules,
) -> None:
    loaded.reset()
    set_rules(loaded, rules)
    play = Play(loaded, udp)
    for step in steps:
        match step:
            case (int(port), came, int(dscp), int(ecn), int(size)):
                assert came is None or isinstance(came, int)
                play.arrive(port, came, dscp, ecn, size)
            case (int(port), int(queue)):
                play.leave(port, queue)
            case (int(port), int(queue), "lost"):
                play.lose(port, queue)
            case (int(port), int(bits), "storm", on):
                loaded.ports[port].watchdog_drop = bits if on else 0
        play.check()
    play.end()


def set_rules(
    bench: Bench,
    rules: Rules,
) -> None:
    queues, groups, size, headroom_pool = rules
    for i in range(8):
        queue, pg = bench.profile.queue[i], bench.profile.pg[i]
        queue.mode, queue.limit, queue.alpha, queue.reserved = queues[i]
        pg.mode, pg.limit, pg.alpha, pg.reserved = groups[i]
        pg.headroom = 3000 if pg.lossless else 0
        queue.wred = abi.WredProfile(500, 5000, abi.PROBABILITY_ONE // 2, i % 2, 1)
    for pool in bench.pools:
        pool.size, pool.headroom_size = size, headroom_pool


class Play:
    """Packets on their way through one switch, and where each has to be found."""

    def __init__(self, bench: Bench, udp: Callable[..., bytes]) -> None:
        self.bench = bench
        self.udp = udp
        self.waiting: dict[tuple[int, int], list[tuple[bytes, int | None]]] = {}
        self.came: Counter[tuple[int, int]] = Counter()
        self.stopped: set[tuple[int, int]] = set()

    def arrive(self, port: int, came: int | None, dscp: int, ecn: int, size: int) -> None:
        frame = self.udp(dscp, ecn, size)
        queue = 7 if came is None else dscp
        self.came[port, queue] += 1
        ran = self.bench.egress(port, frame, came=came)
        if ran.verdict == PASS:
            assert ran.queue == queue
            self.waiting.setdefault((port, queue), []).append((frame, came))

    def leave(self, port: int, queue: int) -> None:
        if waiting := self.waiting.get((port, queue)):
            frame, came = waiting.pop(0)
            storm = self.bench.ports[port].watchdog_drop >> queue & 1
            assert self.bench.cross(port, frame, came=came).verdict == (DROP if storm else PASS)

    def lose(self, port: int, queue: int) -> None:
        """A packet dies between the two programs, and asicd finds out."""
        if waiting := self.waiting.get((port, queue)):
            frame, came = waiting.pop()
            lost = abi.Repair(kind=RepairKind.QUEUE, port=port, queue=queue, packets=1, bytes=len(frame))
            assert self.bench.repair(lost) == PASS
            if came is not None:
                lost = abi.Repair(
                    kind=RepairKind.GROUP, port=port, local=came - 1, pg=queue, packets=1, bytes=len(frame)
                )
                assert self.bench.repair(lost) == PASS

    def check(self) -> None:
        bench = self.bench
        for (port, queue), came in self.came.items():
            state = bench.queue(port, queue)
            lost = abi.packed_packets(state.lost)
            depth = bench.depth(port, queue)
            refused = state.tail_dropped_packets + state.wred_dropped_packets
            refused += state.ingress_dropped_packets + state.watchdog_dropped_packets
            inside = self.waiting.get((port, queue), [])
            assert refused + state.sent_packets + state.emptied_packets + lost + depth[0] == came
            assert depth == (len(inside), sum(len(frame) for frame, _ in inside))
        self._check_groups()
        self._check_pfc()

    def _check_groups(self) -> None:
        charged: Counter[tuple[int, int]] = Counter()
        for (_port, queue), inside in self.waiting.items():
            for frame, came in inside:
                if came is not None:
                    charged[came, queue] += len(frame)
        for port in SWITCH:
            for pg in range(8):
                state = self.bench.group(port, pg)
                assert state.used + state.headroom == charged[port, pg]
                assert min(state.used, state.headroom) >= 0
        shared = [0, 0]
        for port in SWITCH:
            for i in range(8):
                shared[0] += max(0, self.bench.depth(port, i)[1] - self.bench.profile.queue[i].reserved)
                shared[1] += max(0, self.bench.group(port, i).used - self.bench.profile.pg[i].reserved)
        assert [self.bench.pools[i].used for i in (0, 1)] == shared
        assert all(pool.used <= pool.size for pool in self.bench.pools)
        assert all(not pool.headroom_size or pool.headroom <= pool.headroom_size for pool in self.bench.pools)

    def _check_pfc(self) -> None:
        """What the groups say and what asicd was told is one thing."""
        for event in self.bench.told():
            if event.kind == EventKind.XOFF:
                assert (event.port, event.pg) not in self.stopped
                self.stopped.add((event.port, event.pg))
            else:
                self.stopped.remove((event.port, event.pg))
        for port in SWITCH:
            for pg in (3, 4):
                assert bool(self.bench.group(port, pg).xoff) == ((port, pg) in self.stopped)

    def end(self) -> None:
        for port, queue in list(self.waiting):
            while self.waiting[port, queue]:
                self.leave(port, queue)
        self.check()
        assert {word for word in self.bench.matrix if word} == set()
        assert not any(state.depth for state in self.bench.queues)
        assert not any(pool.used or pool.headroom for pool in self.bench.pools)
