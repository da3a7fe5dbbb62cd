"""A containerlab topology of somebody else's: its nodes, the links between them, and the links that lead out of it.

Read from their file before anything runs, and from what containerlab exports (topology-data.json) once it does: there
links are resolved, whatever names the file used for interfaces. Pure, but for reading the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from topologies.errors import SpecError, Where
from topologies.validation import meant
from topologies.yaml_source import MOST_BYTES, show

ENDINGS = (".clab.yml", ".clab.yaml")
TEMPLATES = (".clab.gotmpl", ".clab.yml.gotmpl", ".clab.yaml.gotmpl")
# containerlab's own rules: its schema, nodes/default_node.go and links/link.go.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
MOST_NAME = 60
NODE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._|-]*")
NAME_RULE = f"a letter or digit, then letters, digits, '.', '_' and '-', at most {MOST_NAME} in all"
# What a link's end may be instead of a node; the ends of kinds that are no containers are such too.
OUTSIDE = ("host", "mgmt-net", "macvlan", "dummy", "vxlan", "vxlan-stitch")
BRIDGES = ("bridge", "ovs-bridge")
STITCHED = ("veth", "veth-stitch", "")

End = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ForeignNode:
    """A node as its topology has it. `group` is containerlab's, inherited attributes are filled in."""

    name: str
    kind: str = ""
    image: str = ""
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ForeignTopology:
    """A lab: `links` join two of its nodes, `outside` names in words each link that leads elsewhere."""

    name: str
    nodes: Mapping[str, ForeignNode]
    links: tuple[tuple[End, End], ...]
    outside: tuple[str, ...] = ()
    network: str = "clab"

    def links_of(self, node: str) -> tuple[tuple[End, End], ...]:
        """The links of a node, its own end first."""
        return tuple((a, b) if a[0] == node else (b, a) for a, b in self.links if node in {a[0], b[0]})


def is_foreign(ref: str) -> bool:
    """Whether a reference means somebody else's containerlab file. Raises SpecError for a template."""
    if ref.endswith(TEMPLATES):
        raise SpecError(
            f"{ref} is a template",
            allowed="the topology that comes of it: containerlab deploy --export-rendered writes it",
        )
    return ref.endswith(ENDINGS)


def check_name(name: str) -> None:
    """Refuse a lab's name that containerlab would refuse. Raises SpecError."""
    if not NAME.fullmatch(name) or len(name) > MOST_NAME:
        raise SpecError(f"lab name {name!r}", allowed=NAME_RULE)


def read_file(path: Path) -> tuple[ForeignTopology, Mapping[str, object]]:
    """The topology in a file, and of the file its name, prefix and text.

    Raises SpecError with the file, and with the line of what is no YAML.
    """
    text = ""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _wrong(path, f"found {path.stat().st_size} bytes", f"at most {MOST_BYTES}")
        text = path.read_text(encoding="utf-8")
        data = yaml.safe_load(text)
    except FileNotFoundError:
        raise _wrong(path, "there is no such file", "a containerlab topology that exists") from None
    except IsADirectoryError:
        raise _wrong(path, "found a folder", "a containerlab topology") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(path, f"cannot be read ({error})", "a containerlab topology") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        if "{{" in text:
            raise _wrong(path, "found a template ('{{')", "the topology that comes of it", line=line) from None
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise _wrong(path, f"found no YAML: {problem}", "a containerlab topology", line=line) from None
    return from_data(data, path), {"name": data["name"], "prefix": data.get("prefix", "clab"), "text": text}


def from_data(data: object, path: Path) -> ForeignTopology:
    """The topology in the content of a file. Raises SpecError that names the key."""
    top = _mapping(path, data, "", "a mapping with name and topology")
    name = top.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > MOST_NAME:
        found = "the key is missing" if name is None else f"found {show(name)}"
        raise _wrong(path, f"{found}{meant('name', [k for k in top if k != 'topology'])}", NAME_RULE, key="name")
    topology = _mapping(path, top.get("topology"), "topology", "a mapping with nodes and links")
    entries = _mapping(path, topology.get("nodes"), "topology.nodes", "a mapping of names to nodes")
    if not entries:
        raise _wrong(path, "found no node", "at least one node", key="topology.nodes")
    nodes = {str(key): _node(path, str(key), entry or {}, topology) for key, entry in entries.items()}
    listed = topology.get("links") or []
    if not isinstance(listed, list):
        raise _wrong(path, f"found {show(listed)}", "a list of links", key="topology.links")
    links, outside = _sorted(nodes, (_ends(path, i, link) for i, link in enumerate(listed)))
    management = top.get("mgmt") or {}
    network = str(management.get("network") or "clab") if isinstance(management, Mapping) else "clab"
    return ForeignTopology(name, _containers(nodes), links, outside, network)


