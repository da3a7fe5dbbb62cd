"""What the soft ASIC needs: each thing that is missing is named, with what to do about it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labs import asic_preflight, bpf_probe, index, kernel, lease
from labs.asic_preflight import KERNEL_FEATURES, KIND_OF_LINE, Need, examine, features, missing, probe, refused, require
from labs.backends import workstation
from labs.errors import CapabilityMissing, NotReady
from labs.index import LabRecord, Stage
from labs.journal import boot_id

Break = Callable[[pytest.MonkeyPatch, Path], None]
RECORD = LabRecord("a", "fake", "/nowhere", "f", 1, Stage.UP, boot_id(), "2026-01-01T00:00:00+00:00")
NO = "it is not here"


@contextmanager
def no_namespace() -> Iterator[None]:
    yield


@pytest.fixture(autouse=True)
def kernel_that_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workstation that offers everything, until a case takes something away; nothing of the real one is asked."""
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RAILBED_NATIVE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(kernel, "inside_new_netns", no_namespace)
    for name in ("BTF", "JIT", "LIBBPF"):
        (tmp_path / name).write_text("1\n")
        monkeypatch.setattr(asic_preflight, name, tmp_path / name)
    (tmp_path / "asicd").touch()
    monkeypatch.setattr(asic_preflight, "_queues", lambda: dict.fromkeys(KIND_OF_LINE))
    monkeypatch.setattr(asic_preflight, "_packet_socket", lambda: None)
    monkeypatch.setattr(asic_preflight, "_real_time", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bpf_probe, "program", lambda: None)
    monkeypatch.setattr(bpf_probe, "helper", lambda _: None)
    monkeypatch.setattr(bpf_probe, "make_map", lambda _kind, _size: None)
    monkeypatch.setattr(bpf_probe, "tcx", lambda _: None)


def without_queues(*kinds: str) -> Break:
    said = {kind: NO if kind in kinds else None for kind in KIND_OF_LINE}
    return lambda patch, _: patch.setattr(asic_preflight, "_queues", lambda: said)


def without_helper(name: str) -> Break:
    lacking = bpf_probe.HELPERS[name]
    return lambda patch, _: patch.setattr(bpf_probe, "helper", lambda number: NO if number == lacking else None)


def without_map(lacking: int) -> Break:
    return lambda patch, _: patch.setattr(bpf_probe, "make_map", lambda kind, _size: NO if kind == lacking else None)


def without(module: object, name: str) -> Break:
    return lambda patch, _: patch.setattr(module, name, lambda *_: NO)


def jit_off(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "JIT").write_text("0\n")


def neither_tcx_nor(kind: str) -> Break:
    def take_away(patch: pytest.MonkeyPatch, folder: Path) -> None:
        without(bpf_probe, "tcx")(patch, folder)
        without_queues(kind)(patch, folder)

    return take_away


