#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_build_sources
short_description: Fetch what a bundle is built from
version_added: "1.0.0"
description:
  - Fetches Debian's source package of Kubernetes, or asks for the Go module of another O(kubernetes_version),
    the packages for the hosts with their dependencies, and those for
    the images.
  - The package mirrors are the machine's own. Their lists, with source packages, are kept in the build folder;
    the machine's own lists and configuration stay as they are.
  - Installs the tools that the build runs, if any is lacking.
author:
  - multinic.kubernetes contributors (@multinic)
extends_documentation_fragment:
  - multinic.kubernetes._attributes
  - multinic.kubernetes._bundle_build
options:
  refresh:
    description:
      - Asks the mirrors for newer versions even if all is there.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: All that the bundle is built from is here
  multinic.kubernetes.bundle_build_sources:
    directory: /var/cache/multinic-kubernetes/build
    extras: "{{ role_path }}/files"
"""

RETURN = r"""
source_version:
  description: The version of the source package or of the module; empty in check mode if it was not fetched before.
  returned: success
  type: str
  sample: 1.20.5+really1.20.2-1.1+deb12u1
kubernetes_version:
  description: The Kubernetes version that it holds; empty in check mode if it was not fetched before.
  returned: success
  type: str
  sample: v1.20.2
host_packages:
  description: The packages for a host and their versions.
  returned: success
  type: dict
  sample:
    containerd: 1.6.20~ds1-1+deb12u3
tools:
  description: The packages that were installed for the build.
  returned: success
  type: list
  elements: str
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import (
    BUILD_ARGUMENTS,
    Workshop,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build_modules import workshop_of


def state(workshop: Workshop, host: list[str]) -> dict[str, Any]:
    source = workshop.source()
    packages = workshop.packages(host) or {}
    return {
        "source_version": source.version if source else "",
        "kubernetes_version": source.kubernetes_version if source else "",
        "host_packages": {package.name: package.version for package in packages.get("host", [])},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={**BUILD_ARGUMENTS, "refresh": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    try:
        workshop, host = workshop_of(module.params)
    except BundleError as exc:
        module.fail_json(msg=str(exc))
    refresh = module.params["refresh"]
    try:
        before = state(workshop, host)
        tools = workshop.plan(host)["tools"]
        changed = bool(tools) or refresh or not before["source_version"] or not before["host_packages"]
        if changed and not module.check_mode:
            with workshop.alone():
                workshop.install_tools(tools)
                lists = workshop.prepare_apt(refresh)
                _source, fetched = workshop.fetch_source(refresh)
                _packages, more = workshop.fetch_packages(host, refresh)
            changed = bool(tools) or lists or fetched or more
        after = state(workshop, host)
    except (BundleError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=changed, tools=tools, diff={"before": before, "after": after}, **after)


if __name__ == "__main__":
    main()
