# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest kernels: a distribution package, or a kernel tree of the user."""

import gzip
import hashlib
import json
import lzma
import re
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nicmodel.errors import UserError
from nicmodel.testbed import apt, tree
from nicmodel.testbed.errors import Unavailable
from nicmodel.testbed.paths import cache_root, cached, locked

DEFAULT = "linux-image-amd64"

SOURCE_PARTS = (
    "drivers/net/ethernet/mellanox/mlx5/",
    "drivers/net/ethernet/mellanox/mlxfw/",
    "include/linux/mlx5/",
    "tools/testing/selftests/",
    "scripts/checkpatch.pl",
    "scripts/spelling.txt",
    "scripts/const_structs.checkpatch",
)
"""What is taken out of a kernel's source package."""


@dataclass(frozen=True)
class Kernel:
    """A bootable kernel: its image and the folder with its modules and their ``modules.dep``."""

    release: str
    image: Path
    modules: Path
    origin: str  # package and version, or the path of the tree
    objects: Path | None = None
    """Where a tree was built."""

    @property
    def tree(self) -> Path | None:
        """The user's tree, unless the kernel is a package's."""
        return Path(self.origin) if self.origin.startswith("/") else None

    @property
    def version(self) -> str:
        """Version of the kernel's package."""
        return self.origin.partition(" ")[2]

    @property
    def key(self) -> str:
        """Name what was built: images made for another key do not fit."""
        stat = self.image.stat()
        text = f"{self.origin} {self.release} {stat.st_size} {stat.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find(choice: str = DEFAULT) -> Kernel:
    """Return the kernel that ``choice`` names: a package, or the path of a tree (see ``tree``)."""
    if "/" in choice:
        return _from_tree(Path(choice))
    return _from_package(choice)


def second() -> str | None:
    """Return the newest kernel package of another series than the default's, if there is one."""

    def answer() -> list[str]:
        ours = _series(_resolve_image(DEFAULT)[0])
        # not the flavours (cloud, rt), nor what is unsigned or for debugging
        offered = apt.names(r"^linux-image-[0-9]+\.[0-9]+[^-]*-amd64$")
        others = [name for name in offered if _series(name) != ours]
        # of equals, the package that always depends on the newest
        return sorted(others, key=lambda name: (_series(name), -len(name)))[-1:]

    found = remember(f"second series beside {DEFAULT}", answer)
    return found[0] if found else None


def headers(choice: str = DEFAULT) -> Path:
    """Return the ``include`` folder of the headers package that belongs to a kernel package."""
    image, version = _resolve_image(choice)
    root = _headers(image.removeprefix("linux-image-").removesuffix("-unsigned"), version)
    (common,) = root.glob("usr/src/linux-headers-*-common")
    return common / "include"


def build_folder(kernel: Kernel) -> Path:
    """Return the folder that ``make -C`` takes to build modules for ``kernel``.

    :raises Unavailable: the package sources have no headers package of this very version
    """
    if kernel.objects is not None:
        return kernel.objects
    root = _headers(kernel.release, kernel.version)
    return root / "usr/src" / f"linux-headers-{kernel.release}"


def _headers(release: str, version: str) -> Path:
    """Return a root with the headers packages of ``release``: flavour, common part and kbuild."""
    flavoured = f"linux-headers-{release}={version}"

    def needed() -> list[str]:
        # the compiler is the host's; the newest packages want the kernel's image too
        wanted = ("linux-headers-", "linux-kbuild-")
        return [name for name in apt.resolve([flavoured]) if name.startswith(wanted)]

    packages = remember(f"headers packages of {flavoured}", needed)

    def make(folder: Path) -> None:
        _fetch(packages, folder)
        for makefile in folder.glob("usr/src/linux-headers-*/Makefile"):
            # the flavour's includes the common one by the path of an installed package
            text = makefile.read_text()
            if text.startswith("include /usr/src/"):
                makefile.write_text(text.replace("/usr/src/", "../", 1))

    return cached("headers-roots", f"{release}_{version}", make)


def sources(kernel: Kernel) -> Path:
    """Return the kernel's own source, as far as it is used here (``SOURCE_PARTS``).

    :raises Unavailable: the package sources have no such package
    """
    if kernel.tree is not None:
        return kernel.tree
    return _sources(kernel.release, kernel.version)


def selftests() -> Path:
    """Return ``tools/testing/selftests`` of the default kernel's own source package.

    :raises Unavailable: the package sources have no such package
    """
    return _sources(*_resolve_image(DEFAULT)) / "tools/testing/selftests"


def checkpatch() -> Path:
    """Return the default kernel's own ``scripts/checkpatch.pl``, which wants perl.

    :raises Unavailable: the package sources have no such package
    """
    return _sources(*_resolve_image(DEFAULT)) / "scripts/checkpatch.pl"


def _sources(named: str, version: str) -> Path:
    package = "linux-source-" + ".".join(map(str, _series(named)))

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _fetch([f"{package}={version}"], Path(scratch))
            (archive,) = Path(scratch).glob("usr/src/*.tar.xz")
            with tarfile.open(archive) as members:
                for member in members:
                    member.name = member.name.partition("/")[2]
                    if member.isfile() and member.name.startswith(SOURCE_PARTS):
                        members.extract(member, folder)

    parts = hashlib.sha256(" ".join(SOURCE_PARTS).encode()).hexdigest()[:8]
    return cached("sources", f"{package}_{version}_{parts}", make)


