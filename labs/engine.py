"""The Docker engine of this workstation: what railbed asks of it, and its errors in railbed's words.

The engine is the one at DOCKER_HOST, by default ``unix:///var/run/docker.sock``. Whatever is journaled about
containers names its engine, so that it is undone there whoever undoes it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labs.errors import DeployFailed, LabError, NotReady, PreflightFailed

if TYPE_CHECKING:  # half of what a command takes to start would be importing it
    import docker

DEFAULT = "unix:///var/run/docker.sock"
# An engine that does much else answers late; one that does not answer at all is noticed at once, by its socket.
ANSWERS_WITHIN = 60.0
HOW_TO_START = "sudo systemctl start docker   (without systemd: make setup-containerlab)"


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine lists it. `state` is its word: created, running, paused, restarting, exited, dead."""

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What the engine knows of one container. `pid` is that of its first process, 0 while it has none."""

    pid: int
    state: str
    exit_code: int


def address() -> str:
    """Where the engine answers. Raises PreflightFailed for one that is not on this workstation."""
    found = os.environ.get("DOCKER_HOST") or DEFAULT
    if not found.startswith("unix://"):
        raise PreflightFailed(
            f"the Docker engine at {found} is not this workstation's: links could not be attached to its containers",
            remedy="unset DOCKER_HOST, or set it to a unix socket of this workstation",
        )
    return found


def missing(at: str | None = None) -> str | None:
    """Why no engine answers; None when one does."""
    try:
        check(at)
    except LabError as error:
        return error.message
    return None


def check(at: str | None = None) -> None:
    """Raise NotReady or PreflightFailed, with what to do about it, unless an engine answers."""
    found = at or address()
    with asking(found):
        client(found).ping()


@cache
def client(at: str) -> docker.DockerClient:
    """The engine's client. Raises NotReady when it does not answer."""
    import docker as sdk

    socket = Path(at.removeprefix("unix://"))
    if not socket.exists():
        raise NotReady(f"no Docker engine answers: {socket} is not there", remedy=HOW_TO_START)
    with asking(at):
        return sdk.DockerClient(base_url=at, timeout=int(ANSWERS_WITHIN), max_pool_size=32)


# A child that asks over its parent's connections takes the answers to what the parent asks next.
os.register_at_fork(after_in_child=client.cache_clear)


@contextmanager
def asking(at: str) -> Iterator[None]:
    """Turn the engine's errors, for the length of a block, into ours.

    Raises DeployFailed for what it refuses, NotReady when it does not answer, PreflightFailed without the right to ask.
    """
    import docker as sdk
    import requests

    try:
        yield
    except sdk.errors.APIError as error:
        why = str(error.explanation or error)
        raise DeployFailed(f"the Docker engine says: {why}", remedy=remedy_for(why)) from None
    except (sdk.errors.DockerException, requests.RequestException, OSError) as error:
        if _is_denied(error):
            raise PreflightFailed(
                f"the Docker engine at {at} may not be used by user id {os.geteuid()}: permission denied on its socket",
                remedy="run railbed with sudo, or: make lab-up",
            ) from None
        why = _innermost(error)
        raise NotReady(f"the Docker engine at {at} does not answer ({why})", remedy=HOW_TO_START) from None


def remedy_for(said: str) -> str:
    """What a user can do about a refusal."""
    if "no space left" in said:
        return "make room on the disk (docker system df shows what the engine holds)"
    return ""


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of a chain of errors, in words."""
    for inner in _chain(error):
        if isinstance(inner, OSError) and inner.errno:
            return os.strerror(inner.errno)
    return str(error)[:200]


def _is_denied(error: BaseException) -> bool:
    return any(isinstance(inner, OSError) and inner.errno in {errno.EACCES, errno.EPERM} for inner in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, its arguments that are errors, and its causes: requests keeps what happened in any of them."""
    seen: list[BaseException] = [error]
    for one in seen:
        yield one
        inner = [*one.args, one.__cause__, one.__context__, getattr(one, "reason", None)]
        seen.extend(e for e in inner if isinstance(e, BaseException) and e not in seen)


def containers(labels: Mapping[str, str], at: str | None = None) -> tuple[Container, ...]:
    """Every container, running or not, that carries all of `labels`."""
    found = at or address()
    with asking(found):
        wanted = [f"{key}={value}" for key, value in labels.items()]
        listed = client(found).api.containers(all=True, filters={"label": wanted})
    return tuple(
        Container(one["Id"], one["Names"][0].lstrip("/") if one["Names"] else one["Id"], one["Image"], one["State"],
                  one["Labels"] or {})
        for one in listed
    )  # fmt: skip


def inspect(name: str, at: str | None = None) -> Inspected | None:
    """A container by name or id; None when there is none."""
    found = at or address()
    import docker as sdk

    with asking(found):
        try:
            said: dict[str, Any] = client(found).api.inspect_container(name)
        except sdk.errors.NotFound:
            return None
    state = said["State"]
    return Inspected(int(state["Pid"]), str(state["Status"]), int(state["ExitCode"]))


def last_words(name: str, at: str | None = None, lines: int = 5) -> str:
    """The end of what a container's first process has said."""
    found = at or address()
    with asking(found):
        text = client(found).api.logs(name, tail=lines, stdout=True, stderr=True)
    return bytes(text).decode(errors="replace").strip()


def remove_containers(which: Sequence[Container], at: str | None = None) -> None:
    """Remove containers, running or not, all at the same time; one that is gone already is fine."""
    from concurrent.futures import ThreadPoolExecutor

    import docker as sdk

    found = at or address()

    def remove(one: Container) -> None:
        with asking(found):
            try:
                client(found).api.remove_container(one.id, force=True, v=True)
            except sdk.errors.NotFound:
                return
            except sdk.errors.APIError as error:
                if "already in progress" not in str(error):
                    raise

    with ThreadPoolExecutor(8, thread_name_prefix="remove") as pool:
        list(pool.map(remove, which))


def pause(name: str, *, on: bool, at: str | None = None) -> None:
    """Freeze a container's processes, or let them go on."""
    found = at or address()
    with asking(found):
        (client(found).api.pause if on else client(found).api.unpause)(name)


def has_image(name: str) -> bool:
    """Whether the engine holds an image of that name."""
    import docker as sdk

    at = address()
    with asking(at):
        try:
            client(at).api.inspect_image(name)
        except sdk.errors.ImageNotFound:
            return False
    return True


def image_id(name: str) -> str:
    """The id of the image that a name stands for now. Raises DeployFailed when the engine holds none."""
    at = address()
    with asking(at):
        return str(client(at).api.inspect_image(name)["Id"])


def pull(name: str) -> None:
    """Fetch an image from its registry. Raises DeployFailed with the registry's reason."""
    at = address()
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    if "@" in name:
        repository, tag = name, ""
    with asking(at):
        said = client(at).api.pull(repository, tag=tag or None)
    if not has_image(name):  # an error in the middle of a transfer comes in an answer that begins well
        last = "".join(str(said).strip().splitlines()[-1:])
        raise DeployFailed(f"the Docker engine says: {last}", remedy=remedy_for(last))
