"""The root of railbed's error tree, and the one error that reading a design can give.

RailbedError
├── SpecError          a fabric, lab or scenario file (or a value) is wrong: says where and what is allowed
├── Unpredictable      the oracle does not hold for this fabric; labs turns it into CapabilityMissing("oracle", …)
└── LabError           labs/errors.py: everything that can go wrong with a testbed
"""

from __future__ import annotations

from dataclasses import dataclass


class RailbedError(Exception):
    """Anything railbed itself raises. `str()` of it is the one clear message a user sees."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file: `file` as the user named it, `line` from 1, `key` as a dotted path."""

    file: str = ""
    line: int | None = None
    key: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
        return f"{place}: {self.key}" if place and self.key else place or self.key


class SpecError(RailbedError):
    """A design is wrong. One message: where, what was found, what is allowed.

    Args:
        found: what is wrong, e.g. ``"spines is 0"``.
        allowed: what would be right, e.g. ``"an integer from 1 to 128"``.
        where: file, line and key, as far as they are known.
    """

    def __init__(self, found: str, *, allowed: str, where: Where | None = None) -> None:
        self.found = found
        self.allowed = allowed
        self.where = where or Where()
        place = str(self.where)
        super().__init__(f"{place + ': ' if place else ''}{found}; allowed: {allowed}")


class Unpredictable(RailbedError):
    """The oracle cannot say what this fabric, or this prefix of it, is to be routed like; `because` says why."""

    def __init__(self, because: str) -> None:
        self.because = because
        super().__init__(f"the oracle cannot predict this: {because}")
