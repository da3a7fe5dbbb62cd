"""Wait on a host until its sockets are as asked, or the time is up.

    python3 - SECONDS listening PORT…                 every TCP port is listened on
    python3 - SECONDS begun TRANSPORT/PORT/STREAMS…   on every port a test has begun, or is over already

Writes the ones that are not as asked, as a JSON list, and always exits 0.

An iperf3 server that serves one test (``-1``) has begun it when it holds the test's connections beside the control
connection, and is over when nobody listens on its port any more.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

LISTEN, ESTABLISHED = "0A", "01"
# This program runs where railbed's one polling loop is not: reading the tables costs some 0.1 ms.
PAUSE_S = 0.005


def sockets(transport: str) -> dict[tuple[int, str], int]:
    """(local port, state) to how many there are, IPv4 and IPv6."""
    found: dict[tuple[int, str], int] = {}
    for family in ("", "6"):
        try:
            lines = Path(f"/proc/net/{transport}{family}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6 here
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            key = (int(local.rpartition(":")[2], 16), state)
            found[key] = found.get(key, 0) + 1
    return found


def listening(wanted: str) -> bool:
    """True when somebody listens on TCP port `wanted`."""
    return (int(wanted), LISTEN) in sockets("tcp")


def begun(wanted: str) -> bool:
    """True when the test ``transport/port/streams`` has begun or is over."""
    transport, port, streams = wanted.split("/")
    tcp = sockets("tcp")
    if (int(port), LISTEN) not in tcp:
        return True
    if transport == "udp":
        return sockets("udp").get((int(port), ESTABLISHED), 0) >= int(streams)
    return tcp.get((int(port), ESTABLISHED), 0) > int(streams)


def main(seconds: str, what: str, *wanted: str) -> None:
    """Look until everything is as asked."""
    holds: Callable[[str], bool] = {"listening": listening, "begun": begun}[what]
    deadline = time.monotonic() + float(seconds)
    missing = [one for one in wanted if not holds(one)]
    while missing and time.monotonic() < deadline:
        select.select([], [], [], PAUSE_S)
        missing = [one for one in missing if not holds(one)]
    sys.stdout.write(json.dumps(missing))


if __name__ == "__main__":
    main(*sys.argv[1:])
