"""The soft ASIC of a running lab as samples for its timeline: queues that changed, and asicd as a whole."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from ctypes import sizeof
from itertools import accumulate

from labs.dataplane import abi, place
from labs.dataplane.abi import packed_bytes
from labs.dataplane.maps import read_maps
from labs.errors import NotReady
from labs.telemetry.records import AsicRecord, QueueRecord

_QUEUE = struct.Struct(f"<q{sizeof(abi.QueueState) // 8 - 1}Q")
_SIZES = {"queues": sizeof(abi.QueueState), "asicd": sizeof(abi.AsicdState), "ports": sizeof(abi.PortState)}
# Where the numbers of packets stand that a queue's fates dropped: tail, WRED, ingress, watchdog (abi.QueueState).
_DROPPED = (6, 8, 10, 12)


class QueueWatch:
    """Reads the maps of a lab. `ports` names (node, port) in their order, from number 1 on."""

    def __init__(self, lab_name: str, ports: Sequence[tuple[str, str]]) -> None:
        self._folder = place.maps(lab_name)
        self._ports = ports
        self._queues = b""
        self._reactions: tuple[int, ...] = ()

    def sample(self) -> Iterator[QueueRecord | AsicRecord]:
        """The queues that changed since the last sample, and asicd; nothing where none is attached."""
        try:
            maps = read_maps(self._folder, _SIZES)
        except NotReady:
            return
        t = time.monotonic_ns()
        yield from self._changed(t, maps["queues"])
        yield self._asicd(t, maps["asicd"], maps["ports"])

    def _changed(self, t: int, queues: bytes) -> Iterator[QueueRecord]:
        before, self._queues = self._queues, queues
        if before == queues:
            return
        row, first = _QUEUE.size, abi.QUEUES  # no port is number 0
        for at, (node, port) in enumerate(self._ports):
            begin = (first + at * abi.QUEUES) * row
            if before[begin : begin + abi.QUEUES * row] == queues[begin : begin + abi.QUEUES * row]:
                continue
            for queue in range(abi.QUEUES):
                place_ = begin + queue * row
                if before[place_ : place_ + row] == (now := queues[place_ : place_ + row]) or not any(now):
                    continue
                state = _QUEUE.unpack(now)
                yield QueueRecord(
                    t=t, node=node, port=port, queue=queue, depth_bytes=max(0, packed_bytes(state[0])),
                    sent_packets=state[1], sent_bytes=state[2], marked_packets=state[3],
                    dropped_packets=sum(state[i] for i in _DROPPED),
                )  # fmt: skip

    def _asicd(self, t: int, asicd: bytes, ports: bytes) -> AsicRecord:
        state = abi.AsicdState.from_buffer_copy(asicd.ljust(sizeof(abi.AsicdState), b"\0"))
        reactions = tuple(state.reaction)
        before, self._reactions = self._reactions or (0,) * len(reactions), reactions
        size = sizeof(abi.PortState)
        places = range(0, len(ports) - size + 1, size)
        kept = [abi.PortState.from_buffer_copy(ports, at) for at in places]
        return AsicRecord(
            t=t,
            pauses=state.pauses,
            reaction_p99_us=_p99_us([now - then for now, then in zip(reactions, before, strict=True)]),
            lost=sum(one.lost_qdisc + one.lost_veth + one.lost_purged for one in kept),
            cpu_s=round(state.cpu_ns / 1e9, 6),
        )


def _p99_us(buckets: Sequence[int]) -> float | None:
    """What 99 % of the reactions did not exceed: the bucket's upper edge. None when there was none."""
    total = sum(buckets)
    if total <= 0:
        return None
    full = next(edge for edge, below in enumerate(accumulate(buckets), 1) if below >= 0.99 * total)
    return full * abi.REACTION_STEP_NS / 1000
