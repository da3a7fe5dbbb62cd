from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from labs import load
from labs.load import catalog, lab_schema, load_lab, spec_from_dict, spec_to_dict
from labs.spec import FIVE_TUPLE, Bfd, EcmpHash, LabSpec, SessionAddressing
from topologies.builders import leaf_spine
from topologies.errors import SpecError
from topologies.fabric import Tier
from topologies.load import catalog as fabric_catalog

FULL = """
fabric: {shape: leaf_spine, spines: 1, leaves: 2, hosts_per_leaf: 1}
kinds: {leaf: sonic-vs}
images: {frr: "frr:1", leaf2: "sonic:2"}
bgp:
  addressing: unnumbered
  keepalive: 1
  hold: 3
  connect: 5
  maximum_paths: 16
  graceful_restart: true
  bfd: {multiplier: 5}
hash:
  all: {seed: 9}
  spine: {policy: 1}
  leaf: {fields: [SRC_IP]}
ipv6: false
lldp: false
mtu: 1500
"""


@pytest.fixture
def full(tmp_path: Path) -> Path:
    path = tmp_path / "full.yaml"
    path.write_text(FULL)
    return path


def test_the_catalog() -> None:
    assert catalog() == (
        "clos_frr",
        "clos_frr_graceful",
        "clos_frr_unnumbered",
        "dual_plane_frr",
        "fat_tree_frr",
        "rails_frr",
    )
    spec, fabric = load_lab("clos_frr", seed=4)
    assert (spec.name, spec.fabric, spec.seed, fabric.name) == ("clos_frr", "clos_2x4", 4, "clos_2x4")
    assert spec.bgp.bfd == Bfd(300, 3)
    assert load_lab("clos_frr_unnumbered")[0].bgp.addressing is SessionAddressing.UNNUMBERED


@pytest.mark.parametrize("name", catalog())
def test_catalog_files_fit_the_schema(name: str) -> None:
    text = (load.CATALOG / f"{name}.yaml").read_text()
    jsonschema.validate(yaml.safe_load(text), lab_schema(), jsonschema.Draft202012Validator)
    assert load_lab(name)[1].hosts


def test_what_clos_frr_documents_is_true() -> None:
    """The keys behind a `#` really are the defaults: uncommented, they change nothing."""
    text = (load.CATALOG / "clos_frr.yaml").read_text()
    defaults = [
        line.replace("# ", "", 1) for line in text.splitlines() if line.lstrip().startswith("# ") and ": " in line
    ]
    shown = [line for line in defaults if line.split(":")[0].strip() in {"kinds", "addressing", "hold", "mtu", "ipv6"}]
    assert len(shown) == 5
    for line in shown:
        key = line.split(":")[0].strip()
        commented = next(before for before in text.splitlines() if before.lstrip().startswith(f"# {key}:"))
        changed = yaml.safe_load(text.replace(commented, commented.replace("# ", "", 1), 1))
        read_in = load.LabFile.model_validate(changed)
        value = getattr(read_in if line[0] != " " else read_in.bgp, key)
        default = load.LabFile(fabric="x") if line[0] != " " else load.BgpEntry()
        wanted = dict(LabSpec("x", "x").kinds) if key == "kinds" else getattr(default, key)
        assert value == wanted


@pytest.mark.parametrize("name", fabric_catalog())
def test_every_fabric_is_a_lab(name: str) -> None:
    spec, fabric = load_lab(name, seed=3)
    assert spec == LabSpec(name=name, fabric=name, seed=3)
    assert fabric.name == name


def test_a_fabric_file_is_a_lab(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("shape: single_leaf\nhosts: 3\n")
    spec, fabric = load_lab(str(path))
    assert spec == LabSpec(name="mine", fabric=str(path))
    assert len(fabric.hosts) == 3


def test_every_key(full: Path) -> None:
    spec, fabric = load_lab(str(full), seed=5, kinds=("frr", "host", "sonic-vs"))
    assert fabric == leaf_spine(1, 2, 1, name="full")
    assert spec.kinds[Tier.LEAF] == "sonic-vs"
    assert spec.kinds[Tier.SPINE] == "frr"
    assert spec.images == {"frr": "frr:1", "leaf2": "sonic:2"}
    assert (spec.bgp.keepalive_s, spec.bgp.hold_s, spec.bgp.connect_s, spec.bgp.maximum_paths) == (1, 3, 5, 16)
    assert spec.bgp.graceful_restart
    assert spec.bgp.bfd == Bfd(300, 5)
    assert spec.hash_of(Tier.HOST) == EcmpHash(3, FIVE_TUPLE, 9)
    assert spec.hash_of(Tier.LEAF).fields == ("SRC_IP",)
    assert spec.hashing[Tier.SPINE] == EcmpHash(1, FIVE_TUPLE, None)
    assert (spec.ipv6, spec.lldp, spec.mtu, spec.seed) == (False, False, 1500, 5)
    jsonschema.validate(yaml.safe_load(FULL), lab_schema(), jsonschema.Draft202012Validator)


def test_kinds_are_those_the_caller_knows(full: Path) -> None:
    with pytest.raises(SpecError, match=r"full.yaml:3: kinds.leaf: found 'sonic-vs'; allowed: frr, host"):
        load_lab(str(full))


def test_defaults_are_those_of_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("fabric: pair\nbgp: {bfd: false}\n")
    assert load_lab(str(path))[0] == LabSpec(name="plain", fabric="pair")


def test_sessions_may_never_time_out(tmp_path: Path) -> None:
    path = tmp_path / "patient.yaml"
    path.write_text("fabric: pair\nbgp: {keepalive: 0, hold: 0}\n")
    assert load_lab(str(path))[0].bgp.hold_s == 0


def test_a_fabric_beside_the_lab(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "small.yaml").write_text("shape: single_leaf\nhosts: 2\n")
    path = tmp_path / "outer.yaml"
    path.write_text("fabric: sub/small.yaml\n")
    spec, fabric = load_lab(str(path))
    assert (spec.name, spec.fabric, fabric.name) == ("outer", "sub/small.yaml", "small")


def test_an_unknown_name_lists_labs_and_fabrics() -> None:
    with pytest.raises(SpecError) as caught:
        load_lab("clos_fr")
    message = str(caught.value)
    assert message.startswith("found no lab called 'clos_fr' (did you mean clos_frr?); allowed: labs clos_frr, ")
    assert "; fabrics clos_16x2, " in message
    assert message.endswith("; or the path of a .yaml file")


def test_specs_round_trip(full: Path) -> None:
    specs = [load_lab(name, seed=2)[0] for name in (*catalog(), *fabric_catalog())]
    specs.append(load_lab(str(full), kinds=("frr", "host", "sonic-vs"))[0])
    specs.append(replace(specs[0], seed=2**70))
    for spec in specs:
        again = spec_from_dict(json.loads(json.dumps(spec_to_dict(spec))))
        assert again == spec
        assert again.hash_of(Tier.LEAF) == spec.hash_of(Tier.LEAF)


@pytest.mark.parametrize(
    "data", [{}, {"name": "x"}, {"name": "x", "fabric": "y", "bgp": 3}, {"name": 1, "fabric": "y"}]
)
def test_other_plain_data_is_no_spec(data: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="allowed: what railbed wrote"):
        spec_from_dict(data)
