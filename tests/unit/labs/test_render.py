"""Rendering is a pure function of spec and design."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labs.load import catalog, load_lab
from labs.render import clab_text, fingerprint, render
from labs.spec import LabSpec
from topologies.fabric import Fabric, Tier


@pytest.mark.parametrize("name", catalog())
def test_twice_the_same(name: str) -> None:
    one, two = (render(*load_lab(name, seed=7)) for _ in range(2))
    assert clab_text(one) == clab_text(two)
    assert dict(one.files) == dict(two.files)
    assert fingerprint(one) == fingerprint(two)
    assert one.name == name.replace("_", "-")


@pytest.mark.parametrize("name", catalog())
def test_whatever_the_order_of_nodes_and_links(name: str) -> None:
    spec, fabric = load_lab(name, seed=7)
    turned = Fabric(fabric.name, tuple(reversed(fabric.nodes)), tuple(reversed(fabric.links)))
    kinds = dict(reversed(list(spec.kinds.items())))
    one, two = render(spec, fabric), render(replace(spec, kinds=kinds), turned)
    assert list(one.files) != list(two.files)  # the order did differ
    # Lines of one file may change places (a host's routes to its peers follow the nodes); what they say may not.
    assert {path: sorted(text.splitlines()) for path, text in one.files.items()} == {
        path: sorted(text.splitlines()) for path, text in two.files.items()
    }


def altered(spec: LabSpec) -> dict[str, LabSpec]:
    return {
        "seed": replace(spec, seed=spec.seed + 1),
        "mtu": replace(spec, mtu=1500),
        "ipv6": replace(spec, ipv6=False),
        "bgp": replace(spec, bgp=replace(spec.bgp, hold_s=99)),
    }


@pytest.mark.parametrize("what", ["seed", "mtu", "ipv6", "bgp"])
def test_what_is_rendered_differently_has_another_fingerprint(what: str) -> None:
    spec, fabric = load_lab("clos_frr", seed=7)
    assert fingerprint(render(altered(spec)[what], fabric)) != fingerprint(render(spec, fabric))


def test_name_and_cut_are_part_of_it() -> None:
    spec, fabric = load_lab("clos_frr", seed=7)
    whole = fingerprint(render(spec, fabric))
    assert fingerprint(render(spec, fabric, "other")) != whole
    assert fingerprint(render(spec, fabric.without("leaf1:spine1"))) != whole


def test_files_of_a_node() -> None:
    lab = render(*load_lab("clos_frr"))
    assert sum(len(lab.files_of(node.name)) for node in lab.fabric.nodes) == len(lab.files)
    assert all(path.is_absolute() for path in lab.files_of("leaf1"))
    assert lab.spec.hash_of(Tier.LEAF).seed != lab.spec.hash_of(Tier.SPINE).seed
