#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_build_image
short_description: Pack one container image of a bundle
version_added: "1.0.0"
description:
  - Packs a container image of one layer as a docker archive, unless the build folder holds it already.
  - Needs no container engine. The image has the name that the built kubeadm asks for.
author:
  - multinic.kubernetes contributors (@multinic)
extends_documentation_fragment:
  - multinic.kubernetes._attributes
  - multinic.kubernetes._bundle_build
options:
  name:
    description:
      - The image, without repository and tag.
    type: str
    required: true
    choices:
      - kube-apiserver
      - kube-controller-manager
      - kube-scheduler
      - kube-proxy
      - pause
      - etcd
      - coredns
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: The image of kube-proxy is packed
  multinic.kubernetes.bundle_build_image:
    directory: /var/cache/multinic-kubernetes/build
    extras: "{{ role_path }}/files"
    name: kube-proxy
"""

RETURN = r"""
path:
  description: Where the docker archive lies; empty if it is not packed.
  returned: success
  type: str
  sample: /var/cache/multinic-kubernetes/build/parts/image/kube-proxy-0123456789abcdef/kube-proxy
images:
  description: The references that the archive holds.
  returned: success
  type: list
  elements: str
  sample: ["k8s.gcr.io/kube-proxy:v1.20.2"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import BUILD_ARGUMENTS
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build_modules import workshop_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={**BUILD_ARGUMENTS, "name": {"type": "str", "required": True, "choices": list(recipe.IMAGES)}},
        supports_check_mode=True,
    )
    try:
        workshop, host = workshop_of(module.params)
    except BundleError as exc:
        module.fail_json(msg=str(exc))
    name = module.params["name"]
    try:
        source = workshop.source()
        if module.check_mode:
            made, changed = None, name in workshop.plan(host)["images"]
        elif source is None:
            module.fail_json(
                msg="the source package is not fetched yet: multinic.kubernetes.bundle_build_sources does that"
            )
        else:
            with workshop.alone():
                made, changed = workshop.build_image(name, source, host)
    except (BundleError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=changed,
        path=made.path if made else "",
        images=list(made.images) if made else [],
        diff={
            "before": f"the image {name} is not packed\n" if changed else "",
            "after": f"the image {name} is packed\n" if changed else "",
        },
    )


if __name__ == "__main__":
    main()
