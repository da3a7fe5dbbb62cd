"""Labs from YAML: which software plays a fabric, and how. Names in `labs/catalog/` need no path.

Every fabric, from a catalog or a file, is a lab too: FRR switches and Linux hosts with the defaults of `LabSpec`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic_core import to_jsonable_python

from labs.errors import SpecError, Where
from labs.spec import DEFAULT_KINDS, FIVE_TUPLE, HASH_FIELDS, NO_PROFILE, Bfd, Bgp, EcmpHash, LabSpec, SessionAddressing
from topologies.fabric import Fabric, Tier
from topologies.load import catalog as fabric_catalog
from topologies.load import (
    fabric_of,
    fabric_schema,
    is_fabric,
    is_path,
    load_fabric,
    stem,
    unknown_name,
)
from topologies.validation import ALLOWED, ALLOWED_KEYS, Strict, meant, validated
from topologies.yaml_source import Source, read, show

CATALOG = Path(__file__).parent / "catalog"
KNOWN_KINDS = ("frr", "host")
HOST_KIND = "host"
INLINE = "inline"
FABRICS_OWN = IPv4Network("10.0.0.0/8")  # topologies/addressing.py
IMAGE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}")
_BFD, _BGP, _HASH = Bfd(), Bgp(), EcmpHash()

_Tier = Literal["host", "leaf", "spine", "core"]
_Seconds = Annotated[int, Field(ge=0, le=65535)]
_FABRIC_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "object"}],
    ALLOWED: "a name in topologies/catalog, a path beside or below this file, or a fabric as a mapping",
}


def _fabric(value: object) -> object:
    if not isinstance(value, str | dict) or not value:
        raise ValueError
    return value


def _subnet(value: str) -> str:
    IPv4Network(value)
    return value


def _off(value: object) -> object:
    return None if value is False else value


def _false_for_null(schema: dict[str, Any]) -> None:
    """`bfd: false` is how a file says what the spec calls None."""
    schema["anyOf"] = [{"const": False} if one.get("type") == "null" else one for one in schema["anyOf"]]
    schema["default"] = False


class BfdEntry(Strict):
    """Bidirectional forwarding detection; FRR's own ranges."""

    interval_ms: int = Field(default=_BFD.interval_ms, ge=10, le=60000)
    multiplier: int = Field(default=_BFD.multiplier, ge=2, le=255)


class BgpEntry(Strict):
    """The control plane, the same on every switch; times in seconds."""

    addressing: Literal["numbered", "unnumbered"] = "numbered"
    keepalive: _Seconds = _BGP.keepalive_s
    hold: _Seconds = _BGP.hold_s
    connect: int = Field(default=_BGP.connect_s, ge=1, le=65535)
    maximum_paths: int = Field(default=_BGP.maximum_paths, ge=1, le=256)
    graceful_restart: bool = _BGP.graceful_restart
    bfd: Annotated[BfdEntry | None, BeforeValidator(_off), Field(json_schema_extra=_false_for_null)] = None


class HashEntry(Strict):
    """Which member of an ECMP group a packet takes: the kernel's fib_multipath_hash_policy, _fields and _seed."""

    policy: int = Field(default=_HASH.policy, ge=0, le=3)
    fields: list[Literal[tuple(HASH_FIELDS)]] | None = Field(  # type: ignore[valid-type]
        default=None, min_length=1, json_schema_extra={ALLOWED: "a list of one or more of " + ", ".join(HASH_FIELDS)}
    )
    seed: int | None = Field(default=None, ge=1, le=2**32 - 1)


class ManagementEntry(Strict):
    """The management network of labs in containers."""

    subnet: Annotated[
        str, AfterValidator(_subnet), Field(json_schema_extra={ALLOWED: "an IPv4 subnet, such as 172.24.7.0/24"})
    ]


class LabFile(Strict):
    """A lab file."""

    fabric: Annotated[object, BeforeValidator(_fabric), WithJsonSchema(_FABRIC_SCHEMA)]
    kinds: dict[_Tier, str] = Field(default={})
    images: dict[
        str,
        Annotated[
            str,
            Field(
                pattern=f"^{IMAGE_NAME.pattern}$",
                json_schema_extra={ALLOWED: "an image name, such as quay.io/frrouting/frr:10.2.1"},
            ),
        ],
    ] = Field(default={}, json_schema_extra={ALLOWED_KEYS: "kinds and nodes"})
    bgp: BgpEntry = BgpEntry()
    hash: dict[Literal["all", "host", "leaf", "spine", "core"], HashEntry] = Field(default={})
    ipv6: bool = True
    lldp: bool = True
    mtu: int = Field(default=9216, ge=1280, le=65535)
    management: ManagementEntry | None = None
    profile: str | None = Field(
        default=None,
        json_schema_extra={ALLOWED: "a profile that comes with railbed (railbed profile list), a path, or none"},
    )


