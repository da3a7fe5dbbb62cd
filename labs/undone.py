"""What a bring-up that fails leaves: nothing, and one message."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from labs import index, reaper
from labs.errors import DeployFailed, LabError


@contextmanager
def in_words() -> Iterator[None]:
    """Say in one message that a file could not be written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = error.filename or index.state_dir()
        remedy = "make room on that disk" if error.errno == errno.ENOSPC else ""
        raise DeployFailed(f"{where} cannot be written: {error.strerror}", remedy=remedy) from None


@contextmanager
def undone_on_failure(name: str) -> Iterator[None]:
    """Undo what was made when the block does not come to its end, for whatever reason."""
    try:
        yield
    except BaseException as failed:
        try:
            reaper.destroy(name)
        except LabError as stuck:  # what stands in the way of undoing is what the user has to see to first
            if not isinstance(failed, LabError):
                raise
            remedy = stuck.remedy if "reap" in stuck.remedy else f"{stuck.remedy}, then: railbed reap"
            why = "" if stuck.message in failed.message else f": {stuck.message}"
            raise type(failed)(f"{failed.message}; not all of it could be undone{why}", remedy=remedy) from None
        raise
