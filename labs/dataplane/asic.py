"""The soft ASIC of one running lab: started, asked, changed while packets flow.

asicd (labs/dataplane/asicd) is the process behind it; this module tells it what labs/dataplane/plan.py has worked out,
over a socket, line by line. Any process may hold a `SoftAsic` of a lab: all state is in asicd and in its maps.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from ctypes import sizeof
from dataclasses import dataclass
from pathlib import Path

from labs import sysctl
from labs.dataplane import abi, place
from labs.dataplane.abi_ecmp import EcmpProfile
from labs.dataplane.counters import ENGINE_MAPS, AsicCounters, read_counters
from labs.dataplane.load import load_profile
from labs.dataplane.maps import read_maps
from labs.dataplane.plan import LabPlan, PortPlan, plan
from labs.dataplane.profile import Profile
from labs.dataplane.slots import empty_slots, free_slots, profile_slots
from labs.dataplane.wires import WIRE_WORDS, Impairment, wire_words
from labs.errors import DeployFailed, NotReady
from labs.journal import Change, Journal
from labs.run_dir import write
from labs.spec import derived_seed
from labs.undo import TOKEN_VARIABLE, identity
from topologies.errors import SpecError
from topologies.fabric import Fabric

PROFILE_FOLDER = "profile"  # in the run directory: one file, what is being played
# Fast ports that open again hand their backlog over at once: the kernel's default of 1000 frames can overflow.
BACKLOG = {"net.core.netdev_max_backlog": 10_000}
# By tcx where the kernel has it; asked for by name to play an older kernel.
HOOK = "RAILBED_ASIC_HOOK"
HOOKS: Mapping[str, list[str]] = {"": [], "tcx": [], "cls_bpf": ["--cls-bpf"]}
ANSWER_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where asicd finds a node: its network namespace, and the interfaces behind the names of its ports."""

    netns: Path
    netdevs: Mapping[str, str]


