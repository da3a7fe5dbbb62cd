"""Labs of somebody else's as the rest of railbed sees them: a RenderedLab from a file, and again once it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from labs import engine
from labs.backends.base import Deployment, Progress
from labs.backends.foreign import ForeignDeployment, channel_to, located, user_file
from labs.engine import Container
from labs.errors import SpecError
from labs.foreign.design import design_of_file
from labs.foreign.reading import containers_of, read_design, topology_of
from labs.foreign.topology import check_name, read_file
from labs.kinds import KINDS
from labs.render import render
from labs.spec import ForeignSource, LabSpec, RenderedLab
from topologies.fabric import Fabric


def from_file(ref: str, *, name: str | None, seed: int, images: Mapping[str, str]) -> RenderedLab:
    """What a containerlab file alone tells; addresses and routing come once it runs. Raises SpecError."""
    path = Path(user_file(ref))
    topology, data = read_file(path)
    if images:
        key, image = next(iter(images.items()))
        raise SpecError(
            f"--image {key}={image} with a containerlab file",
            allowed=f"the images that {ref} names: it is deployed as it is",
        )
    chosen = name or topology.name
    check_name(chosen)
    fabric = replace(design_of_file(topology), name=topology.name)
    kinds = {node.name: "plain" for node in fabric.nodes}
    spec = LabSpec(name=topology.name, fabric=str(path), node_kinds=kinds, lldp=False, seed=seed)
    return RenderedLab(chosen, fabric, spec, data, {}, ForeignSource(str(path), network=topology.network))


def as_found(lab: RenderedLab, deployment: Deployment, progress: Progress) -> RenderedLab:
    """The lab that runs: ours as rendered, another's with the design read from it. Raises NotReady, SpecError."""
    if not isinstance(deployment, ForeignDeployment):
        return lab
    progress("reading the lab")
    found = located(lab, deployment)
    topology = topology_of(lab.name, containers_of(lab.name))
    fabric, spec = read_design(topology, deployment.names, deployment.channel, KINDS, lab.spec.seed)
    return replace(
        found,
        fabric=replace(fabric, name=lab.fabric.name),
        spec=replace(spec, fabric=lab.spec.fabric, profile=lab.spec.profile),
    )


def stored(lab: RenderedLab) -> dict[str, object]:
    """What lab.json needs beside spec and fabric to have a foreign lab back."""
    return {"foreign": {**asdict(lab.foreign), "containers": dict(lab.foreign.containers)}} if lab.foreign else {}


def restored(data: Mapping[str, Any], spec: LabSpec, fabric: Fabric, name: str) -> RenderedLab:
    """The lab that lab.json tells of, ours or not."""
    source = data.get("foreign")
    if source is None:
        return render(spec, fabric, name)
    return RenderedLab(name, fabric, spec, {}, {}, ForeignSource(**source))


def adopted(name: str, boxes: Mapping[str, Container], file: str, seed: int) -> RenderedLab:
    """A lab that containerlab runs, read as it is. Raises NotReady, SpecError."""
    topology = topology_of(name, boxes)
    names = {node: box.name for node, box in boxes.items()}
    at = engine.address()
    fabric, spec = read_design(topology, names, lambda node: channel_to(node, names[node], at), KINDS, seed)
    source = ForeignSource(file, names, topology.network, adopted=True)
    return RenderedLab(name, fabric, replace(spec, fabric=file or name), {"name": name}, {}, source)
