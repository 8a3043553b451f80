#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_report
short_description: Tell which address every component of a running cluster really uses, and what is wrong
version_added: "1.0.0"
author: "multinic.kubernetes contributors (@multinic)"
description:
  - An action that runs on the controller, once for all hosts. It compares what M(multinic.kubernetes.network_facts),
    M(multinic.kubernetes.network_probe), M(multinic.kubernetes.cluster_status) and M(multinic.kubernetes.component_status)
    told of each host with the fact C(cluster_plan), and prints the addresses with all findings.
  - It fails if any finding is an error, after the report is written.
extends_documentation_fragment: [multinic.kubernetes._attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It changes nothing on any host.
options:
  findings:
    description: Findings of M(multinic.kubernetes.cluster_plan), made with O(multinic.kubernetes.cluster_plan#module:running=true).
    type: list
    elements: dict
    default: []
  probe_result:
    description: The variable in which each host's result of M(multinic.kubernetes.network_probe) is registered.
    type: str
    default: ""
  status_result:
    description: The variable in which each host's result of M(multinic.kubernetes.cluster_status) is registered.
    type: str
    default: ""
  components_result:
    description: The variable in which each host's result of M(multinic.kubernetes.component_status) is registered.
    type: str
    default: ""
  path:
    description: A file on the controller for the whole report as JSON. It is not written in check mode.
    type: path
  page:
    description: A file on the controller for the report as one HTML page. It is not written in check mode.
    type: path
seealso:
  - module: multinic.kubernetes.cluster_verdict
  - module: multinic.kubernetes.preflight_report
"""

EXAMPLES = r"""
- name: All findings are told, and none is an error
  multinic.kubernetes.doctor_report:
    findings: "{{ planned.findings }}"
    probe_result: probed
    status_result: seen
    components_result: components
  run_once: true
"""

RETURN = r"""
findings:
  description: All findings, errors first.
  returned: success
  type: list
  elements: dict
components:
  description: Of each host the addresses that its components use. C(as_planned) is nothing where there is none to compare.
  returned: success
  type: dict
  sample:
    node01:
      - component: kubelet
        what: --node-ip
        uses: [192.168.253.131]
        planned: [192.168.253.131]
        card: ens32
        as_planned: true
report:
  description: The text that was printed.
  returned: success
  type: str
path:
  description: Where the report as data was written.
  returned: when written
  type: str
page:
  description: Where the page was written.
  returned: when written
  type: str
"""
