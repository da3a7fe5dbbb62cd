"""What any backend that uses this workstation's kernel checks and changes of it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping

from labs import asic_preflight, sysctl
from labs.asic_preflight import Need
from labs.backends.base import Capability
from labs.errors import PreflightFailed
from labs.spec import RenderedLab

# The neighbour table is one for the whole workstation. A link costs up to six entries (an IPv4, a global and a
# link-local IPv6 neighbour at each end), and the kernel needs room to keep entries it is still resolving.
NEIGHBORS_PER_LINK = 6
NEIGHBOR_KEYS = tuple(f"net.{family}.neigh.default.gc_thresh{n}" for family in ("ipv4", "ipv6") for n in (1, 2, 3))


def neighbor_room(lab: RenderedLab) -> Mapping[str, int]:
    """What this lab's links take of the workstation's neighbour tables.

    The kernel collects entries beyond the first threshold, hurries beyond the second, refuses beyond the third.
    """
    return {key: NEIGHBORS_PER_LINK * len(lab.fabric.links) * int(key[-1]) for key in NEIGHBOR_KEYS}


def check_root(what: str) -> None:
    """Raise PreflightFailed unless we are root."""
    if os.geteuid() != 0:
        raise PreflightFailed(f"{what} needs root", remedy=f"sudo {command_line()}")


def check_programs(needs: Mapping[str, str]) -> None:
    """Raise PreflightFailed when one of these programs, each with its Debian package, is not installed."""
    missing = {program: package for program, package in needs.items() if shutil.which(program) is None}
    if missing:
        raise PreflightFailed(
            f"not installed: {', '.join(sorted(missing))}",
            remedy=f"apt-get install {' '.join(sorted(set(missing.values())))}   (or: make setup)",
        )


def check_kernel(lab: RenderedLab) -> None:
    """Raise PreflightFailed when the kernel lacks a hash setting that the lab's nodes get."""
    for key in _hash_keys(lab):
        if not sysctl.path_of(key).exists():
            needs = "6.11" if key.endswith("_seed") else "5.13"
            raise PreflightFailed(
                f"this kernel ({os.uname().release}) has no {key}",
                remedy=f"a kernel from {needs} on; on Ubuntu 24.04: apt-get install linux-generic-hwe-24.04",
            )


def capabilities() -> tuple[Capability, ...]:
    """What the kernel can and cannot do for labs."""
    seed = sysctl.path_of("net.ipv4.fib_multipath_hash_seed").exists()
    found = asic_preflight.features()
    lacking = "; ".join(f"{one.name}: {one.because}" for one in asic_preflight.missing(found))
    return (
        Capability("hash-seed", seed, None if seed else "fib_multipath_hash_seed came with kernel 6.11"),
        Capability("soft-asic", not lacking, lacking or None),
        *(Capability(one.name, one.have, one.because) for one in found if one.need is Need.BETTER),
    )


def _hash_keys(lab: RenderedLab) -> Iterator[str]:
    for node in lab.fabric.nodes:
        for key in mapping(container_of(lab, node.name).get("sysctls")):
            if "fib_multipath_hash" in str(key):
                yield str(key)


def container_of(lab: RenderedLab, node: str) -> Mapping[object, object]:
    """A node's entry in the lab's containerlab topology."""
    return mapping(mapping(mapping(lab.clab["topology"])["nodes"])[node])


def mapping(value: object) -> Mapping[object, object]:
    """`value` when it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def command_line() -> str:
    """The command that was typed, to be typed again."""
    return shlex.join(sys.argv) if sys.argv[0] else "railbed up"


def setting(key: str) -> str:
    """A setting of the workstation's kernel as it is now."""
    return sysctl.path_of(key).read_text().strip()