class SoftAsic:
    """A lab's soft ASIC. `plan` numbers its ports, `profile` is what was last applied."""

    def __init__(self, lab: str, fabric: Fabric, run_dir: Path, seed: int) -> None:
        self.lab = lab
        self._fabric = fabric
        self._run_dir = run_dir
        self._seed = seed
        self.reread()

    def reread(self) -> None:
        """Know again what is played: another process may have turned the lab to another profile."""
        self.profile = load_profile(str(next((self._run_dir / PROFILE_FOLDER).glob("*.json"))))
        self.plan: LabPlan = plan_of(self.profile, self._fabric, self._seed)

    @property
    def alive(self) -> bool:
        """True while asicd answers."""
        try:
            return bool(self.status())
        except NotReady:
            return False

    @property
    def plays(self) -> bool:
        """True while packets meet its programs: the kernel takes them off with asicd, but those of cls_bpf.

        An asicd that is frozen, or too busy to answer, plays on.
        """
        return not _ended(self.lab) or _outlives(self.lab)

    def status(self) -> Mapping[str, str]:
        """What asicd says of itself: pid, nodes, attached, hook (tcx or cls_bpf), fifo. Raises NotReady."""
        return tell(self.lab, ["status"])[0]

    def counters(self) -> AsicCounters:
        """All counters of all ports, as they are now. Raises NotReady when the maps are gone."""
        return read_counters(self.lab, self.plan)

    def apply(self, profile: Profile, *, rates: Mapping[str, int] | None = None) -> int:
        """Turn every port to another profile while packets flow; returns how many ports were turned.

        Each port changes in one store: a packet is treated by the old profile or by the new one. `rates` are bit/s by
        link name; others stay as they are. Raises SpecError for a profile that this fabric cannot play, NotReady when
        asicd is gone.
        """
        states = self._states()
        wanted = self._wanted(profile, states, rates or {})
        used = {int(state.profile) for state in states.values()}
        sizes = {"profiles": sizeof(abi.PortProfile), "ecmps": sizeof(EcmpProfile)}
        maps = read_maps(place.maps(self.lab), sizes, optional=ENGINE_MAPS)
        slots = free_slots(wanted, used=used, profiles=maps["profiles"], ecmps=maps.get("ecmps", b""))
        lines = [*_pool_lines(wanted), *slots.lines]
        lines += [f"apply port={p.number} profile={slots.profiles[p.profile]} rate={p.rate_bps}" for p in wanted.ports]
        tell(self.lab, lines)
        self.profile, self.plan = profile, wanted
        _keep(self._run_dir, profile)
        return len(wanted.ports)

    def check(self, profile: Profile) -> None:
        """Raise SpecError for a profile that this fabric cannot play, NotReady when asicd is gone; nothing changes."""
        self._wanted(profile, self._states(), {})

    def _wanted(self, profile: Profile, states: Mapping[int, abi.PortState], rates: Mapping[str, int]) -> LabPlan:
        current = {port.link: int(states[port.number].rate_bps) for port in self.plan.ports}
        wanted = plan_of(profile, self._fabric, self._seed, {**current, **rates})
        if wanted.pool_places != self.plan.pool_places:
            raise SpecError("the profile has another number of pools", allowed="a profile whose pools are as many")
        return wanted

    def _states(self) -> Mapping[int, abi.PortState]:
        """What each port is told to do now, by number."""
        size = sizeof(abi.PortState)
        states = read_maps(place.maps(self.lab), {"ports": size})["ports"]
        return {at // size: abi.PortState.from_buffer_copy(states, at) for at in range(size, len(states), size)}

    def port(self, node: str, port: str) -> PortPlan:
        """A port's place in the plan. Raises SpecError that lists what there is."""
        for one in self.plan.ports:
            if (one.node, one.name) == (node, port):
                return one
        names = ", ".join(f"{one.node}:{one.name}" for one in self.plan.ports[:6])
        raise SpecError(f"{node}:{port} is no port of this lab", allowed=f"{names} …")

    def impair(self, node: str, port: str, wrong: Impairment) -> None:
        """Make the wire into a port lose, corrupt or swallow frames; ``Impairment()`` ends it."""
        self.rewire(node, port, wire_words(wrong))

    def wire(self, node: str, port: str) -> Mapping[str, int]:
        """What is wrong with the wire into a port now, as `rewire` takes it. Raises NotReady."""
        size, number = sizeof(abi.Impairment), self.port(node, port).number
        found = read_maps(place.maps(self.lab), {"impairments": size})["impairments"]
        wire = abi.Impairment.from_buffer_copy(found, number * size)
        return {name: int(getattr(wire, name)) for name in WIRE_WORDS}

    def rewire(self, node: str, port: str, words: Mapping[str, int]) -> None:
        """Set what is wrong with the wire into a port, in asicd's own words. Raises NotReady."""
        told = {"port": self.port(node, port).number, **words}
        tell(self.lab, ["impair " + " ".join(f"{name}={value}" for name, value in told.items())])

    def rate(self, node: str, port: str) -> int:
        """At which rate a port sends now, in bit/s. Raises NotReady."""
        return int(self._states()[self.port(node, port).number].rate_bps)

    def turn(self, rates: Mapping[tuple[str, str], int]) -> None:
        """Turn ports to other rates, in bit/s by (node, port); their profiles stay. Raises NotReady."""
        states = self._states()
        numbers = {self.port(*where).number: rate_bps for where, rate_bps in rates.items()}
        tell(self.lab, [f"apply port={n} profile={states[n].profile} rate={bps}" for n, bps in numbers.items()])

    def recable(self, cables: Iterable[tuple[tuple[str, str], tuple[str, str]]]) -> None:
        """Say which ports are joined now, each as (node, port): whom a port pauses, whose queue a frame has left.

        To be said while the cables have no carrier. Raises NotReady.
        """
        numbers = [tuple(self.port(*end).number for end in ends) for ends in cables]
        tell(self.lab, [f"cable port={here} peer={there}" for a, b in numbers for here, there in ((a, b), (b, a))])

    def slow_receiver(
        self, host: str, port: str, drain_bps: int, *, xoff: int = 200_000, xon: int = 100_000, limit: int = 2_000_000
    ) -> None:
        """Let a host take packets at `drain_bps` (0: as they come), pausing the network above `xoff` bytes."""
        number = self.port(host, port).number
        tell(self.lab, [f"receiver port={number} drain={drain_bps} xoff={xoff} xon={xon} limit={limit}"])

    def leave(self, node: str) -> None:
        """Take everything off a node that is about to be stopped."""
        at = next(i for i, one in enumerate(self.plan.nodes) if one.name == node)
        tell(self.lab, [f"leave node={at}"])

    def refresh(self) -> None:
        """Attach again what a restarted node and its neighbours have lost."""
        tell(self.lab, ["refresh"])


def plan_of(profile: Profile, fabric: Fabric, seed: int, rates: Mapping[str, int] | None = None) -> LabPlan:
    """The plan of a lab: its chances derive from the lab's one seed."""
    return plan(profile, fabric, rates=rates, seed=seed)


def attach(
    lab: str,
    fabric: Fabric,
    profile: Profile,
    places: Mapping[str, Place],
    *,
    run_dir: Path,
    seed: int,
    journal: Journal,
    own_ports: bool,
) -> SoftAsic:
    """Start asicd for a lab and attach it to every port of every node in `places`.

    `own_ports`: the ports are the lab's own, and go when it goes down. False: they live on, as they were before.
    The lab's lock and a `lease.changing` are the caller's. Raises DeployFailed with asicd's own words; what was made by
    then is in the journal.
    """
    wanted = plan_of(profile, fabric, seed)
    _keep(run_dir, profile)
    journal.will(*(Change("sysctl", {"key": key}) for key in BACKLOG))
    journal.will(Change("expedited", {}))
    sysctl.want(lab, BACKLOG)
    _start(lab, wanted, run_dir, journal, own_ports=own_ports)
    try:
        tell(lab, _lines(wanted, places))
    except NotReady as refused:
        raise DeployFailed(f"the soft ASIC could not be attached: {refused.message}") from None
    return SoftAsic(lab, fabric, run_dir, seed)


def _start(lab: str, wanted: LabPlan, run_dir: Path, journal: Journal, *, own_ports: bool) -> None:
    folder, token = place.folder(lab), f"{lab}:{secrets.token_hex(16)}"
    binary = place.native() / "asicd"
    made = {"folder": str(folder), "token": token, "asicd": str(binary), "own_ports": own_ports}
    entry = journal.will(Change("soft-asic", made))[0]
    folder.mkdir(parents=True, exist_ok=True)
    argv = [str(binary), "--folder", str(folder), "--objects", str(binary.parent), *_sizes(lab, wanted)]
    argv += ["--own-ports"] if own_ports else []
    argv += _hook()
    log = write(run_dir, "logs/asicd.log", "")
    with log.open("a") as errors:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, TOKEN_VARIABLE: token},
            cwd="/",
            start_new_session=True,
            text=True,
        )
    journal.learned(entry, identity(child.pid))
    said = child.stdout.readline().strip() if child.stdout else ""
    if child.stdout:
        child.stdout.close()
    if said != "ready":
        child.wait(ANSWER_WITHIN_S)
        last = log.read_text().strip().splitlines()[-3:]
        raise DeployFailed(
            f"asicd did not start: {said or 'no word'} {' / '.join(last)}".strip(), remedy="railbed doctor"
        )
    child.returncode = 0  # it is nobody's child to wait for from here on


