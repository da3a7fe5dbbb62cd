"""Makes and boots the namespaces of nodes. A program of its own: run by labs/backends/netns.py, never imported.

    python3 -I -S -B netns_launch.py FOLDER_OF_THE_LABS_PACKAGE

It forks once per node, so it must be small and have one thread; the command that started it is neither. It reads
one request a line (JSON) and answers one line per node:

    {"do": "create", "nodes": [{"name", "netns", "sysctls"}]}
    {"do": "boot", "parallel": 4, "nodes": [{"name", "netns", "private", "binds", "files"}]}

`create` makes a network namespace and its name. `boot` gives it the rest of what a container has (processes,
mounts and host name of its own; `private` folders are empty and in memory; `binds` come from the workstation),
starts an init, sets interfaces up and runs /run/railbed/boot, which starts the node's software.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])
from labs import kernel

INIT = ("/usr/bin/catatonit", "-P")  # reaps orphans, as a container's init does; sleeps otherwise
PR_SET_PDEATHSIG = 1
NETNS_DIR = "/run/netns"
Request = dict[str, Any]  # one node of a request; JSON
Answer = dict[str, object]


def main() -> None:
    """Serve requests until the parent closes its end."""
    die_with_parent()
    os.umask(0o022)
    for line in sys.stdin:
        request = json.loads(line)
        answers = create(request["nodes"]) if request["do"] == "create" else boot(request["nodes"], request["parallel"])
        for answer in answers:
            print(json.dumps(answer), flush=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def create(nodes: list[Request]) -> Iterator[Answer]:
    """Name one new network namespace per node; settings that new interfaces inherit come first."""
    Path(NETNS_DIR).mkdir(parents=True, exist_ok=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    for node in nodes:
        path = f"{NETNS_DIR}/{node['netns']}"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o444))
        kernel.unshare(kernel.CLONE_NEWNET)
        kernel.mount("/proc/self/ns/net", path, "none", kernel.MS_BIND)
        write_sysctls(node["sysctls"])
        kernel.set_link("lo", up=True)
    kernel.setns(home, kernel.CLONE_NEWNET)
    yield {"created": len(nodes)}


def boot(nodes: list[Request], parallel: int) -> Iterator[Answer]:
    """Boot nodes, `parallel` at a time, each in a process of its own; answers come as they end."""
    waiting = [(node, os.open(f"{NETNS_DIR}/{node['netns']}", os.O_RDONLY)) for node in reversed(nodes)]
    leave_shared_mounts()
    under_way: dict[int, tuple[Request, int]] = {}
    while waiting or under_way:
        while waiting and len(under_way) < parallel:
            node, netns = waiting.pop()
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                boot_one(node, netns, writer)
            os.close(writer)
            os.close(netns)
            under_way[pid] = (node, reader)
        pid, _ = os.wait()
        node, reader = under_way.pop(pid)
        with os.fdopen(reader) as answer:
            yield {"name": node["name"], **json.loads(answer.read() or '{"error": "killed while booting"}')}


def leave_shared_mounts() -> None:
    """Go on in a mount namespace that holds no copies of namespaces' names: they would outlive their removal."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target = line.split()[1].replace("\\040", " ")
        if target.startswith(NETNS_DIR + "/"):
            kernel.detach(target)


def boot_one(node: Request, netns: int, answer: int) -> None:
    """The life of one node's boot process; never returns."""
    try:
        os.write(answer, json.dumps({"pid": enter_and_boot(node, netns)}).encode())
    except BootFailed as failed:
        os.write(answer, json.dumps({"error": str(failed)}).encode())
    except BaseException:  # noqa: BLE001 - whatever it is, it has to reach the parent as text
        os.write(answer, json.dumps({"error": traceback.format_exc()}).encode())
    os._exit(0)


class BootFailed(Exception):
    """The node's own boot file exited non-zero."""


def enter_and_boot(node: Request, netns: int) -> int:
    """Build the node's namespaces and start its software; returns the pid of its init, as the workstation counts."""
    die_with_parent()
    kernel.setns(netns, kernel.CLONE_NEWNET)
    os.close(netns)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID)
    build_mounts(node)
    os_sethostname(node["name"])
    init = start_init()
    for netdev in Path("/sys/class/net").iterdir():
        kernel.set_link(netdev.name, up=True)
    run_boot_file()
    return init


def build_mounts(node: Request) -> None:
    """Give the node folders of its own, its files, and a /sys that shows its interfaces."""
    binds = {target: os.open(source, os.O_PATH) for target, source in node["binds"].items()}
    for folder in node["private"]:
        kernel.mount("tmpfs", folder, "tmpfs", data="mode=755")
    for target, source in binds.items():
        Path(target).mkdir(parents=True, exist_ok=True)
        kernel.mount(f"/proc/self/fd/{source}", target, "none", kernel.MS_BIND)
        os.close(source)
    for path, text in node["files"].items():
        if not any(path.startswith(folder + "/") for folder in node["private"]):
            raise BootFailed(f"{path} is in none of the node's own folders ({', '.join(node['private'])})")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    kernel.mount("sysfs", "/sys", "sysfs")


def os_sethostname(name: str) -> None:
    """The node's own host name (its UTS namespace)."""
    encoded = name.encode()
    if ctypes.CDLL(None, use_errno=True).sethostname(encoded, len(encoded)) != 0:
        raise OSError(ctypes.get_errno(), "sethostname")


def start_init() -> int:
    """Start pid 1 of the node's process namespace, with a /proc of its own; it ends when the lab is taken down."""
    reader, writer = os.pipe()
    init = os.fork()
    if init == 0:
        os.setsid()
        kernel.mount("proc", "/proc", "proc")
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.set_inheritable(writer, False)
        os.execv(INIT[0], INIT)
    os.close(writer)
    os.read(reader, 1)  # end of file once the init has replaced us: /proc is the node's by then
    os.close(reader)
    return init


def run_boot_file() -> None:
    """Run /run/railbed/boot to its end. What it leaves running becomes the init's child."""
    output = os.memfd_create("boot-output")
    child = os.fork()
    if child == 0:
        die_with_parent()
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execv("/bin/sh", ("/bin/sh", "-e", "/run/railbed/boot"))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        said = os.pread(output, 100_000, 0).decode(errors="replace").strip()
        raise BootFailed(f"/run/railbed/boot exited {status}: {said[-2000:]}")
    os.close(output)


def write_sysctls(settings: dict[str, str]) -> None:
    """Write settings of the current network namespace."""
    for key, value in settings.items():
        try:
            Path("/proc/sys", *key.split(".")).write_text(value)
        except OSError as error:
            raise OSError(error.errno, f"sysctl {key}={value}: {error.strerror}") from None


if __name__ == "__main__":
    main()
