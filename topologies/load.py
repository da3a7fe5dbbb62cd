"""Fabrics from YAML: a shape with its numbers, or every node and link by name. Names in `catalog/` need no path.

shape: leaf_spine            nodes:
spines: 2                      leaf1:  {tier: leaf}
leaves: 4                      spine1: {tier: spine, asn: 65000}
hosts_per_leaf: 2            links:
                               - {endpoints: ["leaf1:eth1", "spine1:eth1"], rate: 10Gbit}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.json_schema import models_json_schema
from pydantic_core import to_jsonable_python

from topologies import builders
from topologies.assembly import (
    MOST_HOSTS,
    MOST_NICS,
    MOST_PER_SWITCH_TIER,
    Cable,
    Limits,
    build,
    default_asn,
    name_rule,
    some,
)
from topologies.errors import SpecError, Where
from topologies.fabric import Fabric, Node, Port, Tier
from topologies.units import GBIT
from topologies.validation import ALLOWED, ALLOWED_KEYS, Strict, meant, validated
from topologies.yaml_source import KeyPath, Source, read, show

CATALOG = Path(__file__).parent / "catalog"
NAME_RULE = "a lower-case letter, then up to 31 of a-z, 0-9, - and _"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

RATE_RULE = "bits a second as an integer, or text such as 100Mbit, 1Gbit or 400G, from 1Mbit to 2Tbit"
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([mgt])(?:bit)?", re.IGNORECASE)
_LEAST_RATE, _MOST_RATE = 1_000_000, 2_000_000_000_000
_ENDPOINT_RULE = "node:port, such as leaf1:eth1, with ports from eth1 (eth0 is for management)"


def rate_of(value: object) -> int:
    """A rate in bit/s. Raises ValueError, which becomes `RATE_RULE`."""
    if isinstance(value, str) and (match := _RATE.fullmatch(value)):
        value = round(float(match[1]) * {"m": 1e6, "g": 1e9, "t": 1e12}[match[2].lower()])
    if isinstance(value, bool) or not isinstance(value, int) or not _LEAST_RATE <= value <= _MOST_RATE:
        raise ValueError
    return value


_RATE_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": _LEAST_RATE, "maximum": _MOST_RATE}, {"type": "string"}],
    ALLOWED: RATE_RULE,
}
Rate = Annotated[int, BeforeValidator(rate_of), WithJsonSchema(_RATE_SCHEMA)]
_NodeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}$")]
_PortName = Annotated[str, Field(pattern=r"^eth[1-9][0-9]{0,3}$")]
_Endpoint = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}:eth[1-9][0-9]{0,3}$", json_schema_extra={ALLOWED: _ENDPOINT_RULE})
]
_Positive = Annotated[int, Field(ge=1)]


class LimitsEntry(Strict):
    """How large the fabric may be."""

    switches: int = Field(default=128, ge=1, le=3 * MOST_PER_SWITCH_TIER)
    hosts: int = Field(default=1024, ge=1, le=MOST_HOSTS)


class _Named(Strict):
    name: str | None = Field(default=None, pattern=f"^{NAME.pattern}$", json_schema_extra={ALLOWED: NAME_RULE})
    limits: LimitsEntry = LimitsEntry()


class LeafSpineFile(_Named):
    """A two-tier Clos: every leaf cabled to every spine."""

    shape: Literal["leaf_spine"]
    spines: _Positive
    leaves: _Positive
    hosts_per_leaf: int = Field(ge=0)
    parallel_links: _Positive = 1
    uplink_rate: Rate = GBIT
    host_rate: Rate = GBIT


class FatTreeFile(_Named):
    """A k-ary fat tree."""

    shape: Literal["fat_tree"]
    k: Annotated[int, Field(ge=2)]
    uplink_rate: Rate = GBIT
    host_rate: Rate = GBIT


class RailsFile(_Named):
    """A rail-optimised GPU fabric: one network card per rail, one leaf per rail and group of hosts."""

    shape: Literal["rails"]
    rails: _Positive
    leaves: _Positive
    hosts: _Positive
    spines: _Positive | None = None
    parallel_links: _Positive = 1
    uplink_rate: Rate = GBIT
    host_rate: Rate = GBIT


class DualPlaneFile(_Named):
    """Two leaf-spine planes that meet only in the hosts; spines and leaves are counted per plane."""

    shape: Literal["dual_plane"]
    spines: _Positive
    leaves: _Positive
    hosts: _Positive
    parallel_links: _Positive = 1
    uplink_rate: Rate = GBIT
    host_rate: Rate = GBIT


class SingleLeafFile(_Named):
    """One leaf and its hosts."""

    shape: Literal["single_leaf"]
    hosts: _Positive
    host_rate: Rate = GBIT


class NodeEntry(Strict):
    """A node of an explicit fabric. `nics` says which card a host's port belongs to (default: each its own)."""

    tier: Literal["host", "leaf", "spine", "core"]
    asn: int | None = Field(default=None, ge=1, le=2**32 - 2)
    pod: int | None = Field(default=None, ge=1, le=MOST_PER_SWITCH_TIER)
    nics: dict[_PortName, Annotated[int, Field(ge=1, le=MOST_NICS)]] = Field(
        default={}, json_schema_extra={ALLOWED_KEYS: "ports of the host, such as eth1", "additionalProperties": False}
    )


