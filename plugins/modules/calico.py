#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: calico
short_description: Applies the bundle's Calico with the settings of the plan
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - An action. It reads the Calico manifests of the unpacked bundle on the host, C(calico.yaml) or the operator's, sets in
    them what the fact C(cluster_plan) says, and has M(multinic.kubernetes.kube_apply) apply them.
  - Set are the address autodetection method, the MTU of pods, the pod CIDR, the encapsulation, and the image names of the
    bundle. All else stays as the manifests have it.
  - Run it on a control plane, once for the cluster.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The difference is that of the settings.
options:
  bundle:
    description: Where the bundle is unpacked on the host.
    type: path
    default: /var/lib/multinic/bundle/current
  kubeconfig:
    description: Access to the cluster.
    type: path
    default: /etc/kubernetes/admin.conf
  bin_dir:
    description: Where kubectl is on the host, before the usual folders are searched.
    type: path
    default: /usr/local/bin
seealso:
  - module: multinic.kubernetes.kube_apply
"""

EXAMPLES = r"""
- name: Calico carries the pods' traffic
  multinic.kubernetes.calico:
  run_once: true
  delegate_to: "{{ ansible_facts['cluster_plan']['first_control_plane'] }}"
"""

RETURN = r"""
settings:
  description: What was set in the manifests.
  type: dict
  returned: success
  sample:
    autodetection method: kubernetes-internal-ip
    MTU of pods: "1480"
    pod CIDR: 100.64.0.0/10
    encapsulation: ipip
manifests:
  description: The manifests of the bundle that were used.
  type: list
  elements: str
  returned: success
  sample: [manifests/calico.yaml]
"""
