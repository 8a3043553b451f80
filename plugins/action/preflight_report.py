# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from datetime import datetime, timezone
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, count, headline, ordered
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain
from ansible_collections.multinic.kubernetes.plugins.module_utils._page import page
from ansible_collections.multinic.kubernetes.plugins.module_utils._probe import judge
from ansible_collections.multinic.kubernetes.plugins.module_utils._report import report_text
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._controller_file import write_whole
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._plan_input import facts_of, failed, trouble_of


class ActionModule(ActionBase):
    """Compares all hosts' measurements with the plan, tells everything at once, and fails if there is an error."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("findings", "probe_result", "path", "page"))

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "findings": {"type": "list", "elements": "dict", "default": []},
                "probe_result": {"type": "str", "default": ""},
                "path": {"type": "path"},
                "page": {"type": "path"},
            }
        )
        variables = task_vars or {}
        plan = plain((variables.get("ansible_facts") or {}).get("cluster_plan") or {})
        facts: dict[str, dict[str, t.Any]] = {}
        probes: dict[str, dict[str, t.Any]] = {}
        troubles: dict[str, str] = {}
        for name in plan.get("hosts", {}):
            mine = variables["hostvars"][name]
            facts[name] = facts_of(mine) or {}
            result = plain(mine.get(args["probe_result"])) if args["probe_result"] else None
            if failed(result):
                troubles[name] = trouble_of(result, mine.get("ansible_host"))
            elif result:
                probes[name] = result.get("network_probe") or {}
        findings = ordered(
            [
                *(Finding.from_dict(item) for item in plain(args["findings"])),
                *judge(plan, facts, probes, troubles, only=plain(variables.get("ansible_play_hosts_all"))),
            ]
        )
        text = report_text(plan, facts, findings)
        if args["path"] and not self._task.check_mode:
            _write(Path(args["path"]), plan, findings)
        self._display.display(text)
        written: dict[str, str] = {}
        if args["page"] and not self._task.check_mode:
            report = {
                "plan": plan,
                "facts": {**_facts_of_all(variables), **facts},
                "probes": probes,
                "findings": findings,
                "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            }
            written["page"] = _write_page(Path(args["page"]), page(report))
            self._display.display(f"The report as a page, with a drawing: {written['page']}\n")
        if count(findings)["error"]:
            raise AnsibleActionFail(f"Preflight found {headline(findings)} (see above). Nothing has been changed.")
        return {
            "changed": False,
            "findings": [finding.as_dict() for finding in findings],
            "report": text,
            "msg": headline(findings),
            **written,
        }


def _facts_of_all(variables: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """The facts of the play's hosts. Those that could not be planned are drawn too."""
    known = {name: facts_of(variables["hostvars"][name]) for name in variables.get("ansible_play_hosts_all") or ()}
    return {str(name): found for name, found in known.items() if found}


def _write_page(path: Path, text: str) -> str:
    """Write the page on the controller; returns where it is."""
    try:
        write_whole(path, text)
    except OSError as problem:
        raise AnsibleActionFail(f"The page cannot be written to {path}: {problem.strerror}") from problem
    return str(path.resolve())


def _write(path: Path, plan: t.Mapping[str, t.Any], findings: t.Sequence[Finding]) -> None:
    """The report as data, on the controller."""
    data = {"findings": [finding.as_dict() for finding in findings], "plan": plan}
    try:
        path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as problem:
        raise AnsibleActionFail(f"The report cannot be written to {path}: {problem.strerror}") from problem
