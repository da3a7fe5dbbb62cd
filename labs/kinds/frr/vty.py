"""Asks one FRR daemon one question: over its own vty socket where we can reach it, else by vtysh.

vtysh builds the command tree of all of FRR each time it starts, some 40 ms of CPU; a fabric of 64 switches is asked
by the hundred. The protocol is vtysh's own (lib/vty.c, vtysh/vtysh.c): a command ends with a zero byte, its answer
with three and a status byte.
"""

from __future__ import annotations

import socket
from pathlib import PurePosixPath

from labs.node import LiveNode

SOCKETS = PurePosixPath("/run/frr")
ANSWERS_WITHIN = 10.0
_END = b"\0\0\0"


def ask(node: LiveNode, daemon: str, command: str) -> str:
    """What the daemon answers, or the reason it does not: the caller knows an answer when it sees one."""
    path = node.channel.unix_socket(SOCKETS / f"{daemon}.vty")
    if path is None:
        said = node.channel.run("vtysh", "-d", daemon, "-c", command)
        return said.stdout if said.ok else said.stderr or said.stdout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as vty:
            vty.settimeout(ANSWERS_WITHIN)
            vty.connect(str(path))
            _exchange(vty, "enable")
            return _exchange(vty, command)
    except OSError as error:
        return f"{daemon}: {error}"


def _exchange(vty: socket.socket, command: str) -> str:
    vty.sendall(command.encode() + b"\0")
    answer = bytearray()
    while answer[-4:-1] != _END:
        chunk = vty.recv(65536)
        if not chunk:
            raise ConnectionError("closed its socket in the middle of an answer")
        answer += chunk
    return answer[:-4].decode(errors="replace")
