#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_images
short_description: Imports the images of a bundle into containerd
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Imports the archives that hold images this host needs and containerd lacks. What is there already is not read again.
  - Waits for containerd's socket, so that it may be called right after containerd was started.
  - With O(background) the import goes on in a transient unit of systemd after the module has returned. Any later call
    without it waits for its end, and imports what that did not.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
    details:
      - As long as the host has no bundle or no containerd, its images are predicted as a whole.
  diff_mode:
    support: full
options:
  bundle:
    description: Folder of the unpacked bundle.
    type: path
    default: /var/lib/multinic/bundle/current
  roles:
    description: Roles of this host; only images that one of them needs are imported. Empty means all.
    type: list
    elements: str
    choices: [control_plane, worker]
    default: []
  namespace:
    description: Namespace of containerd. Kubernetes sees the images of V(k8s.io).
    type: str
    default: k8s.io
  socket:
    description: Socket of containerd.
    type: path
    default: /run/containerd/containerd.sock
  parallel:
    description: How many archives are imported at the same time.
    type: int
    default: 2
  timeout:
    description: Seconds to wait for containerd to answer.
    type: int
    default: 60
  background:
    description: Only begin the import, one archive after the other, and leave it to systemd.
    type: bool
    default: false
  background_timeout:
    description: Seconds to wait for an import that an earlier call has begun.
    type: int
    default: 900
"""

EXAMPLES = r"""
- name: The images of a control plane are in containerd
  multinic.kubernetes.container_images:
    roles: [control_plane]
"""

RETURN = r"""
imported:
  description: Images that were, or in check mode would be, imported.
  returned: success
  type: list
  elements: str
  sample: ["k8s.gcr.io/kube-apiserver:v1.20.2", "k8s.gcr.io/pause:3.2"]
pending:
  description: Whether an import goes on in the background.
  returned: success
  type: bool
  sample: false
"""

import concurrent.futures
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _images as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_here import read_manifest
from ansible_collections.multinic.kubernetes.plugins.module_utils._unpack import CURRENT, ROOT

ARGUMENT_SPEC: dict[str, Any] = {
    "bundle": {"type": "path", "default": f"{ROOT}/{CURRENT}"},
    "roles": {"type": "list", "elements": "str", "choices": ["control_plane", "worker"], "default": []},
    "namespace": {"type": "str", "default": "k8s.io"},
    "socket": {"type": "path", "default": "/run/containerd/containerd.sock"},
    "parallel": {"type": "int", "default": 2},
    "timeout": {"type": "int", "default": 60},
    "background": {"type": "bool", "default": False},
    "background_timeout": {"type": "int", "default": 900},
}

UNIT = "multinic-image-import.service"
# systemd keeps a transient unit's file as long as it has the unit, and forgets a collected one when it has ended.
UNIT_FILE = Path("/run/systemd/transient", UNIT)
# All are tried, also after one that failed: what is left is imported, or complained of, by the call that waits.
ONE_AFTER_THE_OTHER = (
    'for archive; do "$0" --address "$ADDRESS" --namespace "$NAMESPACE" images import "$archive"; done'
)


class Containerd:
    def __init__(self, module: AnsibleModule, program: str) -> None:
        self.module = module
        params = module.params
        self.program = program
        self.command = [program, "--address", params["socket"], "--namespace", params["namespace"], "images"]

    def run(self, *arguments: str) -> tuple[int, str]:
        rc, out, err = self.module.run_command([*self.command, *arguments])
        return int(rc), str(out if rc == 0 else err or out)

    def images(self) -> set[str]:
        """The names of all images, as soon as containerd answers."""
        socket, seconds = Path(self.module.params["socket"]), self.module.params["timeout"]
        deadline = time.monotonic() + seconds
        answer = f"{socket} does not exist"
        while time.monotonic() < deadline:
            if socket.exists():
                rc, answer = self.run("list", "--quiet")
                if rc == 0:
                    return set(answer.split())
            time.sleep(0.2)
        raise core.ImagesError(
            f"containerd did not answer on {socket} within {seconds} s: {answer.strip()}. "
            "See `systemctl status containerd` and `journalctl -u containerd` on this host."
        )

    def load(self, archive: Path) -> str:
        """Import one archive; the error, or nothing."""
        rc, answer = self.run("import", str(archive))
        return "" if rc == 0 else f"{archive} could not be imported (rc {rc}): {answer.strip()}"

    def begin(self, folder: Path, archives: list[core.Archive]) -> bool:
        """Leave the import to systemd; false where there is none that could."""
        run = self.module.get_bin_path("systemd-run")
        if run is None:
            return False
        params = self.module.params
        command = [run, "--quiet", "--collect", "--no-block", f"--unit={UNIT}"]
        command += ["--description=Import of the bundle's images", "--property=Nice=5"]
        command += [f"--setenv=ADDRESS={params['socket']}", f"--setenv=NAMESPACE={params['namespace']}"]
        command += ["--", "/bin/sh", "-c", ONE_AFTER_THE_OTHER, self.program]
        rc, _out, _err = self.module.run_command([*command, *(str(folder / archive.path) for archive in archives)])
        return int(rc) == 0

    def load_all(self, folder: Path, archives: list[core.Archive]) -> None:
        workers = max(1, self.module.params["parallel"])
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            problems = list(pool.map(lambda archive: self.load(folder / archive.path), archives))
        if any(problems):
            raise core.ImagesError("; ".join(problem for problem in problems if problem))


def await_background(seconds: int) -> None:
    """Until no import goes on any more that an earlier call has begun."""
    deadline = time.monotonic() + seconds
    while UNIT_FILE.exists():
        if time.monotonic() > deadline:
            raise core.ImagesError(
                f"{UNIT} has not ended within {seconds} s. See `systemctl status {UNIT}` and `journalctl -u {UNIT}`."
            )
        time.sleep(0.2)


def work(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    folder = Path(params["bundle"]).resolve()
    manifest = read_manifest(folder)
    program = module.get_bin_path("ctr", opt_dirs=["/usr/local/bin", "/usr/local/sbin"])
    if manifest is None:
        if module.check_mode:
            return {"changed": True, "imported": ["the images of the bundle that the host lacks"], "pending": False}
        raise core.ImagesError(f"there is no bundle in {folder}: run the bundle role first")
    reachable = program is not None and (not module.check_mode or Path(params["socket"]).exists())
    if program is None and not module.check_mode:
        raise core.ImagesError("ctr is not installed: run the node role first")
    containerd = Containerd(module, program or "ctr")
    if not module.check_mode and not params["background"]:
        await_background(params["background_timeout"])
    archives = core.archives_to_import(manifest, params["roles"], containerd.images() if reachable else ())
    pending = False
    if archives and not module.check_mode and params["background"]:
        pending = UNIT_FILE.exists() or containerd.begin(folder, archives)
    if archives and not module.check_mode and not pending:
        containerd.load_all(folder, archives)
        left = core.archives_to_import(manifest, params["roles"], containerd.images())
        if left:
            names = ", ".join(name for archive in left for name in archive.missing)
            raise core.ImagesError(f"after the import containerd still lacks {names}: the archives hold other names")
    return {
        "changed": bool(archives),
        "imported": sorted(name for archive in archives for name in archive.missing),
        "pending": pending,
        "diff": [core.difference(archives)] if archives else [],
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        result = work(module)
    except (core.ImagesError, BundleError, OSError, ValueError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
