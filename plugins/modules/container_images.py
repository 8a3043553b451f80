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
}


class Containerd:
    def __init__(self, module: AnsibleModule, program: str) -> None:
        self.module = module
        params = module.params
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

    def load_all(self, folder: Path, archives: list[core.Archive]) -> None:
        workers = max(1, self.module.params["parallel"])
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            problems = list(pool.map(lambda archive: self.load(folder / archive.path), archives))
        if any(problems):
            raise core.ImagesError("; ".join(problem for problem in problems if problem))


def work(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    folder = Path(params["bundle"]).resolve()
    manifest = read_manifest(folder)
    program = module.get_bin_path("ctr", opt_dirs=["/usr/local/bin", "/usr/local/sbin"])
    if manifest is None:
        if module.check_mode:
            return {"changed": True, "imported": ["the images of the bundle that the host lacks"]}
        raise core.ImagesError(f"there is no bundle in {folder}: run the bundle role first")
    reachable = program is not None and (not module.check_mode or Path(params["socket"]).exists())
    if program is None and not module.check_mode:
        raise core.ImagesError("ctr is not installed: run the node role first")
    containerd = Containerd(module, program or "ctr")
    archives = core.archives_to_import(manifest, params["roles"], containerd.images() if reachable else ())
    if archives and not module.check_mode:
        containerd.load_all(folder, archives)
        left = core.archives_to_import(manifest, params["roles"], containerd.images())
        if left:
            names = ", ".join(name for archive in left for name in archive.missing)
            raise core.ImagesError(f"after the import containerd still lacks {names}: the archives hold other names")
    return {
        "changed": bool(archives),
        "imported": sorted(name for archive in archives for name in archive.missing),
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