def _hook() -> list[str]:
    """How the programs are to hang on their ports, as asicd takes it. Raises SpecError for what it cannot do."""
    asked = os.environ.get(HOOK, "")
    if asked not in HOOKS:
        raise SpecError(f"{HOOK}={asked}", allowed="cls_bpf, or tcx, where the kernel has it: its default")
    return HOOKS[asked]


def _ended(lab: str) -> bool:
    """Whether nobody listens at asicd's socket: the kernel refuses who calls a process that is gone."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_WITHIN_S)
            client.connect(str(place.folder(lab) / "control"))
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False
    return False


def _outlives(lab: str) -> bool:
    """Whether the programs stay on their ports without an asicd; it wrote that down (release.c)."""
    try:
        return (place.folder(lab) / "ports").read_text().startswith("1")
    except OSError:
        return False


def _sizes(lab: str, wanted: LabPlan) -> list[str]:
    stamp = 1 + derived_seed(0, f"stamp/{lab}") % (2**13 - 1)
    sizes = {
        "ports": len(wanted.ports),
        "nodes": len(wanted.nodes),
        "profiles": profile_slots(wanted),
        "pools": wanted.pool_places,
        "matrix": max(1, wanted.matrix_words),
        "stamp": stamp,
        "groups": wanted.groups + 1,  # the first row is nobody's
    }
    return [word for name, size in sizes.items() for word in (f"--{name}", str(size))]


def _pool_lines(wanted: LabPlan) -> Iterable[str]:
    for at, pool in wanted.pools.items():
        yield f"pool at={at} size={pool.size} xoff={pool.headroom}"


def _lines(wanted: LabPlan, places: Mapping[str, Place]) -> list[str]:
    """What asicd is told to attach a plan."""
    lines = [*_pool_lines(wanted), *empty_slots(wanted).lines]
    for at, node in enumerate(wanted.nodes):
        first = node.ports[0].number if node.ports else 1
        lines.append(f"node at={at} netns={places[node.name].netns} first={first} count={len(node.ports)}")
    for at, node in enumerate(wanted.nodes):
        lines += [_port_line(at, port, places[node.name].netdevs[port.name]) for port in node.ports]
    return [*lines, "attach"]


def _port_line(node: int, port: PortPlan, netdev: str) -> str:
    return (
        f"port at={port.number} name={netdev} node={node} peer={port.peer} rate={port.rate_bps} "
        f"profile={port.profile} local={port.local} matrix={port.matrix} pools={port.pools} "
        f"host={int(port.kind)} seed={port.seed}"
    )


def tell(lab: str, lines: Sequence[str]) -> list[Mapping[str, str]]:
    """Give asicd commands, one line each; returns what it answers, name by name.

    Raises NotReady when it is not there, or with its words at the first command that it refuses.
    """
    answers: list[Mapping[str, str]] = []
    path = place.folder(lab) / "control"
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_WITHIN_S)
            client.connect(str(path))
            with client.makefile("rw") as stream:
                for line in lines:
                    stream.write(line + "\n")
                    stream.flush()
                    answer = stream.readline().strip()
                    verdict, _, rest = answer.partition(" ")
                    if verdict != "ok":
                        raise NotReady(f"asicd: {rest or 'it went away'}")
                    answers.append(dict(word.split("=", 1) for word in rest.split()))
    except OSError as error:
        raise NotReady(
            f"asicd of lab {lab!r} does not answer: {error.strerror or error}",
            remedy=f"railbed down {lab}, then up: what it played is off, and every gate is open",
        ) from None
    return answers


def _keep(run_dir: Path, profile: Profile) -> None:
    """Who reads meanwhile finds the old file or the new one."""
    folder, name = run_dir / PROFILE_FOLDER, f"{profile.name}.json"
    draft = write(run_dir, f"{PROFILE_FOLDER}/{name}.new", json.dumps(profile.tables, indent=2) + "\n")
    draft.replace(folder / name)
    for old in folder.glob("*.json"):
        if old.name != name:
            old.unlink()
