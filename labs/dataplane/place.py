"""Where the soft ASIC of a running lab lives: its socket, its maps, and the programs it is made of."""

from __future__ import annotations

import os
from pathlib import Path

RUN = Path("/run/railbed")
NATIVE = Path(__file__).resolve().parents[2] / "build" / "native"


def folder(lab: str) -> Path:
    """The folder of a running lab's asicd: `control` (a socket), `maps/` (a BPF file system), `ports`."""
    return RUN / lab


def maps(lab: str) -> Path:
    """The pinned maps of a running lab, as ``bpftool map dump pinned`` takes them."""
    return folder(lab) / "maps"


def native() -> Path:
    """Where the native programs were built: RAILBED_NATIVE, or `build/native` of this checkout."""
    return Path(os.environ.get("RAILBED_NATIVE") or NATIVE)