class LinkEntry(Strict):
    """A cable of an explicit fabric, its ends written as in containerlab."""

    endpoints: list[_Endpoint] = Field(
        min_length=2, max_length=2, json_schema_extra={ALLOWED: 'two ends, such as ["leaf1:eth1", "spine1:eth1"]'}
    )
    rate: Rate = GBIT


class ExplicitFile(_Named):
    """A fabric with every node and link by name."""

    nodes: dict[_NodeName, NodeEntry] = Field(
        json_schema_extra={ALLOWED_KEYS: name_rule(), "additionalProperties": False}
    )
    links: list[LinkEntry]


_SHAPES: Mapping[str, tuple[type[_Named], Callable[..., Fabric]]] = {
    "leaf_spine": (LeafSpineFile, builders.leaf_spine),
    "fat_tree": (FatTreeFile, builders.fat_tree),
    "rails": (RailsFile, builders.rails),
    "dual_plane": (DualPlaneFile, builders.dual_plane),
    "single_leaf": (SingleLeafFile, builders.single_leaf),
}


def catalog() -> tuple[str, ...]:
    """The names of the fabrics that come with railbed, sorted."""
    return tuple(sorted(path.stem for path in CATALOG.glob("*.yaml")))


def load_fabric(ref: str, base: Path | None = None) -> Fabric:
    """The fabric of that name in the catalog, or in the YAML file at that path.

    With `base`, the folder of a file that refers to this one, a path is relative to it and may not leave it.
    Raises SpecError with file, line and key.
    """
    if ref in catalog():
        source = read(CATALOG / f"{ref}.yaml")
    elif not is_path(ref):
        raise unknown_name("fabric", ref, {"fabrics": catalog()})
    else:
        source = read(Path(ref) if base is None else base / inside(ref))
    return fabric_of(source, name=stem(ref, source))


def is_path(ref: str) -> bool:
    """True when a reference means a file, not a name in a catalog."""
    return "/" in ref or ref.endswith((".yaml", ".yml", ".json"))


def inside(ref: str) -> PurePath:
    """A path that stays in its folder. Raises SpecError for an absolute one and for one with ``..``."""
    path = PurePath(ref)
    if path.is_absolute() or ".." in path.parts:
        raise SpecError(f"found the path {show(ref)}", allowed="a path beside or below the file that names it")
    return path


def stem(ref: str, source: Source) -> str:
    """The name that a file gives what is in it: its own up to the first dot. Raises SpecError for an odd one."""
    name = PurePath(ref).name.partition(".")[0]
    if not NAME.fullmatch(name):
        raise SpecError(
            f"found a file called {show(name)}",
            allowed=f"{NAME_RULE}: its content is called after it",
            where=Where(source.file, 1),
        )
    return name


def unknown_name(what: str, ref: str, known: Mapping[str, Sequence[str]]) -> SpecError:
    """The error for a name that stands in no catalog: lists what does, and the nearest."""
    near = meant(ref, [name for names in known.values() for name in names])
    listed = "; ".join(f"{kind} {', '.join(names)}" for kind, names in known.items())
    return SpecError(f"found no {what} called {show(ref)}{near}", allowed=f"{listed}; or the path of a .yaml file")


def is_fabric(source: Source) -> bool:
    """True when a file describes a fabric, by its keys."""
    return not {"shape", "nodes", "links"}.isdisjoint(source.at())


def fabric_of(source: Source, at: KeyPath = (), *, name: str) -> Fabric:
    """The fabric that stands at `at` in a source; `name` is its name unless it says one. Raises SpecError."""
    found = source.at(at)
    try:
        if isinstance(found, dict) and "shape" in found:
            for key in found.keys() & {"nodes", "links"}:
                allowed = "either shape with its numbers, or nodes and links"
                raise source.error((*at, key), f"found {key} beside shape", allowed=allowed)
            return _shaped(source, at, name)
        if isinstance(found, dict) and ("nodes" in found or "links" in found):
            return _explicit(validated(ExplicitFile, source, at), name)
    except SpecError as error:
        raise source.placed(error, at) from None
    allowed = "a mapping with shape and its numbers, or with nodes and links"
    raise source.error(at, f"found {show(found)}", allowed=allowed)


