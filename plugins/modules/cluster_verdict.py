#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_verdict
short_description: Compares what was seen of a cluster with its plan, and tells how it stands
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - An action that runs on the controller, once for all hosts. It takes what M(multinic.kubernetes.cluster_status) saw on
    each host, compares it with the fact C(cluster_plan), and prints a summary with all differences.
  - It fails if any difference is an error. Where no host belongs to a cluster yet it says so and succeeds.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It changes nothing on any host.
options:
  status_result:
    description: The variable in which each host's result of M(multinic.kubernetes.cluster_status) is registered.
    type: str
    required: true
  cluster:
    description: What M(multinic.kubernetes.cluster_status) returned as C(cluster) on a control plane.
    type: dict
    default: {}
  trouble:
    description: What M(multinic.kubernetes.probe_pods) returned as C(trouble).
    type: list
    elements: str
    default: []
  access:
    description: The command that gets a person into the first control plane. Made of its connection variables unless given.
    type: str
    default: ""
  stats:
    description: Also set the summary as statistics of the run, under C(multinic_cluster), as C(set_stats) does.
    type: bool
    default: false
  path:
    description: A file on the controller for the verdict as JSON. It is not written in check mode.
    type: path
"""

EXAMPLES = r"""
- name: The cluster is what was planned
  multinic.kubernetes.cluster_verdict:
    status_result: seen
    cluster: "{{ nodes.cluster }}"
  run_once: true
"""

RETURN = r"""
findings:
  description: All differences, errors first.
  returned: success
  type: list
  elements: dict
rows:
  description: One row a host, with the address each of its components uses.
  returned: success
  type: list
  elements: dict
  sample:
    - host: node01
      node: node01
      ready: "yes"
      role: worker
      version: v1.20.2
      internal_ip: 192.168.253.131
      kubelet: 192.168.253.131
      apiserver: ""
      etcd: ""
      api_from: 192.168.253.131
      real_servers: 192.168.253.129 192.168.253.128 192.168.253.130
tested:
  description: What was seen to work.
  returned: success
  type: list
  elements: str
untested:
  description: What could not be tried, with the reason.
  returned: success
  type: list
  elements: str
report:
  description: The text that was printed.
  returned: success
  type: str
"""
