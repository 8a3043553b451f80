#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Tell everything that plan and proof found, at once
version_added: "1.0.0"
author: "multinic.kubernetes contributors (@multinic)"
description:
  - An action that runs on the controller, once for all hosts. It compares the measurements of
    M(multinic.kubernetes.network_probe) and the facts of all hosts with the plan, and prints the plan and all findings.
  - It fails if any finding is an error.
extends_documentation_fragment: [multinic.kubernetes._attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  findings:
    description: Findings of M(multinic.kubernetes.cluster_plan), to be told together with those of the proof.
    type: list
    elements: dict
    default: []
  probe_result:
    description: The variable in which each host's result of M(multinic.kubernetes.network_probe) is registered.
    type: str
    default: ""
  path:
    description: A file on the controller for plan and findings as JSON. It is not written in check mode.
    type: path
  page:
    description:
      - A file on the controller for the whole report as one HTML page that needs nothing else, with a drawing of hosts, cards
        and networks and a matrix of all pairs. Its folder is made.
      - It is also written if there are errors, and not in check mode.
    type: path
"""

EXAMPLES = r"""
- name: All findings are told, and none is an error
  multinic.kubernetes.preflight_report:
    findings: "{{ planned.findings }}"
    probe_result: probed
    page: reports/preflight.html
  run_once: true
"""

RETURN = r"""
findings:
  description: All findings, errors first.
  returned: success
  type: list
  elements: dict
report:
  description: The text that was printed.
  returned: success
  type: str
page:
  description: Where the page was written.
  returned: success, if O(page) is given and it is not check mode
  type: str
  sample: /home/me/prod/reports/preflight.html
"""
