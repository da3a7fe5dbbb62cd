"""What a graph puts on every port, to the byte."""

from __future__ import annotations

import pytest

from traffic.carried import Carried, answer, asked_every, at_ports, busiest_s, flows, message
from traffic.collectives import ring_all_reduce, send_recv
from traffic.engines.rc_plan import RcPlans, plans
from traffic.engines.rc_settings import RcSettings, Recovery
from traffic.graph import Graph, Send
from traffic.placement import one_each


def planned(graph: Graph, *, iterations: int = 1, net: str = "10.0.0.", **settings: object) -> RcPlans:
    chosen = RcSettings(**settings)  # type: ignore[arg-type]
    placement = one_each([f"h{rank + 1}" for rank in range(graph.ranks)])
    return plans(graph, placement, lambda host, _: f"{net}{host[1:]}", chosen, iterations=iterations)


@pytest.mark.parametrize(
    ("size", "frames", "bytes_"),
    [
        (1, 1, 58 + 16 + 4 + 4),  # padded to 4
        (4096, 1, 58 + 16 + 4 + 4096),
        (4097, 2, 2 * 58 + 16 + 4 + 4096 + 4),
        (3 * 4096, 3, 3 * 58 + 16 + 4 + 3 * 4096),
    ],
)
def test_a_message_is_its_payload_and_what_goes_around_it(size: int, frames: int, bytes_: int) -> None:
    assert message(size, RcSettings()) == Carried(frames, bytes_)
    assert message(size, RcSettings(), family=6) == Carried(frames, bytes_ + 20 * frames)
    apart = message(size, RcSettings(recovery=Recovery.SELECTIVE_REPEAT))
    assert apart == Carried(frames, bytes_ + 16 * (frames - 1))


def test_an_answer_is_62_bytes() -> None:
    assert (answer(), answer(family=6)) == (62, 82)


@pytest.mark.parametrize(("window", "every"), [(256, 16), (64, 16), (63, 16), (8, 2), (1, 1)])
def test_answers_are_asked_for_as_rnic_does(window: int, every: int) -> None:
    assert asked_every(RcSettings(window=window)) == every


def test_answers_at_ends_and_every_sixteenth_are_counted_once() -> None:
    aligned = flows(planned(send_recv(2, [1, 0], size=32 * 4096), iterations=3))
    assert [(one.src, one.data.frames, one.asked) for one in aligned] == [(0, 96, 6), (1, 96, 6)]
    # Ends at packets 10, 20 and 30; the sixteenth is none of them.
    odd = flows(planned(send_recv(2, [1, 0], size=10 * 4096), iterations=3))
    assert [one.asked for one in odd] == [4, 4]


def test_every_byte_of_the_graph_is_carried() -> None:
    found = planned(ring_all_reduce(4, size=1 << 20), iterations=2, qps=2, split=True)
    every = flows(found)
    frames = sum(one.data.frames for one in every)
    starts = 2 * sum(task.connection is not None for task in found.tasks)
    payload = 2 * int(found.graph.matrix.sum())
    assert sum(one.data.bytes for one in every) == payload + 58 * frames + 20 * starts
    assert flows(planned(ring_all_reduce(4, size=1 << 20), net="fd00::"))[0].answer_bytes == 82


def test_data_goes_its_way_and_answers_go_theirs() -> None:
    """One message from h1 to h2; the answers' path is another spine than the data's."""
    one_way = Graph("one message", 2, (Send(0, 1, 4096),), 4096, 4096)
    (there, back) = flows(planned(one_way))
    ways = {
        there.key: [("h1", None, "eth1"), ("leaf1", "eth3", "eth1"), ("leaf2", "eth1", "eth3")],
        back.key: [("h2", None, "eth1"), ("leaf2", "eth3", "eth2"), ("leaf1", "eth2", "eth3")],
    }
    ports = at_ports((there, back), ways)
    assert ports == {
        ("h1", "eth1"): Carried(1, 4174),
        ("leaf1", "eth1"): Carried(1, 4174),
        ("leaf2", "eth3"): Carried(1, 4174),
        ("h2", "eth1"): Carried(1, 62),
        ("leaf2", "eth2"): Carried(1, 62),
        ("leaf1", "eth3"): Carried(1, 62),
    }
    twice = at_ports((there, back), ways, {there.key: 2, back.key: 0})
    assert twice["leaf1", "eth3"] == Carried(2, 124)
    assert busiest_s(ports, dict.fromkeys(ports, 1e6)) == pytest.approx((4174 + 24) * 8 / 1e6)
