"""What a fault is: a row of the catalogue, and the steps that it takes on a running lab.

A step is one change with its exact undo, as plain data. All undos of a fault are in the journal before the first step
is made; `labs.faults.undoing` has the verbs that carry them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from labs.errors import SpecError
from labs.kinds import driver
from labs.lab import Lab
from labs.node import LiveNode
from topologies.fabric import Fabric, Link, Port

REQUIRED: Any = object()


class On(StrEnum):
    """What a fault can be aimed at."""

    LINK = "link"  # leaf1:spine1
    NODE = "node"
    SWITCH = "switch"
    HOST = "host"
    LAB = "lab"  # the whole lab: no target


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a fault, given as text on the command line.

    Numbers lie between `least` and `most`, words are among `choices` where there are any. `unit` is for people.
    """

    name: str
    means: str
    default: Any = REQUIRED
    kind: type[int | float | str] = str
    least: float = 0
    most: float = float("inf")
    choices: tuple[str, ...] = ()
    unit: str = ""

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return " | ".join(self.choices)
        if self.kind is str:
            return self.means
        whole = "a whole number" if self.kind is int else "a number"
        upper = f" to {self.most:g}" if self.most < float("inf") else " or more"
        return f"{whole}, {self.least:g}{upper}{f' {self.unit}' if self.unit else ''}"

    def read(self, value: object) -> Any:
        """The value, checked. Raises SpecError."""
        found = f"{self.name}={value}"
        if self.kind is str:
            text = str(value)
            if self.choices and text not in self.choices:
                raise SpecError(found, allowed=self.allowed)
            return text
        try:
            number = int(str(value)) if self.kind is int else float(str(value))
        except ValueError:
            raise SpecError(found, allowed=self.allowed) from None
        if not self.least <= number <= self.most:  # not for nan either
            raise SpecError(found, allowed=self.allowed)
        return number


