"""Following a flow through nodes that answer ``ip route get`` by script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.errors import NotReady
from labs.node import LiveNode
from labs.path import Hop, paths
from topologies.load import load_fabric
from traffic.flows import FiveTuple, Transport

FABRIC = load_fabric("clos_2x4")
FLOW = FiveTuple("10.0.0.1", "10.0.0.2", Transport.UDP, 1000, 4791)
LOCAL = {"type": "local", "dev": "lo"}


def nodes(
    answers: Mapping[str, object], *, batch: bool = True, matching: Sequence[Mapping[str, object]] = ()
) -> dict[str, LiveNode]:
    """Every node of the fabric; `answers` are those of the kernel by node, or what it says on stderr.

    `matching` are the routes a node lists for a destination.
    """

    def answer(node: str, argv: tuple[str, ...], stdin: str) -> CommandResult:
        if "match" in argv:
            return CommandResult(argv, 0, json.dumps(matching), "")
        said = answers[node]
        if isinstance(said, str):
            return CommandResult(argv, 2, "", said)
        if "-batch" not in argv:
            return CommandResult(argv, 0, json.dumps([said]), "")
        if not batch:
            return CommandResult(argv, 1, "", "Command failed -:1")
        return CommandResult(argv, 0, "\n".join(json.dumps([said], indent=1) for _ in stdin.splitlines()), "")

    def live(name: str) -> LiveNode:
        node = FABRIC.node(name)
        channel = ScriptedChannel(name, lambda argv, stdin: answer(name, argv, stdin))
        return LiveNode(node, "host", FABRIC.ports(node), channel)

    return {node.name: live(node.name) for node in FABRIC.nodes}


def far(node: str, port: str) -> str:
    return FABRIC.link_at(node, port).far(node).node


UP = next(port.name for port in FABRIC.ports("leaf1") if far("leaf1", port.name) == "spine1")
TO_LEAF2 = next(port.name for port in FABRIC.ports("spine1") if far("spine1", port.name) == "leaf2")
DOWN = next(port.name for port in FABRIC.ports("leaf2") if far("leaf2", port.name).startswith("host"))
SRC = next(far("leaf1", port.name) for port in FABRIC.ports("leaf1") if far("leaf1", port.name).startswith("host"))
DST = far("leaf2", DOWN)
SOUND: Mapping[str, object] = {
    SRC: {"dev": FABRIC.ports(SRC)[0].name},
    "leaf1": {"dev": UP},
    "spine1": {"dev": TO_LEAF2},
    "leaf2": {"dev": DOWN},
    DST: LOCAL,
}


@pytest.mark.parametrize("batch", [True, False])
def test_arrives(batch: bool) -> None:
    live = nodes(SOUND, batch=batch)
    one, two = paths(FABRIC, live, [FLOW, FLOW], [SRC, SRC])
    assert one == two
    assert (one.end, one.broken) == (DST, None)
    assert [hop.node for hop in one.hops] == [SRC, "leaf1", "spine1", "leaf2"]
    assert one.hops[0].in_port is None
    assert one.hops[2] == Hop("spine1", FABRIC.link_at("leaf1", UP).far("leaf1").name, TO_LEAF2)
    assert str(one).endswith(f"leaf2:{DOWN} > {DST}")


def test_all_flows_at_a_node_are_one_question() -> None:
    live = nodes(SOUND)
    paths(FABRIC, live, [FLOW] * 5, [SRC] * 5)
    for name in SOUND:
        channel = live[name].channel
        assert isinstance(channel, ScriptedChannel)
        assert len(channel.calls) == 1


@pytest.mark.parametrize(
    "said", ["RTNETLINK answers: Network is unreachable", "RTNETLINK answers: No route to host", {"type": "blackhole"}]
)
def test_no_route(said: object) -> None:
    (path,) = paths(FABRIC, nodes({**SOUND, "spine1": said}), [FLOW], [SRC])
    assert (path.end, path.broken) == (None, "spine1 has no route")
    assert [hop.node for hop in path.hops] == [SRC, "leaf1"]
    assert str(path).endswith(": spine1 has no route")


@pytest.mark.parametrize(
    "said", ["RTNETLINK answers: Invalid argument", "RTNETLINK answers: Permission denied", {"type": "blackhole"}]
)
def test_a_route_that_drops_is_named(said: object) -> None:
    """The longest counts, and of one length the least metric: a null route beside the one that BGP gave."""
    listed: list[Mapping[str, object]] = [
        {"dst": "default", "type": "unreachable", "metric": 4294967295},
        {"dst": "10.0.0.0/29", "dev": TO_LEAF2, "metric": 20},
        {"dst": "10.0.0.0/29", "type": "blackhole"},
    ]
    (path,) = paths(FABRIC, nodes({**SOUND, "spine1": said}, matching=listed), [FLOW], [SRC])
    assert (path.end, path.broken) == (None, "spine1 drops it: its route is blackhole 10.0.0.0/29")


@pytest.mark.parametrize(
    "listed", [[], [{"dst": "10.0.0.2", "dev": TO_LEAF2}, {"dst": "default", "type": "blackhole"}]]
)
def test_another_error_is_no_route_that_drops(listed: list[Mapping[str, object]]) -> None:
    said = nodes({**SOUND, "spine1": "RTNETLINK answers: Invalid argument"}, matching=listed)
    with pytest.raises(NotReady, match="spine1: ip route get: RTNETLINK answers: Invalid argument"):
        paths(FABRIC, said, [FLOW], [SRC])


def test_circle() -> None:
    back = next(port.name for port in FABRIC.ports("spine1") if far("spine1", port.name) == "leaf1")
    (path,) = paths(FABRIC, nodes({**SOUND, "spine1": {"dev": back}}), [FLOW], [SRC])
    assert (path.end, path.broken) == (None, "the path is a circle")


def test_node_that_does_not_answer_is_not_a_missing_route() -> None:
    with pytest.raises(NotReady, match="spine1: ip route get: it hangs"):
        paths(FABRIC, nodes({**SOUND, "spine1": "it hangs"}), [FLOW], [SRC])