def catalog() -> tuple[str, ...]:
    """The names of the labs that come with railbed, sorted; every fabric's name is one besides."""
    return tuple(sorted(path.stem for path in CATALOG.glob("*.yaml")))


def load_lab(ref: str, *, seed: int = 0, kinds: Collection[str] = KNOWN_KINDS) -> tuple[LabSpec, Fabric]:
    """The lab called `ref`, and its fabric.

    Args:
        ref: a name in labs/catalog, else one in topologies/catalog, else the path of a lab or fabric file.
        seed: what everything random in the lab derives from.
        kinds: the node kinds there are.

    Raises SpecError with file, line and key.
    """
    if ref in catalog():
        path = CATALOG / f"{ref}.yaml"
    elif ref in fabric_catalog():
        return LabSpec(name=ref, fabric=ref, seed=seed), load_fabric(ref)
    elif is_path(ref):
        path = Path(ref)
    else:
        raise unknown_name("lab", ref, {"labs": catalog(), "fabrics": fabric_catalog()})
    source = read(path)
    name = stem(ref, source)
    if is_fabric(source):
        return LabSpec(name=name, fabric=ref, seed=seed), fabric_of(source, name=name)
    if "fabric" not in source.at():
        found = f"found {show(source.at())}"
        raise source.error((), found, allowed="a lab with fabric, or a fabric with shape, or with nodes and links")
    read_in = validated(LabFile, source)
    check_bgp(read_in.bgp, source)
    _check_hash(read_in, source)
    _check_kinds(read_in, source, kinds)
    fabric = _fabric_in(source, path.parent, name)
    _check_images(read_in, source, fabric, kinds)
    _check_management(read_in, source, fabric)
    return _spec(read_in, name, seed, path.parent), fabric


@lru_cache
def lab_schema() -> Mapping[str, Any]:
    """The JSON Schema (draft 2020-12) of a lab file, for editors."""
    lab, fabric = LabFile.model_json_schema(), dict(fabric_schema())
    dialect = fabric.pop("$schema")
    defs = {**lab.pop("$defs"), **fabric.pop("$defs"), "Fabric": fabric}
    inline = {**lab["properties"]["fabric"], "anyOf": [{"type": "string"}, {"$ref": "#/$defs/Fabric"}]}
    properties = {**lab["properties"], "fabric": inline}
    return {"$schema": dialect, **lab, "title": "railbed lab", "properties": properties, "$defs": defs}


def bgp_of(entry: BgpEntry, base: Bgp | None = None) -> Bgp:
    """What a file says of BGP; what it does not say is as in `base`."""
    named = {"keepalive": "keepalive_s", "hold": "hold_s", "connect": "connect_s"}
    said = {named.get(key, key): getattr(entry, key) for key in entry.model_fields_set}
    if "addressing" in said:
        said["addressing"] = SessionAddressing(entry.addressing)
    if "bfd" in said:
        said["bfd"] = Bfd(entry.bfd.interval_ms, entry.bfd.multiplier) if entry.bfd else None
    return replace(base or Bgp(), **said)


def spec_to_dict(spec: LabSpec) -> dict[str, Any]:
    """A spec as plain data for JSON, from which `spec_from_dict()` makes an equal one."""
    copied = replace(
        spec,
        kinds=dict(spec.kinds),
        images=dict(spec.images),
        hashing=dict(spec.hashing),
        node_kinds=dict(spec.node_kinds),
    )
    plain: dict[str, Any] = to_jsonable_python(copied)
    return plain


