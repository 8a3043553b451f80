# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import headline
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._plan_input import plan_inventory


class ActionModule(ActionBase):
    """Plans the cluster once for all hosts, on the controller."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("control_plane_group", "node_group", "facts_result", "others", "running"))

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "control_plane_group": {"type": "str", "default": "kube_control_plane"},
                "node_group": {"type": "str", "default": "kube_node"},
                "facts_result": {"type": "str", "default": ""},
                "others": {"type": "list", "elements": "dict", "default": []},
                "running": {"type": "bool", "default": False},
            }
        )
        result = plan_inventory(
            task_vars or {},
            args["control_plane_group"],
            args["node_group"],
            args["facts_result"],
            plain(args["others"]),
            running=args["running"],
        )
        return {
            "changed": False,
            "ansible_facts": {"cluster_plan": result.plan},
            "findings": [finding.as_dict() for finding in result.findings],
            "msg": headline(result.findings),
        }
