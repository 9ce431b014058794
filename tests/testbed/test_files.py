# SPDX-License-Identifier: GPL-2.0-or-later
"""Cache, lists, kernels: files in, files out."""

from pathlib import Path

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import doctor, image, kernel, paths
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.kernel import Kernel


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NICMODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cached_is_made_once() -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("x")

    assert paths.cached("kind", "key", make) == paths.cached("kind", "key", make)
    assert len(made) == 1
    assert (paths.cached("kind", "key", make) / "file").read_text() == "x"


def test_failure_leaves_nothing_and_what_a_kill_left_goes(cache: Path) -> None:
    (cache / "kind/.making-key-old").mkdir(parents=True)

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError

    with pytest.raises(OSError, match=r"^$"):
        paths.cached("kind", "key", fail)
    assert list((cache / "kind").iterdir()) == []


def test_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SPACE_NEEDED", 1 << 60)
    with pytest.raises(Unavailable, match=r"MiB of room .* set NICMODEL_CACHE"):
        paths.cached("kind", "key", lambda _folder: None)


def test_list_has_comments(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("# head\n\none # why\n  two\n")
    assert image.entries(path) == ["one", "two"]


@pytest.mark.parametrize("path", doctor.PACKAGE_LISTS, ids=lambda path: path.name)
def test_lists_of_host_packages_are_sorted_names(path: Path) -> None:
    names = image.entries(path)
    assert names == sorted(set(names))
    assert all(name.replace("-", "").replace(".", "").replace("+", "").isalnum() for name in names)


def test_missing_packages_are_those_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf 'ii here\\nhi held\\nrc removed\\nun never\\n'\n")
    query.chmod(0o755)
    wanted = tmp_path / "packages.txt"
    wanted.write_text("here\nheld\nremoved\nnever\nunheard\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(doctor, "PACKAGE_LISTS", (wanted,))
    assert doctor.missing_packages() == ["never", "removed", "unheard"]


def fake_kernel(folder: Path) -> Kernel:
    (folder / "modules.dep").write_text(
        "kernel/a-b.ko: kernel/c.ko kernel/d.ko.xz\nkernel/c.ko: kernel/d.ko.xz\nkernel/d.ko.xz:\n"
        "kernel/unused.ko:\n"
    )
    (folder / "modules.builtin").write_text("kernel/net/packet/af_packet.ko\n")
    return Kernel("6.1", folder / "vmlinux", folder, "test")


def test_module_closure_follows_what_modules_need(tmp_path: Path) -> None:
    found = kernel.module_closure(fake_kernel(tmp_path), ["a_b", "af-packet"])
    assert sorted(map(str, found)) == ["kernel/a-b.ko", "kernel/c.ko", "kernel/d.ko.xz"]


def test_unknown_module_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"kernel 6\.1 has no module nosuch"):
        kernel.module_closure(fake_kernel(tmp_path), ["nosuch"])


def test_wrong_kernel_path_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no kernel: name a kernel tree"):
        kernel.find(str(tmp_path))


def test_answer_of_apt_is_remembered() -> None:
    assert kernel.remember("q", lambda: ["first"]) == ["first"]
    assert kernel.remember("q", lambda: ["second"]) == ["first"]
