# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils import _verify as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import count, headline, ordered
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain


class ActionModule(ActionBase):
    """Compares what all hosts saw with the plan, tells how the cluster stands, and fails if there is an error."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("status_result", "cluster", "trouble", "access", "stats", "path"))

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "status_result": {"type": "str", "required": True},
                "cluster": {"type": "dict", "default": {}},
                "trouble": {"type": "list", "elements": "str", "default": []},
                "access": {"type": "str", "default": ""},
                "stats": {"type": "bool", "default": False},
                "path": {"type": "path"},
            }
        )
        variables = task_vars or {}
        plan = plain((variables.get("ansible_facts") or {}).get("cluster_plan") or {})
        if not plan:
            raise AnsibleActionFail(
                "There is no plan to compare with: run the preflight role first, it makes the plan."
            )
        results = {
            name: plain(variables["hostvars"][name].get(args["status_result"]) or {})
            for name in plan["hosts"]
            if name in variables["hostvars"]
        }
        cluster = plain(args["cluster"])
        if not cluster and not any(result.get("member") for result in results.values()):
            text = core.nothing_yet(plan)
            self._display.display(text)
            return {"changed": False, "findings": [], "rows": [], "tested": [], "untested": [], "report": text}
        seen = {name: result["status"] for name, result in results.items() if "status" in result}
        verdict = core.compare(plan, cluster, seen, plain(args["trouble"]))
        findings = ordered(verdict.findings)
        first = plan["first_control_plane"]
        access = args["access"] or core.ssh_command(variables["hostvars"][first], first)
        text = core.summary(plan, verdict, access)
        told = core.told(findings)
        result: dict[str, Any] = {
            "changed": False,
            "findings": [finding.as_dict() for finding in findings],
            "rows": verdict.rows,
            "tested": verdict.tested,
            "untested": verdict.untested,
            "report": f"{text}\n\n{told}" if told else text,
        }
        if args["path"] and not self._task.check_mode:
            _write(Path(args["path"]), result)
        self._display.display("\n" + result["report"] + "\n")
        if count(findings)["error"]:
            raise AnsibleActionFail(f"The cluster is not what was planned: {headline(findings)} (see above).")
        if args["stats"]:
            data = {"multinic_cluster": {key: result[key] for key in ("rows", "findings", "tested", "untested")}}
            result["ansible_stats"] = {"data": data, "per_host": False, "aggregate": True}
        return result


def _write(path: Path, result: Mapping[str, Any]) -> None:
    """The verdict as data, on the controller."""
    try:
        path.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as problem:
        raise AnsibleActionFail(f"The verdict cannot be written to {path}: {problem.strerror}") from problem
