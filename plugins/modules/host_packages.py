#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_packages
short_description: Installs a bundle's packages that the host lacks, in one step and without a network
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Compares the packages that the bundle holds for the host's distribution with those installed, and installs all that are
    missing or older in one run of dpkg. Newer ones stay. A package whose name another one provides, as Docker's
    C(containerd.io) does for C(containerd) and C(runc), counts as installed.
  - The disk is waited for once, at the end. Packages that a power loss before that may have left with empty files are
    installed again by the next run.
  - Nothing is asked and configuration files that were changed on the host are kept.
  - No service is started that did not run before, so that it first runs with its own configuration. Services that ran
    are restarted as their packages wish.
  - The services of haproxy and keepalived are disabled where their packages were not there before, since this collection
    runs them by units of its own.
  - On a host whose distribution the bundle does not serve, O(commands) must exist already. All that are missing are
    named in one error.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
    details:
      - As long as the bundle is not unpacked on the host, its packages are predicted as a whole.
  diff_mode:
    support: full
options:
  bundle:
    description: Folder of the unpacked bundle.
    type: path
    default: /var/lib/multinic/bundle/current
  names:
    description: Only these packages and what they depend on. Empty means all that the bundle holds for this distribution.
    type: list
    elements: str
    default: []
  without:
    description:
      - Packages that are left alone, and with them those on which nothing else that is installed here depends.
    type: list
    elements: str
    default: []
  commands:
    description: What must be on the host if the bundle holds no packages for its distribution.
    type: list
    elements: str
    default: []
  documentation:
    description: Whether manual pages and documentation are installed too. Copyright files always are.
    type: bool
    default: false
  lock_timeout:
    description: Seconds to wait for another package manager that is at work.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: The host has the packages of the bundle
  multinic.kubernetes.host_packages:
    commands: [containerd, runc, keepalived, ipvsadm]
"""

RETURN = r"""
changes:
  description: What was, or in check mode would be, installed, one sentence each.
  returned: success
  type: list
  elements: str
  sample: ["install chrony 4.3-2+deb12u1", "upgrade runc from 1.1.4+ds1-1 to 1.1.5+ds1-1+deb12u1"]
distribution:
  description: The host's distribution, as the bundle names it.
  returned: success
  type: str
  sample: debian-12
