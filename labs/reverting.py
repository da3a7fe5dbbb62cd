"""Takes one fault back, in a process of its own that the Recorder starts a moment before it is due.

    python -m labs.reverting LAB ID

It makes itself ready, then waits for a line on standard input: that is when it acts. At the end of input without a
line, somebody else took the fault back, or the Recorder is gone, and nothing is done. Exits 1 with the reason on
standard error when it could not.
"""

from __future__ import annotations

import sys

from labs.errors import RailbedError
from labs.fault_ending import BY
from labs.faults import injecting
from labs.lab import reach_lab


def main(lab_name: str, fault_id: str) -> int:
    """Wait for the word, then revert."""
    try:
        lab = reach_lab(lab_name)
        if sys.stdin.readline():
            injecting.revert(lab, fault_id, by=BY, missing_ok=True)
    except (RailbedError, OSError) as error:
        sys.stderr.write(str(error).splitlines()[0] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
