#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_build_info
short_description: Tell what of a bundle has still to be built
version_added: "1.0.0"
description:
  - Looks into a build folder and tells which parts of the bundle are not there yet, or were built from other inputs.
author:
  - multinic.kubernetes contributors (@multinic)
extends_documentation_fragment:
  - multinic.kubernetes._attributes
  - multinic.kubernetes._bundle_build
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: multinic.kubernetes.bundle_build_archive
"""

EXAMPLES = r"""
- name: What has still to be built is known
  multinic.kubernetes.bundle_build_info:
    directory: /var/cache/multinic-kubernetes/build
    extras: "{{ role_path }}/files"
  register: remaining
"""

RETURN = r"""
source:
  description: Whether the source package has still to be fetched.
  returned: success
  type: bool
  sample: false
packages:
  description: Whether Debian packages have still to be fetched.
  returned: success
  type: bool
  sample: false
binaries:
  description: The programs that have still to be built, in the order in which they can be.
  returned: success
  type: list
  elements: str
  sample: [kubeadm, kubelet]
images:
  description: The images that have still to be packed.
  returned: success
  type: list
  elements: str
  sample: [kube-proxy]
tools:
  description: The Debian packages with tools of the build that this machine lacks, if anything is left to build.
  returned: success
  type: list
  elements: str
  sample: [rsync]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import BUILD_ARGUMENTS
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build_modules import workshop_of


def main() -> None:
    module = AnsibleModule(argument_spec=BUILD_ARGUMENTS, supports_check_mode=True)
    try:
        workshop, host = workshop_of(module.params)
    except BundleError as exc:
        module.fail_json(msg=str(exc))
    try:
        remaining = workshop.plan(host)
    except (BundleError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, **remaining)


if __name__ == "__main__":
    main()