"""

import contextlib
import fcntl
import io
import lzma
import os
import tarfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _packages as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_here import read_manifest
from ansible_collections.multinic.kubernetes.plugins.module_utils._unpack import CURRENT, ROOT

# Daemons that this collection runs by units of its own. Those of packages that were not there before would start one
# more of each at the next boot.
UNUSED_SERVICES = {"haproxy": "haproxy.service", "keepalived": "keepalived.service"}
POLICY = Path("/usr/sbin/policy-rc.d")
SAVED_POLICY = Path("/usr/sbin/policy-rc.d.multinic-saved")
UNSYNCED = Path("/var/lib/multinic/packages-unsynced.json")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FRONTEND_LOCK = Path("/var/lib/dpkg/lock-frontend")
SYSTEM_FOLDERS = ["/sbin", "/usr/sbin", "/usr/local/sbin", "/usr/local/bin"]
DOCUMENTATION_PATHS = [
    "--path-exclude=/usr/share/man/*",
    "--path-exclude=/usr/share/doc/*",
    "--path-exclude=/usr/share/info/*",
    "--path-include=/usr/share/doc/*/copyright",
]

ARGUMENT_SPEC: dict[str, Any] = {
    "bundle": {"type": "path", "default": f"{ROOT}/{CURRENT}"},
    "names": {"type": "list", "elements": "str", "default": []},
    "without": {"type": "list", "elements": "str", "default": []},
    "commands": {"type": "list", "elements": "str", "default": []},
    "documentation": {"type": "bool", "default": False},
    "lock_timeout": {"type": "int", "default": 300},
}


@contextlib.contextmanager
def dpkg_lock(seconds: int) -> Iterator[None]:
    """The lock that every package manager of Debian takes first."""
    with FRONTEND_LOCK.open("a", encoding="utf-8") as stream:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise core.PackagesError(
                        f"another package manager has been at work for {seconds} s ({FRONTEND_LOCK} is held). Let it "
                        "end (unattended-upgrades, perhaps), then run again."
                    ) from None
                time.sleep(0.5)
        yield


@contextlib.contextmanager
def no_new_services(running: list[str]) -> Iterator[None]:
    """A policy that is gone afterwards; one left by a killed run has no effect and is replaced."""
    if POLICY.is_file() and core.policy_is_left_over(POLICY.read_text(encoding="utf-8", errors="replace")):
        POLICY.unlink()
    elif POLICY.exists():
        POLICY.replace(SAVED_POLICY)
    new = POLICY.with_name(f".{POLICY.name}.multinic")
    with new.open("w", encoding="utf-8") as stream:
        stream.write(core.policy_script(os.getpid(), running, str(SAVED_POLICY)))
        stream.flush()
        os.fsync(stream.fileno())
    new.chmod(0o755)
    new.replace(POLICY)
    try:
        yield
    finally:
        if SAVED_POLICY.exists():
            SAVED_POLICY.replace(POLICY)
        else:
            POLICY.unlink(missing_ok=True)


def boot_id() -> str:
    return BOOT_ID.read_text(encoding="utf-8").strip()


def damaged_packages() -> set[str]:
    try:
        return core.not_on_disk(UNSYNCED.read_text(encoding="utf-8"), boot_id())
    except OSError:
        return set()


def mark_unsynced(names: list[str]) -> None:
    """On the disk before the first package is."""
    UNSYNCED.parent.mkdir(parents=True, exist_ok=True)
    new = UNSYNCED.with_suffix(".new")
    with new.open("w", encoding="utf-8") as stream:
        stream.write(core.unsynced_marker(boot_id(), names))
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(UNSYNCED)
    folder = os.open(UNSYNCED.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sync() -> None:
    os.sync()
    UNSYNCED.unlink(missing_ok=True)


def control_text(path: Path) -> str:
    """The control file of a package: an ar archive whose second member is a compressed tar archive."""
    with path.open("rb") as stream:
        if stream.read(8) != b"!<arch>\n":
            raise ValueError("no ar archive")
        while header := stream.read(60):
            name, size = header[:16].decode("ascii").rstrip(" /"), int(header[48:58])
            content = stream.read(size + size % 2)
            if name.startswith("control.tar"):
                with tarfile.open(fileobj=io.BytesIO(content[:size])) as archive:
                    for member in archive:
                        text = archive.extractfile(member) if member.name in ("control", "./control") else None
                        if text is not None:
                            return text.read().decode("utf-8")
                break
    raise ValueError("it holds no control file")


class Host:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def run(self, command: list[str], **options: Any) -> tuple[int, str, str]:
        rc, out, err = self.module.run_command(command, **options)
        return int(rc), str(out), str(err)

    def select(self, packages: Sequence[core.Package], damaged: Collection[str] = ()) -> core.Selection:
        query = "${Package}\t${Version}\t${db:Status-Abbrev}\t${Provides}\n"
        rc, out, err = self.run(["dpkg-query", "--show", f"--showformat={query}"])
        if rc != 0:
            raise core.PackagesError(f"dpkg-query failed (rc {rc}): {err.strip()}")
        return core.select(packages, core.installed_versions(out), core.provided_names(out), damaged)

    def relations(self, path: Path) -> core.Relations:
        """What a package file says of others; read here, for dpkg-deb needs two processes for each."""
        try:
            return core.relations(control_text(path))
        except (OSError, ValueError, tarfile.TarError, lzma.LZMAError):  # another form, such as Ubuntu's zstd
            rc, out, err = self.run(["dpkg-deb", "--field", str(path), "Pre-Depends", "Depends", "Provides"])
            if rc != 0:
                raise core.PackagesError(f"{path} is no package that dpkg can read: {err.strip()}") from None
            return core.relations(out)

    def running_services(self) -> list[str]:
        command = ["systemctl", "list-units", "--type=service", "--state=active", "--plain", "--no-legend"]
        rc, out, _err = self.run(command)
        return [line.split()[0] for line in out.splitlines() if line.split()] if rc == 0 else []

    def install(self, selection: core.Selection, folder: Path) -> None:
        # A package that others need before they can be unpacked is a library.
        ordered = sorted(selection.install, key=lambda package: (not package.name.startswith("lib"), package.name))
        command = ["dpkg", "--install", "--force-confold", "--force-confdef", "--force-unsafe-io"]
        if not self.module.params["documentation"]:
            command += DOCUMENTATION_PATHS
        environment = {
            "DEBIAN_FRONTEND": "noninteractive",
            "DPKG_FRONTEND_LOCKED": "true",
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        # Where nothing is upgraded no service has to be restarted, so systemd need not reload for every
        # single package: it reads new units when they are first used.
        quiet = all(not version for version in selection.before.values())
        if quiet:
            environment["SYSTEMD_OFFLINE"] = "1"
        files = [str(folder / package.path) for package in ordered]
        with dpkg_lock(self.module.params["lock_timeout"]), no_new_services(self.running_services()):
            mark_unsynced([package.name for package in ordered])
            rc, out, err = self.run([*command, *files], environ_update=environment)
        # dpkg was told not to wait for the disk after every file; once, at the end, is enough.
        sync()
        unfinished = self.select(selection.install).install
        if rc != 0 or unfinished:
            tail = "\n".join([*out.splitlines()[-10:], *err.splitlines()[-20:]])
            names = ", ".join(package.name for package in unfinished) or "none"
            raise core.PackagesError(f"dpkg failed (rc {rc}); not installed: {names}. It said:\n{tail}")
        unused = [UNUSED_SERVICES[name] for name in UNUSED_SERVICES if selection.before.get(name) == ""]
        if unused:
            rc, _out, err = self.run(["systemctl", "--no-reload", "--quiet", "disable", *unused])
            if rc != 0:
                self.module.warn(f"{', '.join(unused)} could not be disabled: {err.strip()}")


def work(module: AnsibleModule) -> dict[str, Any]:
    host, params = Host(module), module.params
    here = core.distribution(Path("/etc/os-release").read_text(encoding="utf-8"))
    folder = Path(params["bundle"]).resolve()
    manifest = read_manifest(folder)
    if manifest is None:
        if module.check_mode:
            sentence = f"install the packages that the bundle holds for {here} and the host lacks"
            return {"changed": True, "changes": [sentence], "distribution": here}
        raise core.PackagesError(f"there is no bundle in {folder}: run the bundle role first")
    core.packages_for(manifest, here, params["names"])  # all that are named are there
    packages = core.packages_for(manifest, here)
    if not packages:
        found = {name: module.get_bin_path(name, opt_dirs=SYSTEM_FOLDERS) for name in params["commands"]}
        missing = core.missing_commands(found)
        if missing:
            offered = {part.distribution for part in manifest.parts if part.kind == "package"}
            raise core.PackagesError(core.no_packages_problem(here, offered, missing))
        return {"changed": False, "changes": [], "distribution": here}
    selection = host.select(packages, damaged_packages())
    if params["names"] or selection.before.keys() & set(params["without"]):
        told = {package.name: host.relations(folder / package.path) for package in selection.install}
        selection = core.narrowed(selection, told, params["names"], params["without"])
    if selection.install and not module.check_mode:
        host.install(selection, folder)
    elif UNSYNCED.exists() and not module.check_mode:
        sync()  # of a run that was killed
    return {
        "changed": bool(selection.install),
        "changes": list(selection.changes),
        "distribution": here,
        "diff": [core.difference(selection)] if selection.install else [],
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        result = work(module)
    except (core.PackagesError, BundleError, OSError, ValueError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
