"""Whether this workstation can run labs, and what to do where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from labs import asic_preflight, containerlab, engine, reaper, sysctl
from labs.errors import LabError
from labs.shadowing import check_sole_distribution

OUR_IMAGES = ("railbed/frr", "railbed/host")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `needed` False means: labs run without it, with less."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def examine() -> tuple[Finding, ...]:
    """Look at everything; changes nothing."""
    return (*(look() for look in LOOKS), *_soft_asic())


def _root() -> Finding:
    return Finding("root", os.geteuid() == 0, f"user id {os.geteuid()}", "run railbed with sudo, or: make lab-up")


def _program(name: str, package: str, *, needed: bool = True, version: tuple[str, ...] = ()) -> Callable[[], Finding]:
    def look() -> Finding:
        path = shutil.which(name)
        if path is None:
            return Finding(package, False, "not found", f"apt-get install {package}   (or: make setup)", needed)
        return Finding(package, True, _version(version) or path, needed=needed)

    return look


def _version(argv: tuple[str, ...]) -> str:
    if not argv:
        return ""
    try:
        said = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (said.stdout or said.stderr).strip().splitlines()[0][:60] if said.stdout or said.stderr else ""


def _kernel(key: str, since: str, what: str) -> Callable[[], Finding]:
    def look() -> Finding:
        have = sysctl.path_of(key).exists()
        found = f"Linux {os.uname().release}" if have else f"Linux {os.uname().release} has no {key}"
        return Finding(what, have, found, f"a kernel from {since} on")

    return look


def _memory() -> Finding:
    """A switch's daemons take some 33 MB (zebra 13, bgpd 15, bfdd 6, measured with no routes); twice that is room."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return Finding(
        "memory", free >= 512, f"{free} MiB free, some {free // 66} switches", "close something, or a smaller lab"
    )


def _shadowing() -> Finding:
    try:
        check_sole_distribution()
    except LabError as error:
        return Finding("packages", False, str(error).splitlines()[0], "uninstall the other distribution")
    return Finding("packages", True, f"railbed {metadata.version('railbed')}")


def _engine() -> Finding:
    """Labs in containers; namespaces need none of it."""
    if why := engine.missing():
        return Finding("docker", False, why, "make setup-containerlab", needed=False)
    with engine.asking(engine.address()):
        version = engine.client(engine.address()).version()["Version"]
    return Finding("docker", True, f"engine {version} at {engine.address()}", needed=False)


def _containerlab() -> Finding:
    try:
        return Finding("containerlab", True, str(containerlab.find()), needed=False)
    except LabError as error:
        return Finding("containerlab", False, error.message, error.remedy, needed=False)


def _images() -> Finding:
    if engine.missing():
        return Finding("images", False, "no engine to hold any", "make setup-containerlab", needed=False)
    lacking = [name for name in OUR_IMAGES if not engine.has_image(name)]
    found = f"not built: {', '.join(lacking)}" if lacking else ", ".join(OUR_IMAGES)
    return Finding(
        "images", not lacking, found, "make images, or images of your own: railbed up --image frr=NAME", False
    )


def _soft_asic() -> tuple[Finding, ...]:
    """What the soft ASIC needs; routing alone needs none of it."""
    try:
        features = asic_preflight.examine()
    except LabError as error:  # somebody measures
        return (Finding("soft ASIC", False, error.message, error.remedy, needed=False),)
    return tuple(
        Finding(f"soft ASIC: {one.name}", one.have, one.because or "there", one.remedy, needed=False)
        for one in features
    )


def _leftovers() -> Finding:
    found = reaper.leftovers()
    names = ", ".join(f"{leftover.name} ({leftover.because})" for leftover in found)
    return Finding("leftovers", not found, names or "none", "railbed reap", needed=False)


LOOKS: tuple[Callable[[], Finding], ...] = (
    _root,
    _kernel("net.ipv4.fib_multipath_hash_fields", "5.13", "hash fields"),
    _kernel("net.ipv4.fib_multipath_hash_seed", "6.11", "hash seed"),
    _program("ip", "iproute2", version=("ip", "-V")),
    _program("nsenter", "util-linux", version=("nsenter", "--version")),
    _program("/usr/bin/catatonit", "catatonit", version=("/usr/bin/catatonit", "-V")),
    _program("/usr/lib/frr/bgpd", "frr", version=("/usr/lib/frr/bgpd", "--version")),
    _program("fping", "fping", version=("fping", "--version")),
    _program("iperf3", "iperf3", version=("iperf3", "--version")),
    _engine,
    _containerlab,
    _images,
    _program("lldpd", "lldpd", needed=False, version=("lldpd", "-v")),
    _memory,
    _shadowing,
    _leftovers,
)
