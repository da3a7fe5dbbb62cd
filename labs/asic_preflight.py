"""What the soft ASIC needs of this workstation, each thing tried out: nothing is concluded from a version.

Programs and maps are loaded and let go, queues are made in a network namespace that is gone afterwards. Making that
takes the kernel's networking lock, so a probe waits for a measurement, and `status` asks a file what was found in
this boot (`/var/lib/railbed/cache`, while a lab is up). What is missing is asked anew each time: somebody may have
mended it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from labs import bpf_probe, index, kernel, lease
from labs.errors import CapabilityMissing
from labs.journal import boot_id

BTF = Path("/sys/kernel/btf/vmlinux")
JIT = Path("/proc/sys/net/core/bpf_jit_enable")
LIBBPF = Path("/usr/include/bpf/libbpf.h")
LO = 1  # the loopback's number in every network namespace
MAPS_SIZE = 16 << 20  # twice the kernel's own default limit: a limit that is in force at all shows

# One line a kind of queue, as the soft ASIC makes them, then what attaches programs where tcx is not. A kind that the
# kernel has in a module is loaded by asking for it.
QUEUES = """\
qdisc add dev lo root handle 1: htb
class add dev lo parent 1: classid 1:1 htb rate 1gbit burst 64k cburst 64k quantum 9216
qdisc add dev lo parent 1:1 handle 2: tbf rate 1gbit burst 200000 limit 1000000
qdisc replace dev lo parent 1:1 handle 3: bfifo limit 1000000
qdisc replace dev lo parent 1:1 handle 4: netem delay 1ms
qdisc add dev lo clsact
filter add dev lo ingress bpf bytecode 1,6 0 0 4294967295
"""
KIND_OF_LINE = ("htb", "htb", "tbf", "bfifo", "netem", "clsact", "cls_bpf")

KERNEL = "a kernel that has it: Debian's and Ubuntu's do"
MAKE_NATIVE = "make native"


class Need(StrEnum):
    """What something is needed for."""

    RUN = "run"  # the soft ASIC does not work without
    BETTER = "better"  # it works without, with less
    BUILD = "build"  # its programs are built with it


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that was tried: `because` says why it is not there, `remedy` what to do about it."""

    name: str
    have: bool
    because: str | None = None
    remedy: str = ""
    need: Need = Need.RUN


# name -> what for, what to do where it is missing
KERNEL_FEATURES: Mapping[str, tuple[Need, str]] = {
    "btf": (Need.RUN, "a kernel with CONFIG_DEBUG_INFO_BTF: Debian's and Ubuntu's have it"),
    "sched-cls": (Need.RUN, "a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF"),
    "set-hash": (Need.RUN, "a kernel from 4.10 on"),
    "ecn-set-ce": (Need.RUN, "a kernel from 5.1 on"),
    "spin-lock": (Need.RUN, "a kernel from 5.1 on"),
    "ringbuf": (Need.RUN, "a kernel from 5.8 on"),
    "attach": (Need.RUN, "a kernel from 6.6 on, or one with CONFIG_NET_CLS_BPF (modprobe cls_bpf)"),
    "htb": (Need.RUN, f"modprobe sch_htb, or {KERNEL}"),
    "tbf": (Need.RUN, f"modprobe sch_tbf, or {KERNEL}"),
    "bfifo": (Need.RUN, KERNEL),
    "af-packet": (Need.RUN, f"modprobe af_packet, or {KERNEL}"),
    "memlock": (Need.RUN, "ulimit -l unlimited, or a kernel from 5.11 on"),
    "jit": (Need.RUN, "sysctl -w net.core.bpf_jit_enable=1"),
    "tcx": (Need.BETTER, "a kernel from 6.6 on; until then clsact costs 90 ns more a packet and hop"),
    "sched-fifo": (Need.BETTER, "run railbed in a control group that may have real-time processes"),
    "netem": (Need.BETTER, f"modprobe sch_netem, or {KERNEL}; only delay and jitter of links need it"),
}


def features() -> tuple[Feature, ...]:
    """What this boot's kernel offers and whether the programs are built, without trying again what was there before."""
    return (*(_remembered() or probe()), _built())


def require() -> None:
    """Raise CapabilityMissing that names everything which the soft ASIC lacks here."""
    lacking = missing(features())
    if lacking:
        raise CapabilityMissing(
            "soft-asic",
            "; ".join(f"{one.name}: {one.because}" for one in lacking),
            remedy="; ".join(dict.fromkeys(one.remedy for one in lacking)),
        )