# what is taken away -> the features that are then missing
CASES: dict[str, tuple[Break, set[str]]] = {
    "nothing": (lambda _, __: None, set()),
    "btf": (lambda _, folder: (folder / "BTF").unlink(), {"btf"}),
    "sched-cls": (without(bpf_probe, "program"), {"sched-cls"}),
    **{name: (without_helper(name), {name}) for name in bpf_probe.HELPERS},
    "ring buffer maps": (without_map(bpf_probe.RINGBUF), {"ringbuf"}),
    "memlock": (without_map(bpf_probe.ARRAY), {"memlock"}),
    **{kind: (without_queues(kind), {kind}) for kind in ("htb", "tbf", "bfifo", "netem")},
    "clsact where tcx is": (without_queues("clsact", "cls_bpf"), set()),
    "tcx": (without(bpf_probe, "tcx"), {"tcx"}),
    "tcx and clsact": (neither_tcx_nor("clsact"), {"tcx", "attach"}),
    "tcx and cls_bpf": (neither_tcx_nor("cls_bpf"), {"tcx", "attach"}),
    "af-packet": (without(asic_preflight, "_packet_socket"), {"af-packet"}),
    "sched-fifo": (without(asic_preflight, "_real_time"), {"sched-fifo"}),
    "jit off": (jit_off, {"jit"}),
    "no jit": (lambda _, folder: (folder / "JIT").unlink(), {"jit"}),
    "asicd": (lambda _, folder: (folder / "asicd").unlink(), {"asicd"}),
    "clang": (lambda patch, _: patch.setattr(shutil, "which", lambda _: None), {"clang", "gcc"}),
    "libbpf": (lambda _, folder: (folder / "LIBBPF").unlink(), {"libbpf-dev"}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_named(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away, expected = CASES[case]
    take_away(monkeypatch, tmp_path)
    found = {one.name: one for one in examine()}
    assert {name for name, one in found.items() if not one.have} == expected
    for one in found.values():
        assert one.have == (one.because is None)
        assert one.have or one.remedy, one
    needed = {name for name in expected if found[name].need is Need.RUN}
    assert {one.name for one in missing(tuple(found.values()))} == needed
    if not needed:
        require()
        return
    with pytest.raises(CapabilityMissing) as refused_run:
        require()
    assert refused_run.value.capability == "soft-asic"
    for name in needed:
        assert f"{name}: {found[name].because}" in refused_run.value.because
        assert found[name].remedy in refused_run.value.remedy


def test_every_feature_has_a_case() -> None:
    assert set(KERNEL_FEATURES) <= {name for _, names in CASES.values() for name in names}


def test_capabilities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    have = {one.name: one.have for one in workstation.capabilities()}
    assert {name: have[name] for name in ("soft-asic", "tcx", "sched-fifo", "netem")} == dict.fromkeys(
        ("soft-asic", "tcx", "sched-fifo", "netem"), True
    )
    without_queues("htb", "netem")(monkeypatch, tmp_path)
    found = {one.name: one for one in workstation.capabilities()}
    assert (found["soft-asic"].have, found["soft-asic"].because) == (False, f"htb: {NO}")
    assert (found["netem"].have, found["netem"].because) == (False, NO)


def test_only_root_can_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert {one.because for one in probe()} == {"only root can find out"}


def test_no_namespace_to_try_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(kernel, "inside_new_netns", refuse)
    assert all("unshare" in str(one.because) for one in probe())


def test_a_probe_does_not_go_into_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def busy(lab: str, what: str) -> Iterator[None]:
        raise NotReady(f"{what} has waited", remedy="wait")
        yield lab

    monkeypatch.setattr(lease, "changing", busy)
    with pytest.raises(NotReady):
        probe()


def test_asked_once_a_boot_while_a_lab_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.write(RECORD)
    without_queues("netem")(monkeypatch, tmp_path)
    first = features()
    without(bpf_probe, "program")(monkeypatch, tmp_path)
    assert features() == first  # not asked
    cache = tmp_path / "state" / "cache" / "kernel.json"
    data = json.loads(cache.read_text())
    stale: tuple[object, ...] = ({**data, "boot": "another"}, {**data, "features": data["features"][1:]}, {}, [])
    for content in stale:
        cache.write_text(json.dumps(content))
        assert [one.name for one in missing(features())] == ["sched-cls"]


def test_what_is_missing_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.write(RECORD)
    without_queues("htb")(monkeypatch, tmp_path)
    assert missing(features())
    without_queues()(monkeypatch, tmp_path)
    assert not missing(features())


def test_nothing_is_kept_while_no_lab_is_up(tmp_path: Path) -> None:
    features()
    assert not (tmp_path / "state").exists()


def test_what_tc_says_of_a_batch() -> None:
    said = """\
Warning: sch_htb: quantum of class 10001 is big. Consider r2q change.
Error: Specified qdisc kind is unknown.
Command failed -:3
RTNETLINK answers: No such file or directory
We have an error talking to the kernel
Command failed -:7
Command failed -:5
"""
    found = {kind: because for kind, because in refused(said).items() if because}
    assert found == {
        "tbf": "tc: Specified qdisc kind is unknown",
        "cls_bpf": "tc: RTNETLINK answers: No such file or directory",
        "netem": "tc: refused",
    }
    assert not any(refused("").values())
