"""Programs that engines run on hosts, standard library only: their text travels as an argument of ``python3 -c``.

Nothing is written on the host, so nothing is left there, whatever ends the run.
"""

from __future__ import annotations

from importlib.resources import files

# -I: no environment, no user packages; -S: no site packages; -B: no byte code written.
PYTHON = ("python3", "-I", "-S", "-B", "-c")


def program(name: str) -> tuple[str, ...]:
    """The argv that runs ``name.py`` of this folder; its own arguments follow."""
    return (*PYTHON, files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8"))
