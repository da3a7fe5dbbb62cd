"""From a spec and a design to files. Pure: the same input gives the same bytes, and nothing runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath

from labs.kinds import recipe
from labs.kinds.linux import SHIPPED
from labs.spec import LabSpec, RenderedLab, to_yaml
from topologies import addressing
from topologies.fabric import Fabric, Link


def render(spec: LabSpec, fabric: Fabric, name: str | None = None) -> RenderedLab:
    """Render every node of `fabric` by its kind. `name` is the running lab's, by default the spec's with ``-``."""
    name = name or spec.name.replace("_", "-")
    files: dict[PurePosixPath, str] = {}
    nodes: dict[str, object] = {}
    for node in fabric.nodes:
        kind = spec.kind_of(node)
        made = recipe(kind)
        labels = {"railbed-lab": name, "railbed-kind": kind, "railbed-tier": str(node.tier)}
        binds = [f"{node.name}:{SHIPPED}:ro"]
        nodes[node.name] = {**made.container(node, fabric, spec), "binds": binds, "labels": labels}
        for path, text in made.files(node, fabric, spec).items():
            files[PurePosixPath(node.name, *path.parts[1:])] = text
    clab = {
        "name": name,
        "mgmt": {"network": f"railbed-{name}", "ipv4-subnet": "auto", "external-access": False},
        "topology": {
            "defaults": {"privileged": False},
            "nodes": nodes,
            "links": [_link(fabric, link, spec.mtu) for link in fabric.links],
        },
    }
    return RenderedLab(name, fabric, spec, clab, files)


def clab_text(lab: RenderedLab) -> str:
    """The containerlab topology as YAML; of somebody else's lab their file as it is."""
    if lab.foreign is not None:
        return str(lab.clab["text"])
    return to_yaml(lab.clab)


def fingerprint(lab: RenderedLab) -> str:
    """Identifies a rendering: equal for equal topology and files, whatever the order they were made in."""
    content = json.dumps([lab.clab, {str(path): text for path, text in lab.files.items()}], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _link(fabric: Fabric, link: Link, mtu: int) -> dict[str, object]:
    ends = [{"node": port.node, "interface": port.name, "mac": addressing.mac(fabric, port)} for port in link.ends]
    return {"type": "veth", "endpoints": ends, "mtu": mtu}
