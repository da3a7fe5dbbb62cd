from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath

import pytest

from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.engine import Container
from labs.errors import NotReady
from labs.foreign.reading import read_design, topology_of
from labs.foreign.topology import ForeignNode, ForeignTopology

KINDS = ("frr", "host", "plain")
ADDRESSES = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8, "scope": "host"}]},
    {"ifname": "eth0", "addr_info": [{"local": "172.20.20.2", "prefixlen": 24, "scope": "global"}]},
    {
        "ifname": "eth1",
        "address": "aa:c1:ab:00:00:01",
        "addr_info": [
            {"local": "192.0.2.2", "prefixlen": 25, "scope": "global"},
            {},
            {"local": "fe80::1", "prefixlen": 64, "scope": "link"},
        ],
    },
]
ROUTES = [
    {"dst": "default", "gateway": "172.20.20.1", "dev": "eth0"},
    {"dst": "192.0.2.0/24", "gateway": "192.0.2.1", "dev": "eth1", "protocol": "boot"},
    {"dst": "198.51.100.0/24", "nexthops": [{"gateway": "192.0.2.1"}, {"via": {"host": "192.0.2.9"}}]},
    {"dst": "203.0.113.0/24", "gateway": "192.0.2.1", "protocol": "bgp"},
]


class Rooted(ScriptedChannel):
    """A scripted node whose files are those of a folder."""

    root = Path("/nowhere")

    def unix_socket(self, path: PurePosixPath) -> Path | None:
        return Path(self.root, *path.parts[1:])


def channel(node: str, said: Mapping[str, object]) -> ScriptedChannel:
    def answer(argv: tuple[str, ...], _: str) -> CommandResult:
        words = " ".join(argv)
        found = next((value for key, value in said.items() if key in words), [])
        return CommandResult(argv, 0, json.dumps(found), "")

    return Rooted(node, answer)


def lab(*names: str) -> ForeignTopology:
    nodes = {name: ForeignNode(name, "linux") for name in names}
    return ForeignTopology("x", nodes, ((("a", "eth1"), ("b", "eth1")),))


def test_a_host_by_its_kernel_alone() -> None:
    said = {"addr": ADDRESSES, "-4": ROUTES}
    fabric, spec = read_design(lab("a", "b"), {"a": "ca", "b": "cb"}, lambda node: channel(node, said), KINDS, 5)
    assert fabric.given is not None
    found = fabric.given.port("a", "eth1")
    assert found.addresses == (ip_interface("192.0.2.2/25"),)
    assert found.mac == "aa:c1:ab:00:00:01"
    assert spec.node_kinds == {"a": "host", "b": "host"}
    assert fabric.given.unpredictable == "no node routes for others"


def test_what_others_send_through_routes_for_them() -> None:
    """b's address is a's gateway: b is a switch, by static routes, which the oracle does not predict."""
    mine = json.loads(json.dumps(ADDRESSES).replace("192.0.2.2", "192.0.2.1"))
    said = {"a": {"addr": ADDRESSES, "-4": ROUTES}, "b": {"addr": mine}}
    fabric, _ = read_design(lab("a", "b"), {"a": "ca", "b": "cb"}, lambda node: channel(node, said[node]), KINDS, 5)
    assert [node.name for node in fabric.switches] == ["b"]
    assert fabric.given is not None
    assert fabric.given.unpredictable == "b (static routes) routes without BGP, or cannot be asked"
    assert ip_network("203.0.113.0/24") not in fabric.given.router("b").elsewhere
    assert ip_address("192.0.2.1") not in fabric.given.router("b").loopbacks


def box(tmp_path: Path, name: str) -> Container:
    labels = {
        "clab-node-name": name,
        "clab-node-kind": "linux",
        "clab-node-lab-dir": str(tmp_path / "clab-x" / name),
        "clab-topo-file": str(tmp_path / "x.clab.yml"),
    }
    return Container(name, f"clab-x-{name}", "image", "running", labels)


def test_the_export_goes_before_the_file(tmp_path: Path) -> None:
    boxes = {name: box(tmp_path, name) for name in ("b", "a")}
    with pytest.raises(NotReady, match="nothing says how lab 'x' is cabled"):
        topology_of("x", boxes)
    (tmp_path / "x.clab.yml").write_text(
        'name: x\ntopology:\n  nodes: {a: , b: }\n  links:\n    - endpoints: ["a:eth1", "b:GigabitEthernet1"]\n'
    )
    assert topology_of("x", boxes).links == ((("a", "eth1"), ("b", "GigabitEthernet1")),)
    ends = {"a": {"node": "a", "interface": "eth1"}, "z": {"node": "b", "interface": "eth2"}}
    exported = {
        "name": "x",
        "nodes": {"a": {}, "b": {}},
        "links": [{"endpoints": ends}],
        "clab": {"config": {"mgmt": {}}},
    }
    (tmp_path / "clab-x").mkdir()
    (tmp_path / "clab-x" / "topology-data.json").write_text(json.dumps(exported))
    found = topology_of("x", boxes)
    assert found.links == ((("a", "eth1"), ("b", "eth2")),)
    assert list(found.nodes) == ["a", "b"]
    (tmp_path / "clab-x" / "topology-data.json").write_text("")
    assert topology_of("x", boxes).links[0][1] == ("b", "GigabitEthernet1"), "an export that broke off says nothing"
