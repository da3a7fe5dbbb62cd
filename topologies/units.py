"""Units as constants, so that a number always stands beside its unit: ``within=5 * SECOND``."""

from __future__ import annotations

SECOND = 1.0
MILLISECOND = 1e-3
MICROSECOND = 1e-6

KIB = 1024
MIB = 1024**2
GIB = 1024**3

KBIT = 1_000
MBIT = 1_000_000
GBIT = 1_000_000_000