@lru_cache
def fabric_schema() -> Mapping[str, Any]:
    """The JSON Schema (draft 2020-12) of a fabric file, for editors."""
    models: list[type[Strict]] = [*(model for model, _ in _SHAPES.values()), ExplicitFile]
    references, schema = models_json_schema([(model, "validation") for model in models], title="railbed fabric")
    choices = [references[model, "validation"] for model in models]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "anyOf": choices}


def fabric_to_dict(fabric: Fabric) -> dict[str, Any]:
    """A fabric as plain data for JSON, from which `fabric_from_dict()` makes an equal one."""
    plain: dict[str, Any] = to_jsonable_python(fabric)  # an adapter has to be made first: 16 ms, not 3
    return plain


def fabric_from_dict(data: Mapping[str, Any]) -> Fabric:
    """The fabric that `fabric_to_dict()` wrote. Raises SpecError when `data` is nothing it could have written."""
    try:
        fabric = _adapter().validate_python(dict(data))
    except (ValidationError, TypeError, ValueError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = Where(key=".".join(map(str, what["loc"])))
        raise SpecError(f"found no fabric: {what['msg']}", allowed="what railbed wrote", where=place) from None
    names = [node.name for node in fabric.nodes]
    ends = {port.node for link in fabric.links for port in link.ends}
    if len(set(names)) < len(names) or ends - set(names):
        raise SpecError("found a node twice, or a link to no node", allowed="what railbed wrote")
    return fabric


@lru_cache
def _adapter() -> TypeAdapter[Fabric]:
    return TypeAdapter(Fabric)


def _limits(read_in: _Named) -> Limits:
    return Limits(read_in.limits.switches, read_in.limits.hosts)


def _shaped(source: Source, at: KeyPath, name: str) -> Fabric:
    shape = source.at((*at, "shape"))
    if not isinstance(shape, str) or shape not in _SHAPES:
        found = f"found {show(shape)}{meant(str(shape), _SHAPES)}"
        raise source.error((*at, "shape"), found, allowed=", ".join(_SHAPES))
    model, builder = _SHAPES[shape]
    read_in = validated(model, source, at)
    arguments = read_in.model_dump(exclude={"shape", "name", "limits"})
    return builder(**arguments, name=read_in.name or name, limits=_limits(read_in))


def _explicit(read_in: ExplicitFile, name: str) -> Fabric:
    nodes = [
        _node(key, entry, number) for (key, entry), number in zip(read_in.nodes.items(), _numbers(read_in), strict=True)
    ]
    cables = [Cable(_port(read_in, e.endpoints[0]), _port(read_in, e.endpoints[1]), e.rate) for e in read_in.links]
    cabled: dict[str, set[str]] = {}
    for node, _, port in (end.partition(":") for entry in read_in.links for end in entry.endpoints):
        cabled.setdefault(node, set()).add(port)
    for key, entry in read_in.nodes.items():
        if entry.nics and entry.nics.keys() != cabled.get(key, set()):
            where = Where(key=f"nodes.{key}.nics")
            allowed = f"a card for each port that has a link: {some(sorted(cabled.get(key, ()))) or 'there is none'}"
            raise SpecError(f"found cards for {some(entry.nics)}", allowed=allowed, where=where)
    return build(read_in.name or name, nodes, cables, limits=_limits(read_in))


def _numbers(read_in: ExplicitFile) -> list[int]:
    """The number of each node: that at the end of its name, where this tells all nodes of its tier apart; or its place.

    Addresses derive from it.
    """
    by_tier: dict[str, list[str]] = {}
    for key, entry in read_in.nodes.items():
        by_tier.setdefault(entry.tier, []).append(key)
    numbers: dict[str, int] = {}
    for tier, names in by_tier.items():
        written = [int(key[len(key.rstrip("0123456789")) :] or 0) for key in names]
        most = MOST_HOSTS if tier == "host" else MOST_PER_SWITCH_TIER
        usable = len(set(written)) == len(names) and min(written) > 0 and max(written) <= most
        numbers.update(zip(names, written if usable else range(1, len(names) + 1), strict=True))
    return [numbers[key] for key in read_in.nodes]


def _node(name: str, entry: NodeEntry, number: int) -> Node:
    tier = Tier(entry.tier)
    if entry.nics and tier is not Tier.HOST:
        where = Where(key=f"nodes.{name}.nics")
        raise SpecError(f"found network cards on a {tier}", allowed="nics on hosts only", where=where)
    asn = entry.asn if entry.asn is not None else default_asn(tier, number, entry.pod)
    return Node(name, tier, number, entry.pod, asn)


def _port(read_in: ExplicitFile, end: str) -> Port:
    node, _, name = end.partition(":")
    number = int(name.removeprefix("eth"))
    entry = read_in.nodes.get(node)
    nic = entry.nics.get(name, number) if entry and entry.tier == "host" else None
    return Port(node, name, number, nic)
