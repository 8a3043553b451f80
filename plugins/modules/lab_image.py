#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_image
short_description: Builds the kernel and the base disk image that all lab guests share
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Makes a private root with Debian's User Mode Linux kernel, and a bare Debian 12 disk image that guests start from.
  - Both are made once and reused. The image's name holds a hash of all that it is made of.
  - The address of the Debian mirror is that of this machine's own apt configuration.
  - Every step appends a line to C(progress.log) in the O(cache), since a first build takes minutes.
  - Needs root, C(mmdebstrap), C(mke2fs) and C(depmod) on this machine.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  cache:
    description: The folder that holds all that the collection builds.
    type: path
    required: true
  mirror:
    description: Address of a Debian mirror, instead of the one that apt on this machine uses.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: The lab's kernel and base image are built
  multinic.kubernetes.lab_image:
    cache: /var/cache/multinic-kubernetes
"""

RETURN = r"""
kernel_root:
  description: The private root that holds the kernel.
  returned: success
  type: str
  sample: /var/cache/multinic-kubernetes/uml
kernel_version:
  description: Version of the guests' kernel. Empty in check mode when it is not there yet.
  returned: success
  type: str
  sample: 7.2.7
base_image:
  description: The disk image that guests start from. Empty in check mode when the kernel is not there yet.
  returned: success
  type: str
  sample: /var/cache/multinic-kubernetes/base/0123456789abcdef.img
"""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab_image as image


class BuildError(RuntimeError):
    """A step of the build failed."""


class Builder:
    """Makes what is missing below one cache folder."""

    def __init__(self, cache: Path, mirror: str) -> None:
        self.cache = cache
        self.mirror = mirror
        self.kernel_root = cache / "uml"

    def progress(self, text: str) -> None:
        with (self.cache / "progress.log").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} lab: {text}\n")

    def run(self, command: list[str]) -> str:
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        environment.update({name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")})
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
            )
        except FileNotFoundError as exc:
            raise BuildError(
                f"{command[0]} is not installed on this machine; apt-get install mmdebstrap e2fsprogs kmod"
            ) from exc
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise BuildError(f"'{' '.join(command[:2])} …' failed with code {done.returncode}:\n{tail}")
        return done.stdout

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Two labs that start at once build once."""
        with (self.cache / "uml.lock").open("w", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def bootstrap(self, suite: str, packages: tuple[str, ...], root: Path) -> None:
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
        targets = image.parse_targets(
            self.run(["apt-get", "indextargets", "--format", image.TARGET_FORMAT, "Created-By: Packages"])
        )
        lines = image.sources(targets, codename, suite, self.mirror)
        options = image.apt_options(self.run(["apt-config", "dump"]))
        self.run(image.bootstrap(suite, packages, str(root), lines, options))

    def kernel_version(self) -> str:
        modules = self.kernel_root / "usr/lib/uml/modules"
        return next((entry.name for entry in sorted(modules.glob("[0-9]*"))), "")

    def build_kernel(self) -> None:
        self.progress(f"fetching the guests' kernel ({image.KERNEL_PACKAGE} of Debian {image.KERNEL_SUITE})")
        work = Path(tempfile.mkdtemp(prefix=".uml-", dir=self.cache))
        try:
            root = work / "root"
            self.bootstrap(image.KERNEL_SUITE, (image.KERNEL_PACKAGE,), root)
            for folder in ("lab", "base"):
                (root / folder).mkdir()
            if self.kernel_root.exists():
                shutil.rmtree(self.kernel_root)
            root.rename(self.kernel_root)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.progress(f"the guests' kernel is there ({self.kernel_version()})")

    def build_base(self, target: Path) -> None:
        self.progress(f"building the guests' disk (Debian {image.GUEST_SUITE})")
        target.parent.mkdir(mode=0o755, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".build-", dir=target.parent))
        try:
            root = work / "root"
            self.bootstrap(image.GUEST_SUITE, image.GUEST_PACKAGES, root)
            self.furnish(root)
            disk = work / "disk.img"
            with disk.open("wb") as handle:
                handle.truncate(_size(image.DISK_SIZE))
            self.run(
                ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", "lab", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
                + ["-d", str(root), str(disk)]
            )
            disk.chmod(0o444)
            disk.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.progress(f"the guests' disk is built ({target.name})")

    def furnish(self, root: Path) -> None:
        version = self.kernel_version()
        modules = root / "lib/modules" / version
        shutil.copytree(self.kernel_root / "usr/lib/uml/modules" / version, modules, symlinks=True)
        self.run(["depmod", "-b", str(root), version])
        self.run(["chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", image.GUEST_USER])
        for pattern in image.UNWANTED:
            for path in root.glob(pattern):
                path.unlink()
        for name, (mode, content) in image.OVERLAY.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(content, encoding="utf-8")
            path.chmod(mode)
        for name, link in image.LINKS.items():
            (root / name).unlink(missing_ok=True)
            (root / name).symlink_to(link)
        (root / "var/lib/multinic-lab").mkdir(mode=0o700)
        self.run(["chroot", str(root), "systemctl", "enable", "--quiet", *image.UNITS])


def _size(text: str) -> int:
    return int(text[:-1]) * {"M": 2**20, "G": 2**30}[text[-1]]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cache": {"type": "path", "required": True},
            "mirror": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    cache = Path(module.params["cache"])
    builder = Builder(cache, module.params["mirror"].rstrip("/"))
    changed = False

    def missing() -> bool:
        version = builder.kernel_version()
        return not version or not (cache / "base" / image.base_name(version)).exists()

    try:
        if missing() and not module.check_mode:
            cache.mkdir(parents=True, exist_ok=True)
            with builder.lock():
                if not builder.kernel_version():
                    builder.build_kernel()
                    changed = True
                target = cache / "base" / image.base_name(builder.kernel_version())
                if not target.exists():
                    builder.build_base(target)
                    changed = True
        elif missing():
            changed = True
    except (BuildError, image.ImageError, OSError) as exc:
        module.fail_json(msg=f"The lab's base image could not be built: {exc}")

    version = builder.kernel_version()
    module.exit_json(
        changed=changed,
        kernel_root=str(builder.kernel_root),
        kernel_version=version,
        base_image=str(cache / "base" / image.base_name(version)) if version else "",
    )


if __name__ == "__main__":
    main()
