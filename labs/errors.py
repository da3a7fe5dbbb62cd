"""What can go wrong with a testbed, as opposed to with the fabric in it.

    RailbedError                    topologies/errors.py
    ├── SpecError                   a file or a value is wrong
    └── LabError                    the testbed is in trouble: exit 2, a pytest ERROR
        ├── PreflightFailed         this workstation cannot do what was asked: not root, no FRR, kernel too old
        ├── DeployFailed            the backend could not build the lab
        ├── NotReady                a node or a daemon does not answer
        ├── CommandFailed           a command in a node exited non-zero or ran out of time
        ├── CapabilityMissing       a stated capability is absent: the only road to a skip
        ├── LeftoverLab             the name is taken: by a running lab, or by what a crash left
        ├── LabNotFound             no lab of that name runs
        └── RunInvalid              the run cannot vouch for itself: exit 3, an ERROR marked so in JUnit

A fabric that misbehaves is none of these: it is a false `Verdict`.
"""

from __future__ import annotations

from collections.abc import Sequence

from topologies.errors import RailbedError, SpecError, Where

__all__ = [
    "CapabilityMissing",
    "CommandFailed",
    "DeployFailed",
    "LabError",
    "LabNotFound",
    "LeftoverLab",
    "NotReady",
    "PreflightFailed",
    "RailbedError",
    "RunInvalid",
    "SpecError",
    "Where",
]


class LabError(RailbedError):
    """Testbed trouble. `remedy` says what the user can do about it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}\n  remedy: {remedy}" if remedy else message)


class PreflightFailed(LabError):
    """This workstation cannot do what was asked; nothing was started."""


class DeployFailed(LabError):
    """The backend could not build the lab; what it had made is taken down again."""


class NotReady(LabError):
    """A node or daemon does not answer."""


class CommandFailed(LabError):
    """A command in a node exited non-zero or ran out of time.

    `status` is None when it ran out of time.
    """

    def __init__(self, node: str, argv: Sequence[str], status: int | None, output: str) -> None:
        self.node = node
        self.argv = tuple(argv)
        self.status = status
        self.output = output
        ended = "ran out of time" if status is None else f"exited {status}"
        tail = output.strip()[-600:]
        super().__init__(f"{node}: {' '.join(argv)}: {ended}" + (f": {tail}" if tail else ""))


class CapabilityMissing(LabError):
    """A stated capability is absent here. pytest turns it into a skip, `--lab-require` into an error."""

    def __init__(self, capability: str, because: str, *, remedy: str = "") -> None:
        self.capability = capability
        self.because = because
        super().__init__(f"capability {capability} is missing: {because}", remedy=remedy)


class LeftoverLab(LabError):
    """The lab's name is taken, by a lab that runs or by what a crash left behind."""


class LabNotFound(LabError):
    """No lab of that name runs."""


class RunInvalid(LabError):
    """The run cannot vouch for itself; its outcome is neither a pass nor a fail."""

    exit_code = 3
