from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from labs.foreign.design import design_of_file
from labs.foreign.topology import ForeignTopology, check_name, from_data, from_export, is_foreign, read_file
from topologies.errors import SpecError
from topologies.fabric import Tier

THEIRS = Path(__file__).parents[2] / "containers" / "foreign"


def topology(text: str) -> ForeignTopology:
    return from_data(yaml.safe_load(text), Path("x.clab.yml"))


def test_all_styles_of_links() -> None:
    found = topology(
        """
        name: Lab_1.x
        mgmt: {network: ours}
        topology:
          nodes:
            A: {kind: linux}
            b.2: {kind: nokia_srlinux}
            c_3:
            br1: {kind: bridge}
          links:
            - endpoints: ["A:eth1", "b.2:e1-1"]
            - endpoints: ["A:Gi0/0/0", "c_3:Ethernet0"]
            - {type: veth, endpoints: [{node: A, interface: eth3}, {node: c_3, interface: eth1}]}
            - {type: host, endpoint: {node: A, interface: eth4}, host-interface: x}
            - {type: macvlan, endpoint: {node: A, interface: eth5}, host-interface: eth0}
            - {type: mgmt-net, endpoint: {node: A, interface: eth6}, host-interface: y}
            - {type: dummy, endpoint: {node: A, interface: eth7}}
            - {type: vxlan, endpoint: {node: A, interface: eth8}, remote: 192.0.2.1, vni: 1, dst-port: 4789}
            - endpoints: ["A:eth9", "br1:p1"]
            - endpoints: ["A:eth10", "host:z"]
        """
    )
    assert found.links == (
        (("A", "eth1"), ("b.2", "e1-1")),
        (("A", "Gi0/0/0"), ("c_3", "Ethernet0")),
        (("A", "eth3"), ("c_3", "eth1")),
    )
    assert list(found.nodes) == ["A", "b.2", "c_3"]
    assert found.network == "ours"
    assert [note.split()[-1] for note in found.outside] == [
        "(host)",
        "(macvlan)",
        "(mgmt-net)",
        "(dummy)",
        "(vxlan)",
        "br1:p1",
        "host:z",
    ]
    fabric = design_of_file(found)
    assert fabric.given is not None
    assert fabric.given.notes[0] == "not part of the fabric: A:eth4 (host)"
    assert [port.name for port in fabric.ports("A")] == ["Gi0/0/0", "eth1", "eth3"]


def test_what_nodes_inherit() -> None:
    """The nearest says it: node, group, kind, defaults; labels are added up."""
    found = topology(
        """
        name: x
        topology:
          defaults: {kind: linux, image: d, labels: {a: defaults, b: defaults}}
          kinds: {linux: {image: k, labels: {b: kind}}}
          groups: {leaf: {image: g}}
          nodes:
            one: {group: leaf}
            two: {labels: {a: own}}
            three: {image: own, kind: crpd}
        """
    )
    assert {name: (node.kind, node.image, node.group) for name, node in found.nodes.items()} == {
        "one": ("linux", "g", "leaf"),
        "two": ("linux", "k", ""),
        "three": ("crpd", "own", ""),
    }
    assert found.nodes["two"].labels == {"a": "own", "b": "kind"}


def test_the_file_that_the_tests_of_fabrics_use() -> None:
    found, data = read_file(THEIRS / "theirs.clab.yml")
    assert (found.name, len(found.nodes), len(found.links), data["name"]) == ("theirs", 8, 8, "theirs")
    fabric = design_of_file(found)
    assert {node.name for node in fabric.tier(Tier.SPINE)} == {"spine1", "spine2"}
    assert fabric.link("leaf1:spine1").a.node == "leaf1"


def exported(links: list[dict[str, Any]]) -> dict[str, Any]:
    nodes = {name: {"kind": "linux", "image": "i", "group": "", "labels": {}} for name in ("a", "b")}
    return {"name": "x", "nodes": nodes, "links": links, "clab": {"config": {"mgmt": {"network": "clab"}}}}


def test_what_containerlab_exports() -> None:
    ends = {"a": {"node": "a", "interface": "eth1"}, "z": {"node": "b", "interface": "eth2"}}
    out = {"a": {"node": "a", "interface": "eth9"}, "z": {"node": "host", "interface": "h"}}
    alone = {"a": {"node": "a", "interface": "dm0"}}
    found = from_export(json.loads(json.dumps(exported([{"endpoints": e} for e in (ends, out, alone)]))))
    assert found.links == ((("a", "eth1"), ("b", "eth2")),)
    assert found.outside == ("a:eth9 to host:h", "a:dm0 (dummy)")


def test_which_references_are_foreign() -> None:
    assert is_foreign("x/theirs.clab.yml")
    assert is_foreign("theirs.clab.yaml")
    assert not is_foreign("lab.yaml")
    with pytest.raises(SpecError, match="is a template"):
        is_foreign("x.clab.gotmpl")


@pytest.mark.parametrize("name", ["theirs", "Lab_1.x", "1", "a" * 60])
def test_names_that_containerlab_takes(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "-x", "a b", "a" * 61, "a\n", "ä"])
def test_names_that_must_not_reach_a_path(name: str) -> None:
    with pytest.raises(SpecError, match="allowed: a letter or digit"):
        check_name(name)
