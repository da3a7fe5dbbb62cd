from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from topologies import load
from topologies.assembly import Limits
from topologies.builders import dual_plane, fat_tree, leaf_spine, rails
from topologies.errors import SpecError
from topologies.fabric import Tier
from topologies.load import catalog, fabric_from_dict, fabric_schema, fabric_to_dict, load_fabric
from topologies.units import GBIT, MBIT

EXPLICIT = """
nodes:
  spine1: {tier: spine, pod: 2}
  leaf7:  {tier: leaf, asn: 65001}
  leaf8:  {tier: leaf}
  gpu-a:  {tier: host, nics: {eth1: 1, eth2: 1}}
  gpu-b:  {tier: host}
links:
  - {endpoints: ["spine1:eth1", "leaf7:eth1"], rate: 400G}
  - {endpoints: ["leaf8:eth1", "spine1:eth2"], rate: 100Mbit}
  - {endpoints: ["leaf8:eth2", "spine1:eth3"]}
  - {endpoints: ["gpu-a:eth1", "leaf7:eth2"], rate: 2.5Gbit}
  - {endpoints: ["gpu-a:eth2", "leaf8:eth3"], rate: 5000000}
  - {endpoints: ["leaf8:eth4", "gpu-b:eth3"]}
"""


@pytest.fixture
def explicit(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(EXPLICIT)
    return path


def test_the_catalog() -> None:
    sizes = {name: (len(f.switches), len(f.hosts), len(f.links)) for name in catalog() for f in [load_fabric(name)]}
    assert sizes == {
        "clos_16x2": (18, 4, 36),
        "clos_16x48": (64, 48, 816),
        "clos_2x4": (6, 8, 16),
        "clos_4x8": (12, 8, 40),
        "clos_8x16": (24, 16, 144),
        "dual_plane_2x2x4": (8, 4, 16),
        "fat_tree_k4": (20, 16, 48),
        "incast_8": (1, 9, 9),
        "pair": (1, 2, 2),
        "rails_2x4x4": (6, 4, 16),
        "star_3": (1, 3, 3),
        "star_5": (1, 5, 5),
        "star_9": (1, 9, 9),
    }


def test_the_catalog_is_what_the_builders_make() -> None:
    assert load_fabric("clos_2x4") == leaf_spine(2, 4, 2)
    assert load_fabric("rails_2x4x4") == rails(2, 4, 4)
    assert load_fabric("dual_plane_2x2x4") == dual_plane(2, 2, 4)
    assert load_fabric("fat_tree_k4") == fat_tree(4)


@pytest.mark.parametrize("name", catalog())
def test_every_file_opens_with_a_picture_and_fits_the_schema(name: str) -> None:
    text = (load.CATALOG / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "\n#\n" in text
    jsonschema.validate(yaml.safe_load(text), fabric_schema(), jsonschema.Draft202012Validator)


def test_explicit_nodes_and_links(explicit: Path) -> None:
    fabric = load_fabric(str(explicit))
    assert fabric.name == "mine"
    assert [(node.name, node.number, node.asn) for node in fabric.switches] == [
        ("spine1", 1, 4202000002),
        ("leaf7", 7, 65001),
        ("leaf8", 8, 4201000008),
    ]
    assert [(node.name, node.number) for node in fabric.hosts] == [("gpu-a", 1), ("gpu-b", 2)]
    rates = {link.name: link.rate_bps for link in fabric.links}
    assert rates == {
        "leaf7:spine1": 400 * GBIT,
        "leaf8:spine1": 100 * MBIT,
        "leaf8:spine1#2": GBIT,
        "gpu-a:leaf7": 2500 * MBIT,
        "gpu-a:leaf8": 5 * MBIT,
        "gpu-b:leaf8": GBIT,
    }
    assert [(port.nic, port.shared) for port in fabric.ports("gpu-a")] == [(1, True), (1, True)]
    assert [(port.number, port.nic, port.shared) for port in fabric.ports("gpu-b")] == [(3, 3, False)]
    jsonschema.validate(yaml.safe_load(EXPLICIT), fabric_schema(), jsonschema.Draft202012Validator)


def test_numbers_are_places_when_names_do_not_tell_apart(tmp_path: Path) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text(
        "name: my-pods\nlimits: {switches: 3}\n"
        "nodes: {pod1-leaf1: {tier: leaf}, pod2-leaf1: {tier: leaf}, core3: {tier: core}}\n"
        'links:\n- endpoints: ["pod1-leaf1:eth1", "core3:eth1"]\n- endpoints: ["pod2-leaf1:eth1", "core3:eth2"]\n'
    )
    fabric = load_fabric(str(path))
    assert fabric.name == "my-pods"
    assert [node.number for node in fabric.tier(Tier.LEAF)] == [1, 2]
    assert fabric.node("core3").number == 3


def test_a_file_may_raise_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    text = "shape: leaf_spine\nspines: 2\nleaves: 130\nhosts_per_leaf: 0\n"
    path.write_text(text)
    with pytest.raises(SpecError, match="found 130; allowed: an integer from 1 to 128"):
        load_fabric(str(path))
    path.write_text(text + "limits: {switches: 132}\n")
    assert load_fabric(str(path)) == leaf_spine(2, 130, 0, name="wide", limits=Limits(switches=132))


@pytest.mark.parametrize("ref", ["../mine.yaml", "sub/../../mine.yaml", "/etc/mine.yaml"])
def test_a_reference_stays_in_its_folder(ref: str, explicit: Path) -> None:
    with pytest.raises(SpecError, match="beside or below"):
        load_fabric(ref, explicit.parent)


def test_a_reference_is_relative_to_its_folder(explicit: Path) -> None:
    assert load_fabric("mine.yaml", explicit.parent).name == "mine"


@pytest.mark.parametrize("name", catalog())
def test_plain_data_round_trips(name: str) -> None:
    fabric = load_fabric(name)
    assert fabric_from_dict(json.loads(json.dumps(fabric_to_dict(fabric)))) == fabric


def test_plain_data_keeps_what_is_gone(explicit: Path) -> None:
    fabric = load_fabric(str(explicit)).without("gpu-a:leaf7", "leaf8:spine1")
    again = fabric_from_dict(json.loads(json.dumps(fabric_to_dict(fabric))))
    assert again == fabric
    assert again.ports("gpu-a")[0].shared


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"nodes": 3},
        {"nodes": []},
        {"links": [{"name": "x"}]},
    ],
)
def test_other_plain_data_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="allowed: what railbed wrote"):
        fabric_from_dict({**fabric_to_dict(load_fabric("pair")), **change})


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(
        SpecError, match=r"no fabric called 'pear' \(did you mean pair\?\); allowed: fabrics clos_16x2, clos_16x48, "
    ):
        load_fabric("pear")
