"""Gives a switch its frr.conf as vtysh does, over the daemons' own sockets.

``vtysh -b`` builds the command tree of all of FRR to learn which daemon takes which line, 60 to 90 ms of CPU a switch.
Here the daemons say so: a line goes to each of them, and who does not know it is not meant.

Two things are left to vtysh. FRR's mgmtd (from FRR 9 on) and the daemons it speaks for take their configuration from
nobody else. And where all switches join in the same moment, BFD's sessions are up just before BGP's: FRR 8.4 then makes
each of them anew, as BGP knows the interface now, and takes the end of the old one for a failure, so that every BGP
session goes down once and comes back two seconds later. vtysh is slow enough for BGP to be first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from labs.channel import Channel
from labs.errors import NotReady
from labs.kinds.frr.vty import SOCKETS, Answer, Vty

CONF = PurePosixPath("/etc/frr/frr.conf")
# Those whose answers later ones build on come first: addresses, then routes, then who speaks over them.
ORDER = ("zebra", "staticd", "bgpd")
# What vtysh does before and after the lines of a file; daemons of another age need not know all of it.
START, END = "XFRR_start_configuration", "XFRR_end_configuration"
BEFORE = ("enable", "configure terminal", START)
AFTER = (END, "end", "disable")
# What a daemon says of lines that it had noted and could not commit, in the answer to a later one.
FAILED = "% Configuration failed"
# A tenth of a second, and room for a workstation that does much else; for one daemon.
JOINED_WITHIN = 60.0
# Lines for vtysh alone.
VTYSH_ONLY = frozenset({"service integrated-vtysh-config", "end"})


@dataclass
class Line:
    """A line of a file, what stands in its section, and the line that ends that."""

    number: int
    text: str
    depth: int
    inside: list[Line] = field(default_factory=list)
    end: str = ""


class FrrJoining:
    """See labs.kinds.base.Joining."""

    def join(self, channel: Channel, files: Mapping[PurePosixPath, str]) -> bool:
        """See Joining."""
        folder = channel.unix_socket(SOCKETS)
        found = {path.stem for path in folder.glob("*.vty")} if folder else set()
        if folder is None or not found or not found <= set(ORDER):
            return False
        _give(folder, [name for name in ORDER if name in found], parse(files[CONF]))
        return True


def parse(conf: str) -> list[Line]:
    """The lines of an frr.conf as FRR writes one: a section's are indented, and a line ``exit…`` ends it."""
    top: list[Line] = []
    open_: list[Line] = []
    for number, raw in enumerate(conf.splitlines(), start=1):
        text = raw.strip()
        if not text or text.startswith("!") or text in VTYSH_ONLY:
            continue
        depth = len(raw) - len(raw.lstrip())
        while open_ and open_[-1].depth > depth:
            open_.pop()
        if text.startswith("exit") and open_ and open_[-1].depth == depth:
            open_.pop().end = text
            continue
        if open_ and open_[-1].depth == depth:
            open_.pop()
        line = Line(number, text, depth)
        (open_[-1].inside if open_ else top).append(line)
        open_.append(line)
    return top


def _give(folder: Path, daemons: Sequence[str], lines: list[Line]) -> None:
    """Raises NotReady for a line that a daemon refuses or none knows, and for a daemon that does not answer."""
    taken: set[int] = set()
    for daemon in daemons:
        try:
            with Vty(folder / f"{daemon}.vty", within=JOINED_WITHIN) as vty:
                for what, answer in zip(BEFORE, vty.told(BEFORE), strict=True):
                    _check(daemon, what, answer, may_lack=what == START)
                _give_lines(daemon, vty, lines, taken)
                # The first of these commits what lines have only been noted for so far.
                for what, answer in zip(AFTER, vty.told(AFTER), strict=True):
                    _check(daemon, what, answer, may_lack=what == END)
        except OSError as error:
            raise NotReady(f"{daemon} takes no configuration within {JOINED_WITHIN:g} s: {error}") from None
    for line in _all(lines):
        if line.number not in taken:
            raise NotReady(f"frr.conf, line {line.number}: none of {', '.join(daemons)} knows {line.text!r}")


def _give_lines(daemon: str, vty: Vty, lines: Sequence[Line], taken: set[int]) -> None:
    """What has no section goes together, as nothing depends on whether it is known."""
    plain: list[Line] = []

    def give(some: Sequence[Line]) -> bool:
        answers = vty.told([line.text for line in some])
        for line, answer in zip(some, answers, strict=True):
            if _check(daemon, f"frr.conf, line {line.number}, {line.text!r}", answer, may_lack=True):
                taken.add(line.number)
        return all(answer.ok for answer in answers)

    for line in lines:
        if not (line.inside or line.end):
            plain.append(line)
            continue
        give(plain)
        plain.clear()
        if give([line]):
            _give_lines(daemon, vty, line.inside, taken)
            end = line.end or "exit"
            _check(daemon, f"the end of {line.text!r}, {end!r}", vty.told([end])[0], may_lack=False)
    give(plain)


def _check(daemon: str, what: str, answer: Answer, *, may_lack: bool) -> bool:
    """Whether the daemon knows what it was told. Raises NotReady for one that refuses it."""
    if answer.ok and FAILED not in answer.text:
        return True
    if answer.unknown and may_lack:
        return False
    raise NotReady(f"{daemon} refuses {what}: {answer.text.strip() or f'status {answer.status}'}")


def _all(lines: Sequence[Line]) -> Iterator[Line]:
    for line in lines:
        yield line
        yield from _all(line.inside)


JOINING = FrrJoining()
