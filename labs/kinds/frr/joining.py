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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from labs.channel import Channel
from labs.errors import NotReady
from labs.kinds.frr.vty import SOCKETS, Vty

CONF = PurePosixPath("/etc/frr/frr.conf")
# Those whose answers later ones build on come first: addresses, then routes, then who speaks over them.
ORDER = ("zebra", "staticd", "bgpd")
# What vtysh does before and after the lines of a file; daemons of another age need not know all of it.
BEFORE = ("enable", "configure terminal", "XFRR_start_configuration")
AFTER = ("XFRR_end_configuration", "end", "disable")
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
    """Raises NotReady for a line that no daemon takes, and for a daemon that does not answer."""
    taken: set[int] = set()
    refused: dict[int, str] = {}
    for daemon in daemons:
        try:
            with ExitStack() as stack:
                vty = stack.enter_context(Vty(folder / f"{daemon}.vty"))
                vty.told(BEFORE)
                _give_lines(vty, lines, taken, refused)
                vty.told(AFTER)
        except OSError as error:
            raise NotReady(f"{daemon} takes no configuration: {error}") from None
    for line in _all(lines):
        if line.number not in taken:
            because = refused.get(line.number) or "its section is refused"
            raise NotReady(f"frr.conf, line {line.number}: no daemon takes {line.text!r}: {because}")


def _give_lines(vty: Vty, lines: Sequence[Line], taken: set[int], refused: dict[int, str]) -> None:
    """What has no section goes together, as nothing depends on whether it is taken."""
    plain: list[Line] = []

    def give_plain() -> None:
        for line, answer in zip(plain, vty.told([line.text for line in plain]), strict=True):
            _note(line, answer.ok, answer.text, taken, refused)
        plain.clear()

    for line in lines:
        if not (line.inside or line.end):
            plain.append(line)
            continue
        give_plain()
        (answer,) = vty.told([line.text])
        _note(line, answer.ok, answer.text, taken, refused)
        if answer.ok:
            _give_lines(vty, line.inside, taken, refused)
            vty.told([line.end or "exit"])
    give_plain()


def _note(line: Line, ok: bool, said: str, taken: set[int], refused: dict[int, str]) -> None:
    if ok:
        taken.add(line.number)
    else:
        refused[line.number] = said.strip() or "it is unknown"


def _all(lines: Sequence[Line]) -> Iterator[Line]:
    for line in lines:
        yield line
        yield from _all(line.inside)


JOINING = FrrJoining()
