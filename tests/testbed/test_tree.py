# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel trees: as they were built, or built here; kbuild is a stand-in."""

from pathlib import Path

import pytest

from nicmodel.errors import UserError
from nicmodel.testbed import tree

# Does what kbuild does with a configuration and a kernel; COUNT is a line for each call.
MAKE = """#!/bin/sh
out=. goal=kernel
for word; do
	case $word in
	O=*) out=${word#O=} ;;
	KCONFIG_ALLCONFIG=*) given=${word#KCONFIG_ALLCONFIG=} ;;
	allnoconfig) goal=config ;;
	esac
done
[ "$1" = -C ] && cd "$2"
echo "$goal" >>"$COUNT"
if [ $goal = config ]; then grep -v "$LACKS" "$given" >"$out/.config"; exit; fi
[ -e "$out/.config" ] || exit 3
[ ! -e broken.c ] || { echo "broken.c:1:1: error: expected ';'"; exit 2; }
mkdir -p "$out/arch/x86/boot" "$out/include/config"
echo 6.1.0 >"$out/include/config/kernel.release"
touch "$out/arch/x86/boot/bzImage" "$out/modules.order"
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel tree that is not built, and a make that builds it."""
    monkeypatch.setenv("NICMODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COUNT", str(tmp_path / "calls"))
    monkeypatch.setenv("LACKS", "^nothing")
    monkeypatch.setattr(tree, "LOG", tmp_path / "log/kernel.log")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "make").write_text(MAKE)
    (tools / "make").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    folder = tmp_path / "linux"
    (folder / "arch/x86").mkdir(parents=True)
    (folder / "Kconfig").touch()
    return folder


def calls(source: Path) -> list[str]:
    return (source.parent / "calls").read_text().split()


def test_a_tree_without_configuration_is_built_outside_of_itself(source: Path) -> None:
    before = sorted(source.rglob("*"))
    found = tree.find(source)
    assert (found.release, found.built) == ("6.1.0", True)
    assert sorted(source.rglob("*")) == before
    assert calls(source) == ["config", "kernel"]
    assert tree.find(source) == found
    assert calls(source) == ["config", "kernel"]
    (source / "main.c").touch()
    assert tree.find(source) == found
    assert calls(source) == ["config", "kernel"] * 2


def test_a_tree_with_configuration_is_built_in_place(source: Path) -> None:
    (source / ".config").touch()
    found = tree.find(source)
    assert found.objects == source
    assert calls(source) == ["kernel"]
    assert tree.find(source) == found
    assert calls(source) == ["kernel"]


def test_what_does_not_build_is_one_sentence_and_is_tried_again(source: Path) -> None:
    (source / "broken.c").touch()
    for _ in range(2):
        with pytest.raises(UserError, match=r"does not build: broken\.c:1:1: error: expected"):
            tree.find(source)
    (source / "broken.c").unlink()
    assert tree.find(source).built


def test_a_kernel_without_what_guests_need_is_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LACKS", "CONFIG_TLS=")
    with pytest.raises(UserError, match="has no CONFIG_TLS=m, which guests need"):
        tree.find(source)


def test_no_tree_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no kernel: name a kernel tree, or a package"):
        tree.find(tmp_path)
