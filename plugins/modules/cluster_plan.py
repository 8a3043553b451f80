#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_plan
short_description: Plan every address of the cluster, once for all hosts
version_added: "1.0.0"
author: "multinic.kubernetes contributors (@multinic)"
description:
  - An action that runs on the controller, once for all hosts. It reads the inventory's groups, each host's variables and
    the facts of M(multinic.kubernetes.network_facts), and the bundle's manifest.
  - It decides the cluster's card and address on each host, the VIP's route, MTU, Calico's method, certificate names and
    versions. Each choice has a reason. No other code decides an address.
  - It does not fail for bad input. What is wrong is in RV(findings), all at once; M(multinic.kubernetes.preflight_report)
    shows them and ends the run.
  - Use it with C(run_once=true), so that all hosts get the fact C(cluster_plan).
extends_documentation_fragment: [multinic.kubernetes._attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  control_plane_group:
    description: The inventory's group of control-plane hosts.
    type: str
    default: kube_control_plane
  node_group:
    description: The inventory's group of hosts that run ordinary pods.
    type: str
    default: kube_node
  facts_result:
    description: The variable in which each host's result of C(network_facts) is registered. It tells why a host has none.
    type: str
    default: ""
  others:
    description:
      - Results of a task that ran M(multinic.kubernetes.network_facts) in a loop over the cluster's hosts that are not in the
        play, as when the run is limited. Without them such hosts are findings, since the plan is the whole cluster's.
    type: list
    elements: dict
    default: []
  running:
    description:
      - The cluster runs already, whoever installed it. Only its addresses are planned; the bundle is not looked at, and
        what would stand in the way of an installation is not told.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: The cluster is planned
  multinic.kubernetes.cluster_plan:
  run_once: true
  register: planned
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to C(ansible_facts) of all hosts.
  returned: always
  type: dict
  contains:
    cluster_plan:
      description: The plan. It is empty if there is no usable control-plane host.
      returned: always
      type: dict
      sample:
        schema: 1
        kubernetes_version: v1.20.2
        apiserver:
          name: apiserver.cluster.local
          vip: 10.103.97.2
          vips: [10.103.97.2]
          addresses: [10.103.97.2]
          port: 6443
          endpoint: apiserver.cluster.local:6443
          balancer: ipvs
          sans: [apiserver.cluster.local, 10.103.97.2]
          real_servers: [192.168.253.129]
          virtual_servers:
            - vip: 10.103.97.2
              real_servers: [192.168.253.129]
        hosts:
          master1:
            node_name: master1
            role: control_plane
            schedulable: false
            interface: ens32
            address: 192.168.253.129
            addresses: [192.168.253.129]
            prefix: 24
            network: 192.168.253.0/24
            networks: [192.168.253.0/24]
            mtu: 1500
            vip_route: {destination: 10.103.97.2/32, source: 192.168.253.129}
            vip_routes:
              - {destination: 10.103.97.2/32, source: 192.168.253.129}
            sysctls: {}
            reasons: ["ens32 holds 192.168.253.129, inside 192.168.253.0/24."]
findings:
  description: What was found, errors first. Each tells host, variable, what was found, why it matters and what to do.
  returned: always
  type: list
  elements: dict
  sample:
    - severity: error
      host: master1
      variable: cluster_network
      found: 192.158.253.1 is reached only through the default route, 192.168.160.1 on ens33 (192.168.160.243/23)
      why: An address that is not on-link leads to the default route's card, not to the cluster's.
      remedy: "Set cluster_network: 192.168.253.1 (or 192.168.253.0/24)"
"""