def from_export(data: Mapping[str, Any]) -> ForeignTopology:
    """The topology in containerlab's topology-data.json. Raises KeyError or TypeError when it is something else."""
    nodes = {
        str(name): ForeignNode(
            str(name),
            str(entry.get("kind", "")),
            str(entry.get("image", "")),
            str(entry.get("group", "")),
            {str(k): str(v) for k, v in (entry.get("labels") or {}).items()},
        )
        for name, entry in data["nodes"].items()
    }
    ends = []
    for link in data["links"]:
        found = [(str(end["node"]), str(end["interface"])) for end in link["endpoints"].values()]
        ends.append((found, "" if len(found) == 2 else "dummy"))
    links, outside = _sorted(nodes, ends)
    config = data["clab"]["config"]
    return ForeignTopology(data["name"], _containers(nodes), links, outside, config["mgmt"].get("network") or "clab")


def _sorted(
    nodes: Mapping[str, ForeignNode], found: Iterable[tuple[Sequence[End], str]]
) -> tuple[tuple[tuple[End, End], ...], tuple[str, ...]]:
    """The links between nodes, and those that lead elsewhere in words."""
    links, outside = [], []
    inside = _containers(nodes)
    for ends, kind in found:
        if kind in STITCHED and len(ends) == 2 and all(node in inside for node, _ in ends):
            links.append((ends[0], ends[1]))
        else:
            outside.append(" to ".join(f"{node}:{port}" for node, port in ends) + (f" ({kind})" if kind else ""))
    return tuple(links), tuple(outside)


def _containers(nodes: Mapping[str, ForeignNode]) -> Mapping[str, ForeignNode]:
    """The nodes that are containers."""
    return {name: node for name, node in nodes.items() if node.kind not in {*BRIDGES, *OUTSIDE}}


def _node(path: Path, name: str, entry: object, topology: Mapping[str, Any]) -> ForeignNode:
    """A node with what its group, its kind and the defaults say, as containerlab resolves it: the nearest wins."""
    if not NODE.fullmatch(name):
        rule = "a letter or digit, then letters, digits, '.', '_', '-' and '|'"
        raise _wrong(path, f"found the node name {name!r}", rule, key="topology.nodes")
    own = _mapping(path, entry, f"topology.nodes.{name}", "a mapping")
    layers: list[Mapping[str, Any]] = [own]
    for key, which in (("group", "groups"), ("kind", "kinds")):
        word = next((str(layer[key]) for layer in (*layers, _part(topology, "defaults")) if layer.get(key)), "")
        layers.append(_part(_part(topology, which), word))
    layers.append(_part(topology, "defaults"))
    labels = {str(k): str(v) for layer in reversed(layers) for k, v in _part(layer, "labels").items()}
    kind, image, group = (
        next((str(layer[key]) for layer in layers if layer.get(key)), "") for key in ("kind", "image", "group")
    )
    return ForeignNode(name, kind, image, group, labels)


def _ends(path: Path, index: int, link: object) -> tuple[list[End], str]:
    """A link's ends and type, brief or extended."""
    key = f"topology.links[{index}]"
    entry = _mapping(path, link, key, "a mapping with endpoints, or with type and endpoint")
    kind = str(entry.get("type") or "")
    listed = entry.get("endpoints")
    if listed is None and isinstance(entry.get("endpoint"), Mapping):
        listed = [entry["endpoint"]]
    if not isinstance(listed, list) or not 1 <= len(listed) <= 2:
        raise _wrong(path, f"found {show(listed)}", 'endpoints: ["node1:eth1", "node2:eth1"]', key=f"{key}.endpoints")
    return list(_each_end(path, key, listed)), kind


def _each_end(path: Path, key: str, listed: Sequence[object]) -> Iterator[End]:
    for end in listed:
        if isinstance(end, Mapping) and end.get("node") and end.get("interface"):
            yield str(end["node"]), str(end["interface"])
        elif isinstance(end, str) and end.count(":") >= 1:
            node, _, port = end.partition(":")
            yield node, port
        else:
            raise _wrong(path, f"found {show(end)}", "node:interface", key=f"{key}.endpoints")


def _part(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = entry.get(key) if key else None
    return found if isinstance(found, Mapping) else {}


def _mapping(path: Path, value: object, key: str, allowed: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        found = "the key is missing" if value is None and key else f"found {show(value)}"
        raise _wrong(path, found, allowed, key=key)
    return value


def _wrong(path: Path, found: str, allowed: str, *, key: str = "", line: int | None = None) -> SpecError:
    return SpecError(found, allowed=allowed, where=Where(str(path), line, key))