@dataclass(frozen=True, slots=True)
class Example:
    """A fault as it can be made on ``clos_2x4`` (or on the lab file that is named): for tests, and for people to try.

    `needs` names the traffic that must run for it: ``""``, or ``rnic`` for a collective over RoCE connections.
    """

    target: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    sender: str | None = None
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a fault.

    `undo` names the verb that takes it back and `args` what that needs, as JSON; both whether or not `make` came to it.
    `claims` is what the step takes for itself, as a path: ``leaf1/eth1/wire``. Nobody else may fault that, nor
    anything above or below it, until it is given back.
    """

    undo: str
    args: Mapping[str, Any]
    make: Callable[[], None]
    claims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a fault is to be made: what its target and parameters name in a running lab.

    `ports` are the link's ends that the fault acts on: both, or the receiving one where a `sender` was named.
    """

    lab: Lab
    target: str
    params: Mapping[str, Any]
    link: Link | None = None
    sender: str | None = None
    ports: tuple[Port, ...] = ()
    live: LiveNode | None = None

    @property
    def node(self) -> LiveNode:
        """The node that was named; only of a fault on nodes."""
        if self.live is None:
            raise SpecError(f"target {self.target}", allowed="a node")
        return self.live

    @property
    def cable(self) -> Link:
        """The link that was named; only of a fault on links."""
        if self.link is None:
            raise SpecError(f"target {self.target}", allowed="a link")
        return self.link

    def netdev(self, port: Port) -> str:
        """The network device behind a port."""
        node = self.lab.node(port.node)
        return driver(node.kind).netdev(node, port.name)


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the catalogue.

    `one_way` says whether a link's direction may be named by its sender. `steps` asks the lab what it needs to know and
    changes nothing; it raises SpecError for a target it does not fit, CapabilityMissing for one that cannot do it.
    """

    name: str
    on: On
    imitates: str
    detected_by: str
    recovers: str
    steps: Callable[[Site], Sequence[Step]]
    params: tuple[Param, ...] = ()
    one_way: bool = False
    lasts: bool = field(default=True)
    """False for what is over as soon as it is made: nothing stays to be undone, as with the reset of a session."""

    @property
    def targets(self) -> str:
        """What it can be aimed at, in words."""
        if self.on is On.LINK and self.one_way:
            return "link, or one direction of it (--from NODE)"
        return str(self.on)

    def as_dict(self) -> dict[str, object]:
        """The row for ``fault list --format json``."""
        return {
            "name": self.name,
            "targets": self.targets,
            "params": [
                {
                    "name": one.name,
                    "means": one.means,
                    "allowed": one.allowed,
                    "default": None if one.default is REQUIRED else one.default,
                    "required": one.default is REQUIRED,
                }
                for one in self.params
            ],
            "imitates": self.imitates,
            "detected_by": self.detected_by,
            "recovers": self.recovers,
        }

    def read_params(self, given: Mapping[str, object]) -> Mapping[str, Any]:
        """The parameters, checked and with their defaults. Raises SpecError."""
        known = {one.name: one for one in self.params}
        for name in given:
            if name not in known:
                raise SpecError(f"{self.name}: parameter {name!r}", allowed=", ".join(known) or "no parameters")
        read = {}
        for name, one in known.items():
            if name in given:
                read[name] = one.read(given[name])
            elif one.default is REQUIRED:
                raise SpecError(f"{self.name}: no {name}", allowed=f"{name}: {one.allowed}")
            else:
                read[name] = one.default
        return read


def locate(lab: Lab, fault: Fault, target: str, given: Mapping[str, object], sender: str | None = None) -> Site:
    """What a target and parameters name in a lab. Raises SpecError that says what is allowed."""
    params = fault.read_params(given)
    check_sender(fault, target, sender, lab.fabric)
    check_target(fault, target, lab.fabric)
    if fault.on is On.LAB:
        return Site(lab, "", params)
    if fault.on is On.LINK:
        link = lab.fabric.link(target)
        ports = link.ends if sender is None else (link.far(sender),)
        return Site(lab, str(link), params, link=link, sender=sender, ports=ports)
    live = lab.node(target)
    return Site(lab, live.name, params, live=live)


def check_target(fault: Fault, target: str, fabric: Fabric) -> None:
    """Refuse a target that a fabric does not have, or that this fault is not for. Raises SpecError."""
    if fault.on is On.LAB:
        if target:
            raise SpecError(f"{fault.name}: target {target!r}", allowed="none: it is on the whole lab")
        return
    if not target:
        raise SpecError(f"{fault.name}: no target", allowed=f"a {fault.on}")
    if fault.on is On.LINK:
        fabric.link(target)
        return
    node = fabric.node(target)
    wanted = {On.SWITCH: node.is_switch, On.HOST: not node.is_switch}.get(fault.on, True)
    if not wanted:
        names = (one.name for one in (fabric.switches if fault.on is On.SWITCH else fabric.hosts))
        raise SpecError(f"{fault.name}: {target} is no {fault.on}", allowed=some(names))


def check_sender(fault: Fault, target: str, sender: str | None, fabric: Fabric) -> None:
    """Refuse a direction that a fault or a link does not have. Raises SpecError."""
    if sender is None:
        return
    if not fault.one_way:
        raise SpecError(
            f"{fault.name} --from {sender}", allowed=f"a fault with directions; this one is on a {fault.on}"
        )
    ends = [port.node for port in fabric.link(target).ends] if target else []
    if target and sender not in ends:
        raise SpecError(f"--from {sender}", allowed=" | ".join(ends))


def clash(wanted: Iterable[str], taken: Iterable[str]) -> str | None:
    """The first claim of `wanted` that meets one of `taken`: the same, above it or below it."""
    held = tuple(taken)
    for one in wanted:
        for other in held:
            if one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/"):
                return one
    return None


def some(names: Iterable[str], most: int = 12) -> str:
    """The first few of many names, for a message."""
    listed = list(names)
    return ", ".join(listed[:most]) + (" …" if len(listed) > most else "")
