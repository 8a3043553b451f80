# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain
from ansible_collections.multinic.kubernetes.plugins.module_utils._probe import (
    Offset,
    best_offset,
    clock_offset,
    probe_arguments,
)

MEASUREMENTS = 2
GOOD_ENOUGH = 0.05  # seconds that a measurement may be wrong


class ActionModule(ActionBase):
    """Measures the host's clock, then runs the module with what the plan says."""

    _VALID_ARGS = frozenset(
        (
            *("interface", "source", "peers", "kernel_modules", "commands", "cni_plugins", "own_files", "wait"),
            *("further_sources", "vip", "further_vips", "external", "external_port", "etcd_folder", "cluster_nodes"),
            "outside",
        )
    )

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        name = str(variables.get("inventory_hostname", ""))
        plan = plain((variables.get("ansible_facts") or {}).get("cluster_plan") or {})
        planned = probe_arguments(plan, name) if name in plan.get("hosts", {}) else {}
        given = {key: value for key, value in self._task.args.items() if value is not None}
        clock = self.clock()
        result: dict[str, t.Any] = self._execute_module(module_args={**planned, **given}, task_vars=task_vars)
        if clock is not None and "network_probe" in result:
            result["network_probe"]["clock"] = {
                "offset_seconds": clock.seconds,
                "uncertainty_seconds": clock.uncertainty,
            }
        return result

    def clock(self) -> Offset | None:
        """The host's clock, measured again if the first answer took too long to tell much."""
        offsets: list[Offset] = []
        for _number in range(MEASUREMENTS):
            offset = self.measure()
            offsets += [offset] if offset is not None else []
            best = best_offset(offsets)
            if best is not None and best.uncertainty <= GOOD_ENOUGH:
                break
        return best_offset(offsets)

    def measure(self) -> Offset | None:
        """One look at the host's clock, as the login user and with nothing around it."""
        before = time.time()
        answer = self._low_level_execute_command("date +%s.%N", sudoable=False)
        after = time.time()
        try:
            return clock_offset(before, float(str(answer.get("stdout", "")).strip().splitlines()[-1]), after)
        except (ValueError, IndexError):
            return None
