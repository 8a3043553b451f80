# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from datetime import datetime, timezone
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils import _doctor as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, count, headline
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain
from ansible_collections.multinic.kubernetes.plugins.module_utils._page import page
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._controller_file import write_whole
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._plan_input import facts_of, failed, trouble_of

RESULTS = ("probe_result", "status_result", "components_result")


class ActionModule(ActionBase):
    """Compares what all hosts told with the plan, tells everything at once, and fails if there is an error."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("findings", *RESULTS, "path", "page"))

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "findings": {"type": "list", "elements": "dict", "default": []},
                **{name: {"type": "str", "default": ""} for name in RESULTS},
                "path": {"type": "path"},
                "page": {"type": "path"},
            }
        )
        seen = self.seen(task_vars or {}, args)
        diagnosis = core.diagnose(seen)
        text = core.report_text(seen.plan, diagnosis)
        self._display.display("\n" + text)
        written = self.write(args, seen, diagnosis) if not self._task.check_mode else {}
        if count(diagnosis.findings)["error"]:
            raise AnsibleActionFail(
                f"The doctor found {headline(diagnosis.findings)} (see above). Nothing was changed."
            )
        return {
            "changed": False,
            "findings": [finding.as_dict() for finding in diagnosis.findings],
            "components": {name: [use.as_dict() for use in uses] for name, uses in diagnosis.uses.items()},
            "report": text,
            "msg": headline(diagnosis.findings),
            **written,
        }

    def seen(self, variables: t.Mapping[str, t.Any], args: t.Mapping[str, t.Any]) -> core.Seen:
        """What every host told, by the names of the variables that it is registered in."""
        plan = plain((variables.get("ansible_facts") or {}).get("cluster_plan") or {})
        hosts = [str(name) for name in variables.get("ansible_play_hosts_all") or ()]
        names = list(dict.fromkeys([*hosts, *(plan.get("hosts") or {})]))
        facts = {name: found for name in names if (found := facts_of(variables["hostvars"][name]))}
        results: dict[str, dict[str, dict[str, t.Any]]] = {kind: {} for kind in RESULTS}
        troubles: dict[str, str] = {}
        for name in hosts:
            mine = variables["hostvars"][name]
            for kind in RESULTS:
                result = plain(mine.get(args[kind]) or {}) if args[kind] else {}
                if failed(result):
                    # Why a host has no facts is among the plan's findings.
                    if name in facts:
                        troubles.setdefault(name, trouble_of(result, mine.get("ansible_host")))
                elif result and not result.get("skipped"):
                    results[kind][name] = result
        status = results["status_result"]
        return core.Seen(
            plan=plan,
            facts=facts,
            probes={name: found.get("network_probe") or {} for name, found in results["probe_result"].items()},
            status={name: found["status"] for name, found in status.items() if found.get("status")},
            components={
                name: found.get("component_status") or {} for name, found in results["components_result"].items()
            },
            views={name: found["cluster"] for name, found in status.items() if found.get("cluster")},
            troubles=troubles,
            findings=[Finding.from_dict(item) for item in plain(args["findings"])],
            hosts=hosts,
        )

    def write(self, args: t.Mapping[str, t.Any], seen: core.Seen, diagnosis: core.Diagnosis) -> dict[str, t.Any]:
        """The report as data and as a page, on the controller."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        written = {}
        if args["path"]:
            data = {**core.as_data(seen, diagnosis), "when": now}
            written["path"] = _write(Path(args["path"]), json.dumps(data, indent=2, sort_keys=True) + "\n")
        if args["page"]:
            drawn = page(
                {
                    "kind": "doctor",
                    "when": now,
                    "plan": dict(seen.plan),
                    "facts": seen.facts,
                    "probes": seen.probes,
                    "findings": diagnosis.findings,
                    "status": seen.status,
                    "cluster": diagnosis.cluster,
                    "versions": diagnosis.about["versions"],
                    "foreign": diagnosis.about["foreign"],
                    "components": {name: [use.as_dict() for use in uses] for name, uses in diagnosis.uses.items()},
                }
            )
            written["page"] = _write(Path(args["page"]), drawn)
            self._display.display(f"The report as a page, with a drawing: {written['page']}\n")
        return written


def _write(path: Path, text: str) -> str:
    try:
        write_whole(path, text)
    except OSError as problem:
        raise AnsibleActionFail(f"The report cannot be written to {path}: {problem.strerror}") from problem
    return str(path.resolve())
