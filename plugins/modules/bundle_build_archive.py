#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_build_archive
short_description: Write the bundle of all that was built
version_added: "1.0.0"
description:
  - Writes one C(.tar.gz) archive with a manifest and all parts, its checksum beside it, and, for the version that Debian
    has, the link C(lab.tar.gz) to it. The same parts give the same bytes.
  - Nothing is written if the same bundle is there.
author:
  - multinic.kubernetes contributors (@multinic)
extends_documentation_fragment:
  - multinic.kubernetes._attributes
  - multinic.kubernetes._bundle_build
options:
  destination:
    description:
      - The folder of finished bundles.
    type: path
    required: true
  missing:
    description:
      - What the bundle does not hold although a complete one would, for its manifest.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - What is missing.
        type: str
        required: true
      reason:
        description:
          - Why, and what a person can do.
        type: str
        required: true
  compression_level:
    description:
      - From 1, the fastest, to 9, the smallest.
    type: int
    choices: [1, 2, 3, 4, 5, 6, 7, 8, 9]
    default: 5
  keep_build_tree:
    description:
      - Keeps the unpacked source and Go's caches, 3 GB that only a change of the recipes can use.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details:
      - As long as parts are not built, C(check_mode) can only say that the bundle would be written.
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: The bundle is written
  multinic.kubernetes.bundle_build_archive:
    directory: /var/cache/multinic-kubernetes/build
    extras: "{{ role_path }}/files"
    destination: /var/cache/multinic-kubernetes/bundle
    missing:
      - name: calico
        reason: it is in no Debian package
"""

RETURN = r"""
path:
  description: The bundle; empty in check mode if its parts are not built.
  returned: success
  type: str
  sample: /var/cache/multinic-kubernetes/bundle/kubernetes-v1.20.2-debian12-amd64.tar.gz
sha256:
  description: Its sha256; empty in check mode if it would be written.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
kubernetes_version:
  description: The Kubernetes version that it holds.
  returned: success
  type: str
  sample: v1.20.2
missing:
  description: What the bundle does not hold, and why.
  returned: success
  type: list
  elements: dict
  sample:
    - name: calico
      reason: it is in no Debian package
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError, Missing
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import BUILD_ARGUMENTS
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build_modules import workshop_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **BUILD_ARGUMENTS,
            "destination": {"type": "path", "required": True},
            "missing": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "reason": {"type": "str", "required": True},
                },
            },
            "compression_level": {"type": "int", "choices": list(range(1, 10)), "default": 5},
            "keep_build_tree": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        workshop, host = workshop_of(module.params)
    except BundleError as exc:
        module.fail_json(msg=str(exc))
    missing = [Missing(item["name"], item["reason"]) for item in module.params["missing"]]
    destination = Path(module.params["destination"])
    try:
        if module.check_mode and workshop.unfinished(host):
            module.exit_json(changed=True, path="", sha256="", kubernetes_version="", missing=module.params["missing"])
        before = workshop.bundle_sha256()
        level = module.params["compression_level"]
        if module.check_mode:
            manifest, path, sha256, changed = workshop.write(destination, host, missing, level, check=True)
        else:
            with workshop.alone():
                manifest, path, sha256, changed = workshop.write(destination, host, missing, level)
                if not module.params["keep_build_tree"]:
                    changed = workshop.tidy() or changed
    except (BundleError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=changed,
        path=str(path),
        sha256=sha256,
        kubernetes_version=manifest.kubernetes_version,
        missing=[{"name": item.name, "reason": item.reason} for item in manifest.missing],
        diff={
            "before": {"sha256": before},
            "after": {"sha256": sha256 or "known when it is written"},
        },
    )


if __name__ == "__main__":
    main()
