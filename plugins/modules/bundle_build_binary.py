#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_build_binary
short_description: Build one program of a bundle
version_added: "1.0.0"
description:
  - Builds one program, unless the build folder holds it already.
  - Kubernetes' programs and C(pause) come from Debian's source package, C(coredns) from the Go module proxy, C(crictl)
    from there too or, where the proxy does not serve it, from a small source in this collection.
  - For any other O(kubernetes_version) all of them come from the Go module proxy, and C(etcd) and C(etcdctl) too, which
    are a Debian package otherwise.
  - If the Go module proxy does not serve what C(coredns) or C(crictl) is built from, it is told as RV(missing). Whatever else goes
    wrong is an error.
author:
  - multinic.kubernetes contributors (@multinic)
extends_documentation_fragment:
  - multinic.kubernetes._attributes
  - multinic.kubernetes._bundle_build
options:
  name:
    description:
      - The program.
    type: str
    required: true
    choices:
      - kubeadm
      - kubelet
      - kubectl
      - kube-apiserver
      - kube-controller-manager
      - kube-scheduler
      - kube-proxy
      - crictl
      - pause
      - etcd
      - etcdctl
      - coredns
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Kubeadm is built
  multinic.kubernetes.bundle_build_binary:
    directory: /var/cache/multinic-kubernetes/build
    extras: "{{ role_path }}/files"
    name: kubeadm
"""

RETURN = r"""
path:
  description: Where the program lies; empty if it is not built.
  returned: success
  type: str
  sample: /var/cache/multinic-kubernetes/build/parts/binary/kubeadm-0123456789abcdef/kubeadm
version:
  description: Its version.
  returned: success
  type: str
  sample: v1.20.2
origin:
  description: What it was built from.
  returned: success
  type: str
  sample: Debian source package kubernetes 1.20.5+really1.20.2-1.1+deb12u1, built with Go 1.19
missing:
  description: The program and the reason, if it is one that a bundle can do without and its modules could not be had.
  returned: success
  type: dict
  sample: {}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_modules as modules
from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import (
    BUILD_ARGUMENTS,
    DownloadError,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build_modules import workshop_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={**BUILD_ARGUMENTS, "name": {"type": "str", "required": True, "choices": list(modules.BINARIES)}},
        supports_check_mode=True,
    )
    try:
        workshop, _host = workshop_of(module.params)
    except BundleError as exc:
        module.fail_json(msg=str(exc))
    name = module.params["name"]
    try:
        source = workshop.source()
        if source is None and not module.check_mode:
            module.fail_json(
                msg="the source package is not fetched yet: multinic.kubernetes.bundle_build_sources does that"
            )
        if source is None:
            made, changed = None, True
        elif module.check_mode:
            made = workshop.made("binary", name, workshop.binary_key(name, source))
            changed = made is None
        else:
            with workshop.alone():
                made, changed = workshop.build_binary(name, source)
    except (BundleError, OSError) as exc:
        if name not in recipe.OPTIONAL_BINARIES or not isinstance(exc, DownloadError):
            module.fail_json(msg=str(exc))
        reason = " ".join(str(exc).split())
        module.warn(f"the bundle will be without {name}: {reason}")
        module.exit_json(changed=False, path="", version="", origin="", missing={"name": name, "reason": reason})
    module.exit_json(
        changed=changed,
        path=made.path if made else "",
        version=made.version if made else "",
        origin=made.origin if made else "",
        missing={},
        diff={"before": f"{name} is not built\n" if changed else "", "after": f"{name} is built\n" if changed else ""},
    )


if __name__ == "__main__":
    main()
