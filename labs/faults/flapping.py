"""A port that flaps: the process behind the fault ``flap``.

    python -m labs.faults.flapping PERIOD_S DOWN_S COUNT NETNS=NETDEV...

Every PERIOD_S its ports are set down for DOWN_S: the far end loses its carrier each time. COUNT 0 is without end. It
keeps to a schedule, so that lateness does not add up. It imports nearly nothing: it starts at once.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from labs import kernel


def main(period_s: str, down_s: str, flaps: str, *ports: str) -> None:
    """Flap until COUNT is reached or until we are ended. A port that is not there at its time is there again later."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    where = [(Path(netns), netdev) for netns, _, netdev in (port.rpartition("=") for port in ports)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    began = time.monotonic()
    for after_s, up in schedule(float(period_s), float(down_s), int(flaps)):
        if _ended_before(began + after_s):
            return
        turn(where, up=up)


def schedule(period_s: float, down_s: float, flaps: int) -> Iterator[tuple[float, bool]]:
    """When, in seconds from the beginning, ports are set down and up again."""
    for at in range(flaps) if flaps else count():
        yield at * period_s, False
        yield at * period_s + down_s, True


def turn(ports: Sequence[tuple[Path, str]], *, up: bool) -> None:
    """Set ports up or down."""
    for netns, netdev in ports:
        try:
            with kernel.inside_netns(netns):
                kernel.set_link(netdev, up=up)
        except OSError as error:  # the node is stopped
            sys.stderr.write(f"{netns} {netdev}: {error}\n")


def _ended_before(when: float) -> bool:
    """Wait until `when`; True when we are asked to end before."""
    left = when - time.monotonic()
    return signal.sigtimedwait({signal.SIGTERM}, max(0.0, left)) is not None


if __name__ == "__main__":
    main(*sys.argv[1:])