def spec_from_dict(data: Mapping[str, Any]) -> LabSpec:
    """The spec that `spec_to_dict()` wrote. Raises SpecError when `data` is nothing it could have written."""
    try:
        return _adapter().validate_python(dict(data))
    except (ValidationError, TypeError, ValueError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = Where(key=".".join(map(str, what["loc"])))
        raise SpecError(f"found no lab spec: {what['msg']}", allowed="what railbed wrote", where=place) from None


@lru_cache
def _adapter() -> TypeAdapter[LabSpec]:
    return TypeAdapter(LabSpec)


def _fabric_in(source: Source, folder: Path, name: str) -> Fabric:
    """The fabric that a lab file names or holds."""
    ref = source.at(("fabric",))
    if not isinstance(ref, str):
        return fabric_of(source, ("fabric",), name=name)
    try:
        return load_fabric(ref, folder)
    except SpecError as error:
        raise source.placed(error, ("fabric",)) from None


def check_bgp(bgp: BgpEntry, source: Source) -> None:
    """Raise SpecError for times under ``bgp`` that no session could keep."""
    keepalive, hold = bgp.keepalive, bgp.hold
    if (keepalive, hold) == (0, 0):
        return
    where = ("bgp", "hold" if "hold" in bgp.model_fields_set else "keepalive")
    if keepalive == 0:
        allowed = "keepalive of at least 1, or both 0 for sessions that never time out"
        raise source.error(where, f"found keepalive 0 with hold {hold}", allowed=allowed)
    if hold < 3 * keepalive:
        allowed = f"hold of at least {3 * keepalive} (3 × keepalive), or both 0 for sessions that never time out"
        raise source.error(where, f"found hold {hold} with keepalive {keepalive}", allowed=allowed)


def _check_management(read_in: LabFile, source: Source, fabric: Fabric) -> None:
    if read_in.management is None:
        return
    subnet, nodes = IPv4Network(read_in.management.subnet), len(fabric.nodes)
    where = ("management", "subnet")
    if subnet.overlaps(FABRICS_OWN):
        allowed = f"a subnet outside {FABRICS_OWN}, which fabrics number themselves from"
        raise source.error(where, f"found {subnet}", allowed=allowed)
    if subnet.num_addresses < nodes + 3:  # the network's own two addresses, and the gateway
        allowed = f"a subnet with room for {nodes} nodes and a gateway"
        raise source.error(where, f"found {subnet}, {subnet.num_addresses} addresses", allowed=allowed)


def _check_hash(read_in: LabFile, source: Source) -> None:
    for tier, entry in read_in.hash.items():
        if entry.fields is None:
            continue
        where = ("hash", tier, "fields")
        if entry.policy != 3:
            found = f"found fields with policy {entry.policy}"
            raise source.error(where, found, allowed="fields with policy 3 only")
        if len(set(entry.fields)) < len(entry.fields):
            raise source.error(where, "found a field twice", allowed="each field once")


def _check_kinds(read_in: LabFile, source: Source, kinds: Collection[str]) -> None:
    for tier, kind in read_in.kinds.items():
        if kind not in kinds:
            found = f"found {show(kind)}{meant(kind, kinds)}"
            raise source.error(("kinds", tier), found, allowed=", ".join(sorted(kinds)))
        if (tier == "host") != (kind == HOST_KIND):
            switches = ", ".join(sorted(set(kinds) - {HOST_KIND}))
            allowed = f"kind {HOST_KIND} for hosts, {switches} for switches"
            raise source.error(("kinds", tier), f"found kind {kind} for tier {tier}", allowed=allowed)


def _check_images(read_in: LabFile, source: Source, fabric: Fabric, kinds: Collection[str]) -> None:
    names = {*kinds, *(node.name for node in fabric.nodes)}
    for key in read_in.images:
        if key not in names:
            found = f"found no kind or node called {show(key)}{meant(key, names)}"
            allowed = f"kinds {', '.join(sorted(kinds))}, or a node of fabric {fabric}"
            raise source.error(("images", key), found, allowed=allowed)


def _profile(ref: str | None, folder: Path) -> str | None:
    """A profile's path is relative to the file that names it."""
    if ref in {None, NO_PROFILE}:
        return None
    return str((folder / str(ref)).resolve()) if is_path(str(ref)) else ref


def _spec(read_in: LabFile, name: str, seed: int, folder: Path) -> LabSpec:
    every = read_in.hash.get("all")
    chosen = {tier: read_in.hash.get(tier.value, every) for tier in Tier}
    return LabSpec(
        name=name,
        fabric=read_in.fabric if isinstance(read_in.fabric, str) else INLINE,
        kinds={**DEFAULT_KINDS, **{Tier(tier): kind for tier, kind in read_in.kinds.items()}},
        images=dict(read_in.images),
        bgp=bgp_of(read_in.bgp),
        hashing={
            tier: EcmpHash(entry.policy, tuple(entry.fields or FIVE_TUPLE), entry.seed)
            for tier, entry in chosen.items()
            if entry
        },
        ipv6=read_in.ipv6,
        lldp=read_in.lldp,
        mtu=read_in.mtu,
        management=IPv4Network(read_in.management.subnet) if read_in.management else None,
        profile=_profile(read_in.profile, folder),
        seed=seed,
    )
