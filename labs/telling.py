"""Telling a lab's Recorder what happened, for its timeline; from any process, in microseconds.

A Recorder that is not there is no error: what matters is in the journal as well.
"""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import msgspec

from labs import index
from labs.telemetry.records import Record

SOCKET = "recorder.sock"


def address(lab: str) -> Path:
    """Where a lab's Recorder listens, for datagrams of one JSON line a record."""
    return index.lab_dir(lab) / SOCKET


def tell(lab: str, *records: Record) -> bool:
    """Send records to a lab's Recorder; False when none listens, or it has no room."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as out:
        out.setblocking(False)
        try:
            out.connect(str(address(lab)))
            for record in records:
                out.send(msgspec.json.encode(record))
        except OSError:
            return False
    return True
