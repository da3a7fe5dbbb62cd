"""``railbed adopt``: take a containerlab lab that runs already for one of ours, until ``railbed down`` lets it go.

Nothing of the lab is changed. The index gets a record, and a run directory holds what was read.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labs import index, lease, reaper, run_dir
from labs.backends import workstation
from labs.backends.base import Progress
from labs.backends.foreign import ForeignBackend
from labs.errors import LeftoverLab
from labs.foreign.reading import TOPOLOGY, containers_of
from labs.foreign.topology import check_name
from labs.foreign_lab import adopted
from labs.index import Stage
from labs.journal import Change
from labs.lab import CONVERGE_WITHIN, Lab, adopt_lab, enter, keep
from labs.request import SEEDS

OURS = "railbed-token"  # that of a lab that `up` has made; a rendered folder deployed by hand has none


def adopt_foreign(
    name: str,
    *,
    folder: Path | None = None,
    wait: bool = True,
    within: float = CONVERGE_WITHIN,
    progress: Progress = lambda _: None,
    before_commit: Callable[[Lab], None] = lambda _: None,
) -> Lab:
    """Read a running lab and enter it into the index; `before_commit` gets it just before it counts as ours.

    Raises LabNotFound (containerlab runs no such lab), LeftoverLab (it is ours, or adopted, already), NotReady.
    """
    check_name(name)
    workstation.check_root("entering a lab's network namespaces")
    with index.locked(name):
        _check_free(name)
        boxes = containers_of(name)
        one = next(iter(boxes.values()))
        if OURS in one.labels:
            raise LeftoverLab(f"lab {name!r} is railbed's own, left behind", remedy="railbed reap")
        progress("reading the lab")
        rendered = adopted(name, boxes, one.labels.get(TOPOLOGY, ""), secrets.randbelow(SEEDS))
        run_path = run_dir.choose(name, folder)
        with lease.changing(name, "adopt"), _forgotten_on_failure(name):
            enter(rendered, ForeignBackend.name, run_path)
            journal = index.journal(name)
            token = f"{name}:{secrets.token_hex(8)}"
            _, processes = journal.will(Change("adopted", {"lab": name}), Change("process", {"token": token}))
            deployment = ForeignBackend().adopt(rendered, run_path, journal)
            deployment.record(processes)
            lab = Lab(rendered, ForeignBackend.name, deployment, run_path)
            lab.converged = lab.wait_converged(within, progress) if wait else None
            keep(lab)
            before_commit(lab)
            index.move_to(name, Stage.UP)
            return lab


@contextmanager
def _forgotten_on_failure(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        reaper.destroy(name)
        raise


def _check_free(name: str) -> None:
    """Raise LeftoverLab for a lab that is in the index; what a crash left of an adoption is forgotten."""
    if name not in index.names():
        return
    if reaper.abandoned(name):
        raise LeftoverLab(f"lab {name!r} is a leftover: {reaper.abandoned(name)}", remedy="railbed reap")
    lab = adopt_lab(name)
    if lab.rendered.foreign is not None and lab.rendered.foreign.adopted:
        raise LeftoverLab(f"lab {name!r} is adopted already", remedy=f"railbed status {name}, or railbed down {name}")
    raise LeftoverLab(f"lab {name!r} is railbed's own already", remedy=f"railbed status {name}")
