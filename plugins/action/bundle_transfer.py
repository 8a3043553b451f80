# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import BundleError
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_source import locate
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._transfer_run import (
    PORT,
    Order,
    Worker,
    deliver,
    planned_addresses,
)


class ActionModule(ActionBase):
    """Sends a file to the hosts of a play, each of its chunks once; they pass them on to each other."""

    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset(("src", "sha256", "dest", "addresses", "port"))

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "src": {"type": "str", "required": True},
                "sha256": {"type": "str", "default": ""},
                "dest": {"type": "path", "required": True},
                "addresses": {"type": "dict", "default": {}},
                "port": {"type": "int", "default": PORT},
            }
        )
        host = str(variables["inventory_hostname"])
        addresses = {str(name): str(address) for name, address in args["addresses"].items()}
        addresses = addresses or planned_addresses(variables)
        try:
            file = locate(args["src"], args["sha256"], verify=False)
        except BundleError as exc:
            raise AnsibleActionFail(str(exc)) from exc

        def copy() -> dict[str, t.Any]:
            return self.copy(str(file.path), file.sha256, args["dest"], task_vars)

        if host not in addresses:
            self.show(f"{host} has no planned address, so the file is sent by plain copy")
            return copy()
        order = Order(
            file.path,
            file.sha256,
            args["dest"],
            host,
            addresses,
            args["port"],
            at_once=int(variables.get("ansible_forks") or 5),
        )
        try:
            if self._task.check_mode:
                return Worker(self, order, task_vars, self.show).check()
            return deliver(self, order, task_vars, self.show, copy)
        except BundleError as exc:
            raise AnsibleActionFail(str(exc)) from exc

    def show(self, line: str) -> None:
        self._display.display(f"  {line}")

    def copy(self, source: str, sha256: str, target: str, task_vars: t.Any) -> dict[str, t.Any]:
        """Ansible's own way, and then the sha256 that is wanted."""
        task = self._task.copy()
        task.args = {"src": source, "dest": target, "mode": "0644"}
        plain = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        result: dict[str, t.Any] = plain.run(task_vars=task_vars)
        if not result.get("failed"):
            stat = self._execute_module(
                module_name="ansible.builtin.stat",
                module_args={"path": target, "checksum_algorithm": "sha256"},
                task_vars=task_vars,
            )
            found = (stat.get("stat") or {}).get("checksum")
            if found != sha256:
                return {**result, "failed": True, "msg": f"{target} has sha256 {found}, but {sha256} was expected"}
        return result
