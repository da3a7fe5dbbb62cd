"""Faults of load balancing: switches of all tiers that hash alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from labs.errors import CapabilityMissing, NotReady
from labs.faults.fault import Example, Fault, On, Param, Site, Step
from labs.faults.nodes import check_running
from labs.faults.undoing import Verb
from labs.lab import Lab
from labs.node import LiveNode

SEED_BACK = "hash-seed"
SEED = "net.ipv4.fib_multipath_hash_seed"  # the kernel has one for both families
MOST = 2**32 - 1


def _polarise(site: Site) -> Sequence[Step]:
    lab, wanted = site.lab, int(site.params["seed"])
    if lab.asic is not None and lab.asic.plan.ecmps:
        raise CapabilityMissing(
            "hash-seed",
            "the soft ASIC's hash engine chooses ports here, not the kernel",
            remedy="railbed profile set with one seed for all tiers: docs/ecmp.md",
        )
    steps = []
    for node in lab.switches:
        check_running(lab, node.name)
        said = node.channel.kernel("sysctl", "-n", SEED)
        if not said.ok:
            raise CapabilityMissing("hash-seed", f"the kernel has no {SEED}", remedy="Linux 6.11 or later")
        args = {"node": node.name, "was": said.stdout.strip()}
        steps.append(Step(SEED_BACK, args, partial(_set, node, wanted), (f"{node.name}/hash",)))
    return steps


def _set(node: LiveNode, seed: int) -> None:
    node.kernel("sysctl", "-w", f"{SEED}={seed}")


def _seed_back(lab: Lab, args: Mapping[str, Any]) -> None:
    """The seed of before. A node that is started again anew has it by its design."""
    check_running(lab, args["node"])
    node = lab.node(args["node"])
    said = node.channel.kernel("sysctl", "-w", f"{SEED}={args['was']}")
    if not said.ok:
        raise NotReady(f"{node.name}: {SEED} cannot be set: {said.stderr.strip()}")


POLARISATION = Fault(
    name="hash-polarisation",
    on=On.LAB,
    imitates="switches that all left the factory with one hash seed: what a leaf sent to one spine has hashes of one "
    "kind, so that spine uses few of its own ways. It shows where a flow is hashed twice on its way up, so from three "
    "tiers on; taking it back is the cure, a seed for each tier",
    detected_by="uplinks of a tier that stay empty (max/mean of ports), with flows enough for all",
    recovers="spread of flows over each tier's ports",
    steps=_polarise,
    params=(Param("seed", "the seed that all switches get", 1, int, 0, MOST),),
)

FAULTS = (POLARISATION,)
EXAMPLES: Mapping[str, Example] = {"hash-polarisation": Example()}
VERBS: Mapping[str, Verb] = {SEED_BACK: _seed_back}