def module_binary(path: Path) -> bytes:
    """Return the ELF bytes of a module file, compressed or not."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return data


def module_closure(kernel: Kernel, names: Sequence[str]) -> list[Path]:
    """Return the files, below ``kernel.modules``, of modules ``names`` and what they need.

    A name that the kernel has built in is left out; an unknown one is an error.
    """
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        target, _, rest = line.partition(":")
        needs[target] = rest.split()
        by_name[_module_name(target)] = target
    builtin_file = kernel.modules / "modules.builtin"
    builtin = {_module_name(line) for line in builtin_file.read_text().split()}
    wanted: dict[str, None] = {}
    for name in (name.replace("-", "_") for name in names):
        if name in by_name:
            wanted.update(dict.fromkeys([by_name[name], *needs[by_name[name]]]))
        elif name not in builtin:
            raise UserError(f"kernel {kernel.release} has no module {name}: choose another KERNEL.")
    return [Path(target) for target in wanted]


def depmod(root: Path, release: str) -> None:
    """Write ``modules.dep`` and its kin for the modules of ``release`` below ``root/lib``."""
    done = subprocess.run(
        ["/sbin/depmod", "-b", str(root), release], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"depmod failed for {release}: {done.stderr.strip()}")


def remember(question: str, answer: Callable[[], list[str]]) -> list[str]:
    """Return the list that ``answer()`` gave the first time for ``question``.

    What apt resolved once stays, so that a second run asks nobody and gets the same guest.
    """
    key = hashlib.sha256(question.encode()).hexdigest()[:16]
    memo = cache_root() / "resolved" / f"{key}.json"
    with locked(f"resolved-{key}"):
        if memo.exists():
            stored: list[str] = json.loads(memo.read_text())["answer"]
            return stored
        found = answer()
        memo.parent.mkdir(parents=True, exist_ok=True)
        scratch = memo.with_suffix(".new")
        scratch.write_text(json.dumps({"question": question, "answer": found}, indent=1))
        scratch.rename(memo)
        return found


def _series(package: str) -> tuple[int, ...]:
    """Return (6, 12) for ``linux-image-6.12.117+deb12-amd64``."""
    return tuple(int(number) for number in re.findall(r"\d+", package)[:2])


def _module_name(target: str) -> str:
    return Path(target).name.split(".ko")[0].replace("-", "_")


def _resolve_image(choice: str) -> list[str]:
    """Return [package, version] of the real kernel package behind ``choice``."""

    def answer() -> list[str]:
        behind = [d for d in apt.depends(choice) if d.startswith("linux-image-")]
        package = behind[0] if behind else choice
        return [package, apt.version(package)]

    return remember(f"kernel {choice}", answer)


def _from_package(choice: str) -> Kernel:
    package, version = _resolve_image(choice)

    def make(folder: Path) -> None:
        _fetch([f"{package}={version}"], folder)
        root = folder / "usr" if (folder / "usr/lib/modules").exists() else folder
        for release in (root / "lib/modules").iterdir():
            depmod(root, release.name)
        for image in (folder / "boot").glob("vmlinuz-*"):
            _unpack_image(image, folder / "vmlinux")

    folder = cached("kernels", f"{package}_{version}", make)
    modules = next((m for p in ("usr/lib", "lib") for m in folder.glob(f"{p}/modules/*")), None)
    images = sorted(folder.glob("boot/vmlinuz-*"))
    if modules is None or not images:
        raise UserError(f"package {package} holds no kernel: name a linux-image package.")
    return Kernel(modules.name, _image(folder, images[0]), modules, f"{package} {version}")


def _from_tree(folder: Path) -> Kernel:
    found = tree.find(folder)
    stat = found.image.stat()
    identity = f"{found.source} {stat.st_mtime_ns} {stat.st_size}"

    def make(target: Path) -> None:
        install = ["modules_install", f"INSTALL_MOD_PATH={target}", "INSTALL_MOD_STRIP=1"]
        done = subprocess.run(
            ["make", "-s", *install], cwd=found.objects, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"make modules_install failed in {folder}: build its modules first.")
        depmod(target, found.release)
        _unpack_image(found.image, target / "vmlinux")

    key = f"tree-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    place = cached("kernels", key, make)
    modules = place / "lib/modules" / found.release
    image = _image(place, found.image)
    return Kernel(found.release, image, modules, str(found.source), found.objects)


def _image(folder: Path, compressed: Path) -> Path:
    unpacked = folder / "vmlinux"
    return unpacked if unpacked.exists() else compressed


def _unpack_image(image: Path, target: Path) -> None:
    """Take the ELF kernel out of a bzImage, if QEMU can enter it directly (PVH).

    Under emulation the kernel's own unpacking takes 3 of 6 seconds of a boot. Nothing else of the
    kernel changes, but that it runs at its link address. Without a PVH entry nothing is written
    and the bzImage boots. (Layout: Documentation/x86/boot.rst, xen/interface/elfnote.h)
    """
    data = image.read_bytes()
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (data[0x1F1] + 1) * 512 + offset
    payload = data[start : start + length]
    if payload.startswith(b"\xfd7zXZ"):
        elf = lzma.LZMADecompressor().decompress(payload)  # the kernel appends a length
    elif payload.startswith(b"\x1f\x8b"):
        elf = zlib.decompressobj(wbits=31).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        command = ["zstd", "-dcq"]
        elf = subprocess.run(command, input=payload[:-4], capture_output=True, check=True).stdout
    else:
        return
    # note XEN_ELFNOTE_PHYS32_ENTRY (18) of the owner "Xen"
    if any(struct.pack("<III", 4, size, 18) + b"Xen\0" in elf for size in (4, 8)):
        target.write_bytes(elf)


def _fetch(packages: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for archive in apt.download(packages, Path(scratch)):
            apt.unpack(archive, folder)
