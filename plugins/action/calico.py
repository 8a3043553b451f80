# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils._cni import Calico, CniError, patch_calico, stages
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubectl import BIN_DIR
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # a PyYAML without libyaml: slower, the same result
    from yaml import SafeLoader as Loader  # type: ignore[assignment]


class ActionModule(ActionBase):
    """Reads the bundle's Calico manifests on the host, sets what the plan says, and applies them."""

    _VALID_ARGS = frozenset(("bin_dir", "bundle", "kubeconfig"))

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "bundle": {"type": "path", "default": "/var/lib/multinic/bundle/current"},
                "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
                "bin_dir": {"type": "path", "default": BIN_DIR},
            }
        )
        variables = task_vars or {}
        plan = plain((variables.get("ansible_facts") or {}).get("cluster_plan") or {})
        if not plan:
            raise AnsibleActionFail("There is no plan: run the preflight role first, it makes the plan.")
        text = self.slurp(f"{args['bundle']}/manifest.json", variables)
        if text is None and self._task.check_mode:
            return {"changed": True, "msg": "The bundle is not on the host yet; Calico would be applied from it."}
        if text is None:
            raise AnsibleActionFail(f"There is no bundle in {args['bundle']}: run the bundle role first.")
        parts = json.loads(text)["parts"]
        paths = [
            part["path"] for part in parts if part["kind"] == "manifest" and part["path"].endswith((".yaml", ".yml"))
        ]
        images = [image for part in parts if part["kind"] == "image" for image in part.get("images") or ()]
        try:
            calico = Calico.of(plan)
            documents = [document for path in paths for document in self.documents(args["bundle"], path, variables)]
            patched = patch_calico(documents, calico, images)
        except CniError as exc:
            raise AnsibleActionFail(f"cni: calico: {exc}") from exc
        result: dict[str, Any] = self._execute_module(
            module_name="multinic.kubernetes.kube_apply",
            module_args={
                "name": "calico",
                "stages": stages(patched),
                "settings": calico.settings(),
                "kubeconfig": args["kubeconfig"],
                "bin_dir": args["bin_dir"],
            },
            task_vars=variables,
        )
        return {**result, "manifests": paths}

    def documents(self, bundle: str, path: str, variables: dict[str, Any]) -> list[Any]:
        text = self.slurp(f"{bundle}/{path}", variables)
        if text is None:
            raise CniError(f"{path} of the bundle is not in {bundle}: run the bundle role again")
        try:
            return list(yaml.load_all(text, Loader=Loader))
        except yaml.YAMLError as exc:
            raise CniError(f"{path} of the bundle is no YAML: {exc}") from exc

    def slurp(self, path: str, variables: dict[str, Any]) -> str | None:
        """A file of the host; nothing when it is not there."""
        found = self._execute_module(
            module_name="ansible.builtin.slurp", module_args={"src": path}, task_vars=variables
        )
        if found.get("failed"):
            return None
        return base64.b64decode(found["content"]).decode("utf-8")
