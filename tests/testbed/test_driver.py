# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds of the driver: what a user chose, what is refused, and how; kbuild is a stand-in."""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import driver, kbuild
from nicmodel.testbed.agent import Completed
from nicmodel.testbed.driver import STOCK, TLS, Choice, Driver
from nicmodel.testbed.kernel import Kernel

ID = bytes(range(1, 21))
NOTE = struct.pack("<III", 4, 20, 3) + b"GNU\0" + ID

# Compiles as kbuild does: what is not newer than its object stays, unless its command changed.
MAKE = """#!/bin/sh
for word; do case $word in M=*) core=${word#M=} ;; esac; done
test -e "$core/broken.c" && { echo "broken.c:3:1: error: expected ';'"; exit 2; }
for source in "$core"/*.c; do
	object=${source%.c}.o command="cc $source"
	kept=$(cat "$core/.$(basename "$object").cmd" 2>/dev/null)
	if [ "$source" -nt "$object" ] || [ "$kept" != "$command" ]; then
		echo "  CC [M]  $object"
		printf %s "$command" >"$core/.$(basename "$object").cmd"
		cp "$source" "$object"
	fi
done
cat "$core"/*.o >"$core/mlx5_core.ko"
cp "$core/mlx5_core.ko" "$core/mlx5_core.o"
"""
MODINFO = """#!/bin/sh
case $2 in vermagic) sed -n 's/^vermagic //p' "$3" ;; esac
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel tree with a driver of two files, and tools that build it."""
    monkeypatch.setenv("NICMODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(driver, "LOG", tmp_path / "log/driver.log")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (
        ("make", MAKE),
        ("strip", '#!/bin/sh\ncp "$4" "$3"\n'),
        ("modinfo", MODINFO),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setattr(kbuild, "MODINFO", "modinfo")
    core = tmp_path / "linux" / driver.FOLDER
    core.mkdir(parents=True)
    (core / "one.c").write_bytes(b"vermagic 6.1 SMP\none\n" + NOTE)
    (core / "two.c").write_text("\ntwo\n")
    (tmp_path / "linux/include/linux/mlx5").mkdir(parents=True)
    return tmp_path / "linux"


@pytest.fixture
def chosen(tree: Path) -> Kernel:
    modules = tree.parent / "modules"
    modules.mkdir()
    (modules / "modules.dep").write_text("kernel/mlx5_core.ko:\n")
    (modules / "modules.builtin").touch()
    (modules / "kernel").mkdir()
    (modules / "kernel/mlx5_core.ko").write_bytes(b"vermagic 6.1 SMP\n" + NOTE)
    (tree.parent / "vmlinux").touch()
    return Kernel("6.1", tree.parent / "vmlinux", modules, str(tree), tree)


def patch(folder: Path, *, old: str = "two", new: str = "three") -> Path:
    path = folder / f"{new}.patch"
    name = driver.FOLDER / "two.c"
    path.write_text(f"--- a/{name}\n+++ b/{name}\n@@ -1,2 +1,2 @@\n \n-{old}\n+{new}\n")
    return path


def test_words_of_a_user(tmp_path: Path) -> None:
    one = patch(tmp_path, new="one")
    assert driver.choice() == driver.choice("stock") == STOCK
    assert driver.choice("tls") == TLS
    assert driver.choice("stock", one) == Choice(tls=True, patches=(one,))
    with pytest.raises(UserError, match="tsl is unknown; did you mean tls"):
        driver.choice("tsl")
    with pytest.raises(UserError, match=r"there is no patch .*none: name a patch file or a folder"):
        driver.choice("tls", tmp_path / "none")


def test_a_folder_of_patches_has_an_order(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no patches: put"):
        driver.choice("tls", tmp_path)
    late, early = patch(tmp_path, new="02"), patch(tmp_path, new="01")
    (tmp_path / "0000-cover-letter.patch").touch()
    assert driver.choice("tls", tmp_path).patches == (early, late)
    (tmp_path / "series").write_text(f"# in turn\n{late.name} -p1\n\n{early.name} # last\n")
    assert driver.choice("tls", tmp_path).patches == (late, early)
    (tmp_path / "series").write_text("none.patch\n")
    with pytest.raises(UserError, match=r"series names none\.patch, which is not there"):
        driver.choice("tls", tmp_path)


def test_stock_is_the_kernels_own_file(chosen: Kernel) -> None:
    found = driver.find(chosen)
    assert found.module == chosen.modules / "kernel/mlx5_core.ko"
    assert found.build_id == ID.hex()
    assert found.description.startswith("stock")


def test_a_second_call_builds_nothing(chosen: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    first = driver.find(chosen, TLS)
    assert "CONFIG_MLX5_EN_TLS" in capfd.readouterr().err
    assert driver.find(chosen, TLS) == first
    assert capfd.readouterr().err == ""


def test_the_source_is_part_of_what_was_built(chosen: Kernel, tree: Path) -> None:
    before = driver.find(chosen, TLS)
    (tree / driver.FOLDER / "two.c").write_text("changed\n")
    assert driver.find(chosen, TLS).module != before.module


def test_a_patch_compiles_what_it_changes_and_no_more(chosen: Kernel, tmp_path: Path) -> None:
    plain = driver.find(chosen, TLS).module.read_bytes()
    assert driver.LOG.read_text().count("CC") == 2
    found = driver.find(chosen, Choice(tls=True, patches=(patch(tmp_path),)))
    assert driver.LOG.read_text().count("CC") == 1
    assert found.module.read_bytes() == plain.replace(b"two", b"three")
    assert "three.patch" in found.description
    assert driver.find(chosen, TLS).module.read_bytes() == plain


def test_a_patch_is_known_by_its_content(chosen: Kernel, tmp_path: Path) -> None:
    path = patch(tmp_path)
    first = driver.find(chosen, Choice(tls=True, patches=(path,)))
    other = path.rename(tmp_path / "renamed.patch")
    assert driver.find(chosen, Choice(tls=True, patches=(other,))).module == first.module
    other.write_text(other.read_text().replace("three", "four"))
    assert driver.find(chosen, Choice(tls=True, patches=(other,))).module != first.module


def test_a_patch_for_other_source_is_one_sentence(chosen: Kernel, tmp_path: Path) -> None:
    wrong = Choice(tls=True, patches=(patch(tmp_path, old="nothing like it"),))
    with pytest.raises(UserError, match=r"three\.patch does not apply .*: Hunk #1 FAILED at 1"):
        driver.find(chosen, wrong)


def test_a_patch_for_a_file_that_is_not_there_is_one_sentence(
    chosen: Kernel, tmp_path: Path
) -> None:
    path = patch(tmp_path)
    path.write_text(path.read_text().replace("two.c", "other.c"))
    with pytest.raises(UserError, match=r"three\.patch does not apply .*: can't find file"):
        driver.find(chosen, Choice(tls=True, patches=(path,)))


def test_source_that_does_not_compile_is_one_sentence(chosen: Kernel, tree: Path) -> None:
    (tree / driver.FOLDER / "broken.c").touch()
    with pytest.raises(UserError, match=r"does not build for 6\.1: broken\.c:3:1: error: expected"):
        driver.find(chosen, TLS)


def test_a_build_for_another_kernel_is_refused(chosen: Kernel) -> None:
    (chosen.modules / "kernel/mlx5_core.ko").write_bytes(b"vermagic 6.2 SMP\n" + NOTE)
    with pytest.raises(UserError, match=r"built for '6\.1 SMP' and the kernel wants '6\.2 SMP'"):
        driver.find(chosen, TLS)


def test_no_build_id_is_one_sentence() -> None:
    with pytest.raises(UserError, match="has no build id"):
        driver.build_id(b"\x7fELF")


@dataclass
class Guest:
    """A guest whose kernel shows ``note``, or no such file."""

    note: bytes | None
    name: str = "a"

    def run(self, command: str, **_options: Any) -> Completed:
        assert "/sys/module/mlx5_core/notes/.note.gnu.build-id" in command
        if self.note is None:
            return Completed(command, 1, "", "no such file")
        shown = subprocess.run(
            ["od", "-An", "-v", "-tx1"], input=self.note, capture_output=True, check=True
        )
        return Completed(command, 0, shown.stdout.decode(), "")


def test_a_guest_with_another_driver_is_refused() -> None:
    wanted = Driver(Path("mlx5_core.ko"), ID.hex(), "that of this test")
    driver.verify(Guest(NOTE), wanted)  # type: ignore[arg-type]
    other = Guest(NOTE.replace(ID, ID[::-1]))
    with pytest.raises(UserError, match=f"guest a has loaded .*{ID[::-1].hex()} where {ID.hex()}"):
        driver.verify(other, wanted)  # type: ignore[arg-type]


def test_a_guest_without_the_driver_says_nothing() -> None:
    assert driver.running(Guest(None)) is None  # type: ignore[arg-type]
    driver.verify(Guest(None), Driver(Path("x"), ID.hex(), "none"))  # type: ignore[arg-type]
