"""A graph as iperf3 flows: which sends share one, what waits for what, ports, commands, limits."""

from __future__ import annotations

import pytest

from topologies.errors import SpecError
from topologies.units import MBIT, MIB
from traffic.collectives import all_to_all, ring_all_reduce, send_recv
from traffic.engines.iperf3_plan import MOST_FLOWS, Iperf3Plans, Iperf3Settings, iperf3_plans
from traffic.flows import Transport
from traffic.graph import Graph, Send
from traffic.patterns import ALGORITHMS, Pattern
from traffic.placement import Rank, checked_placement, one_each

HOSTS = ("h1", "h2", "h3", "h4")


def planned(graph: Graph, iterations: int = 1, **settings: object) -> Iperf3Plans:
    placement = one_each(HOSTS[: graph.ranks], rate_bps=100 * MBIT)
    chosen = Iperf3Settings(**settings)  # type: ignore[arg-type]
    return iperf3_plans(graph, placement, lambda host, card: f"10.0.{card}.{host[1:]}", chosen, iterations=iterations)


@pytest.mark.parametrize(
    "pattern", [Pattern(one, by) for one, played in ALGORITHMS.items() for by in played], ids=lambda p: p.algorithm
)
def test_flows_carry_the_graphs_bytes_in_an_order_that_can_be_played(pattern: Pattern) -> None:
    graph = pattern.graph(4, MIB)
    plans = planned(graph)
    carried = graph.matrix * 0
    for flow in plans.flows:
        assert all(number < flow.number for number in flow.after)
        if not flow.is_local:
            carried[flow.src, flow.dst] += flow.size
    assert (carried == graph.matrix).all()
    ends = [(plans.host(flow.src), flow.port) for flow in plans.carried]
    assert len(set(ends)) == len(ends)


def test_a_flow_waits_for_what_its_sends_wait_for() -> None:
    plans = planned(ring_all_reduce(3, size=3000))
    sent = {place: send for place, send in enumerate(plans.graph.sends) if not send.is_local}
    flows = dict(zip(sent, plans.carried, strict=True))
    for place, send in sent.items():
        wanted = {flows[earlier].number for earlier in send.after if earlier in flows}
        assert wanted <= set(flows[place].after)
    assert max(len(flow.after) for flow in plans.carried) > 0


def test_sends_that_nothing_tells_apart_are_one_flow() -> None:
    one = Send(0, 1, 400)
    others = (one, Send(0, 1, 200, to_offset=400), Send(0, 1, 8, step=1), Send(1, 0, 4, after=(1,)))
    plans = planned(Graph("some", 2, others, 1000, 1000))
    assert [(flow.size, flow.after) for flow in plans.flows] == [(600, ()), (8, ()), (4, (0,))]


@pytest.mark.parametrize("size", [1, 4, 4096, 131072, 131073, 1_000_003, 4 * MIB])
@pytest.mark.parametrize("transport", list(Transport))
def test_blocks_add_up_to_the_size_or_a_few_bytes_more(size: int, transport: Transport) -> None:
    flow = planned(send_recv(2, size=size), transport=transport)
    argv = flow.client_argv(flow.flows[0])
    block, total = int(argv[argv.index("-l") + 1]), int(argv[argv.index("-n") + 1])
    assert total == size
    blocks = -(-size // block)
    assert 0 <= blocks * block - size < blocks
    assert block <= (131072 if transport is Transport.TCP else 4096)


def test_the_receiver_is_the_client_and_udp_shares_the_cards_rate() -> None:
    plans = planned(all_to_all(4, size=4 * MIB, in_flight=None), transport=Transport.UDP, dscp=26)
    flow = plans.carried[0]
    server, client = plans.server_argv(flow), plans.client_argv(flow)
    assert server[server.index("-B") + 1] == client[client.index("-c") + 1] == plans.at[flow.src]
    assert client[client.index("-B") + 1] == plans.at[flow.dst]
    assert {"-R", "-u"} <= set(client)
    assert client[client.index("-w") + 1] == "212992"  # what a receiver that is late may leave there
    assert client[client.index("-S") + 1] == "104"
    beside = sum(one.src == flow.src and one.step == flow.step for one in plans.carried)
    wire = int(client[client.index("-b") + 1]) * (4096 + 66) / 4096 * beside
    assert wire == pytest.approx(100 * MBIT, rel=1e-6)


def test_tcp_goes_as_fast_as_it_can_unless_it_is_paced() -> None:
    argv = [plans.client_argv(plans.flows[0]) for plans in (planned(send_recv(2, size=9)),
                                                            planned(send_recv(2, size=9), paced=True))]  # fmt: skip
    assert ["-b" in one for one in argv] == [False, True]


def chain(count: int) -> Graph:
    return Graph("chain", 2, tuple(Send(0, 1, 1, step=place) for place in range(count)), 1, 1)


def test_more_processes_than_may_be_are_refused_with_the_limits() -> None:
    assert len(planned(chain(MOST_FLOWS)).carried) == MOST_FLOWS
    with pytest.raises(SpecError, match=r"chain of 2 ranks is 513 flows; allowed: up to 512 in an iteration, 8192"):
        planned(chain(MOST_FLOWS + 1))
    with pytest.raises(SpecError, match="17 iterations of 512 flows"):
        planned(chain(MOST_FLOWS), iterations=17)


@pytest.mark.parametrize(
    ("ranks", "settings", "message"),
    [
        ((Rank("h1"), Rank("h1")), Iperf3Settings(), "both on h1"),
        ((Rank("h1"), Rank("h2", (1, 2))), Iperf3Settings(), "rank 1 has 2 cards"),
        ((Rank("h1"), Rank("h2")), Iperf3Settings(Transport.UDP), "rank 0 on h1 has no rate"),
        ((Rank("h1"), Rank("h2")), Iperf3Settings(dscp=64), "dscp 64"),
        ((Rank("h1"), Rank("h2")), Iperf3Settings(base_port=65536), "1 flows of h1 from port 65536"),
    ],
)
def test_what_iperf3_cannot_play_is_refused(ranks: tuple[Rank, ...], settings: Iperf3Settings, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        iperf3_plans(send_recv(2, size=4), checked_placement(ranks), lambda host, card: f"{host}.{card}", settings)