def missing(found: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """What the soft ASIC cannot run without."""
    return tuple(one for one in found if one.need is Need.RUN and not one.have)


def examine() -> tuple[Feature, ...]:
    """Everything, tried anew; also what its programs are built with."""
    return (*probe(), _built(), *_tools())


def probe() -> tuple[Feature, ...]:
    """Try everything of the kernel; leaves nothing behind. Raises NotReady while a measurement does not end."""
    answers: Mapping[str, str | None]
    if os.geteuid() != 0:
        answers = dict.fromkeys(KERNEL_FEATURES, "only root can find out")
        return tuple(Feature(name, False, why, "run railbed with sudo") for name, why in answers.items())
    with lease.changing("", "a look at what the kernel offers"):
        try:
            answers = _asked()
        except OSError as error:
            answers = dict.fromkeys(KERNEL_FEATURES, str(error))
    found = tuple(
        Feature(name, answers[name] is None, answers[name], "" if answers[name] is None else remedy, need)
        for name, (need, remedy) in KERNEL_FEATURES.items()
    )
    _remember(found)
    return found


def _asked() -> Mapping[str, str | None]:
    """Why each feature is not there, None for one that is."""
    helpers = {name: bpf_probe.helper(number) for name, number in bpf_probe.HELPERS.items()}
    with kernel.inside_new_netns():
        queues, tcx, packets = _queues(), bpf_probe.tcx(LO), _packet_socket()
    classic = queues["clsact"] or queues["cls_bpf"]
    return {
        "btf": None if BTF.exists() else f"{BTF} is not there",
        "sched-cls": bpf_probe.program(),
        **helpers,
        "ringbuf": helpers["ringbuf"] or bpf_probe.make_map(bpf_probe.RINGBUF, 4096 * 16),
        "attach": f"no tcx ({tcx}) and no cls_bpf ({classic})" if tcx and classic else None,
        **{kind: queues[kind] for kind in ("htb", "tbf", "bfifo", "netem")},
        "af-packet": packets,
        "memlock": bpf_probe.make_map(bpf_probe.ARRAY, MAPS_SIZE),
        "jit": _jit(),
        "tcx": tcx,
        "sched-fifo": _real_time(),
    }


def _queues() -> Mapping[str, str | None]:
    """Why tc could not make a queue of each kind in the current network namespace."""
    if shutil.which("tc") is None:
        return dict.fromkeys(KIND_OF_LINE, "tc is not installed (apt-get install iproute2)")
    said = subprocess.run(["tc", "-force", "-batch", "-"], input=QUEUES, capture_output=True, text=True, check=False)
    return refused(said.stderr)


def refused(errors: str) -> dict[str, str | None]:
    """What tc says of a batch, by kind of queue: each error stands before the number of its line."""
    found: dict[str, str | None] = dict.fromkeys(KIND_OF_LINE)
    reason = ""
    for line in errors.splitlines():
        failed = re.fullmatch(r"Command failed .*:(\d+)", line)
        if failed is None:
            reason = line if line.startswith(("Error", "RTNETLINK", "Unknown", "Cannot")) else reason
            continue
        kind = KIND_OF_LINE[int(failed[1]) - 1]
        found[kind] = found[kind] or f"tc: {reason.removeprefix('Error: ').rstrip('.') or 'refused'}"
        reason = ""
    return found


def _packet_socket() -> str | None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    except OSError as error:
        return f"a packet socket is refused: {error.strerror}"
    return None


def _jit() -> str | None:
    try:
        on = JIT.read_text().strip() != "0"
    except OSError:
        return f"{JIT} is not there: BPF programs are interpreted"
    return None if on else f"{JIT} is 0: BPF programs are interpreted, too slowly for packets"


def _real_time() -> str | None:
    """Whether a thread of ours may have real-time priority: one that ends at once tries."""
    answers: list[str | None] = []

    def ask() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            answers.append(None)
        except OSError as error:
            answers.append(f"real-time priority is refused: {error.strerror}")

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return answers[0]


def _built() -> Feature:
    folder = os.environ.get("RAILBED_NATIVE")  # as scripts/build_native has it
    program = (Path(folder) if folder else Path(__file__).parents[1] / "build" / "native") / "asicd"
    if program.exists():
        return Feature("asicd", True)
    return Feature("asicd", False, f"{program} is not built", MAKE_NATIVE)


def _tools() -> tuple[Feature, ...]:
    """What the programs are built with; not needed once they are."""
    there: Mapping[str, Callable[[], bool]] = {
        "clang": lambda: shutil.which("clang") is not None,
        "gcc": lambda: shutil.which("gcc") is not None,
        "libbpf-dev": LIBBPF.exists,
    }
    remedy = "apt-get install {}   (or: make setup)"
    return tuple(
        Feature(name, True, need=Need.BUILD)
        if found()
        else Feature(name, False, "not installed", remedy.format(name), Need.BUILD)
        for name, found in there.items()
    )


def _cache() -> Path:
    return index.state_dir() / index.CACHE / "kernel.json"


def _remember(found: tuple[Feature, ...]) -> None:
    """Keep what was found in this boot, as long as a lab is up; what is missing is asked again."""
    if missing(found) or not index.names():
        return
    rows = [{"name": one.name, "because": one.because} for one in found]
    draft = _cache().with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        draft.parent.mkdir(exist_ok=True)
        draft.write_text(json.dumps({"boot": boot_id(), "features": rows}))
        draft.replace(_cache())


def _remembered() -> tuple[Feature, ...] | None:
    """What was found in this boot; None when nothing was, or by a version that asked other things."""
    try:
        data = json.loads(_cache().read_text())
        because = {row["name"]: row["because"] for row in data["features"]}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if data["boot"] != boot_id() or because.keys() != KERNEL_FEATURES.keys():
        return None
    return tuple(
        Feature(name, because[name] is None, because[name], "" if because[name] is None else remedy, need)
        for name, (need, remedy) in KERNEL_FEATURES.items()
    )
