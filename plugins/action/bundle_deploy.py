# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import Manifest, parse_manifest
from ansible_collections.multinic.kubernetes.plugins.module_utils._unpack import (
    CURRENT,
    INCOMING,
    PARTIAL,
    PLACE_OPTIONS,
    RESERVE,
    wanted_parts,
)
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import BundleError, read_manifest
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_source import LocalBundle, locate
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._transfer_run import (
    PORT,
    Order,
    deliver,
    planned_addresses,
)

MODULE = "multinic.kubernetes.bundle_unpack"


def summary(manifest: Manifest, sha256: str, root: str) -> dict[str, t.Any]:
    """What later roles need to know of the bundle; known before the host has it, so check mode can tell the truth."""
    return {
        "multinic_bundle": {
            "sha256": sha256,
            "path": f"{root}/{CURRENT}",
            "kubernetes_version": manifest.kubernetes_version,
            "pause_image": manifest.pause_image,
            "binaries": [f"{root}/{CURRENT}/{part.path}" for part in manifest.parts if part.kind == "binary"],
            "distributions": sorted({part.distribution for part in manifest.parts if part.distribution}),
        }
    }


class ActionModule(ActionBase):
    """Asks the host, sends the archive only if it is needed, lets the host check and unpack it."""

    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset(("bundle", "sha256", "facts_only", "distribution", "port", *PLACE_OPTIONS))

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "bundle": {"type": "str", "required": True},
                "sha256": {"type": "str", "default": ""},
                "facts_only": {"type": "bool", "default": False},
                "distribution": {"type": "str", "choices": ["peers", "copy"], "default": "peers"},
                "port": {"type": "int", "default": PORT},
                **PLACE_OPTIONS,
            }
        )
        try:
            # The whole file is hashed by each host; doing it here too, once per host, would only repeat preflight.
            bundle = locate(args["bundle"], args["sha256"], verify=False)
            manifest = parse_manifest(read_manifest(bundle.path))
        except BundleError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        facts = summary(manifest, bundle.sha256, args["root"])
        if args["facts_only"]:
            return {"changed": False, "ansible_facts": facts}
        parts = wanted_parts(manifest, args["roles"])
        common = {"sha256": bundle.sha256, **{key: args[key] for key in PLACE_OPTIONS}}
        sizes = {"archive_size": bundle.path.stat().st_size, "unpacked_size": sum(part.size for part in parts)}
        asked = self.module({**common, **sizes, "prepare": True, "receiver": self.receiver()}, task_vars)
        if asked.get("failed") or not asked.get("incoming"):
            return {**asked, "ansible_facts": facts}
        try:
            sent = self.send(bundle, asked["incoming"], args, task_vars or {})
        except BundleError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        if sent.get("failed"):
            return {**sent, "ansible_facts": facts}
        done = self.module({**common, "archive": asked["incoming"], "remove_archive": True}, task_vars)
        return {**done, **{key: sent[key] for key in ("fed", "received") if key in sent}, "ansible_facts": facts}

    def module(self, args: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        return t.cast("dict[str, t.Any]", result)

    def receiver(self) -> str | None:
        """The user as whom files are put on the host."""
        try:
            user = self._connection.get_option("remote_user")
        except (KeyError, AttributeError):
            return None
        return str(user) if user else None

    def send(
        self, bundle: LocalBundle, target: str, args: dict[str, t.Any], variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        """The archive onto the host: with the help of the others, or by a copy of its own."""

        def copy() -> dict[str, t.Any]:
            self._connection.put_file(str(bundle.path), target)
            return {}

        host, addresses = str(variables["inventory_hostname"]), planned_addresses(variables)
        if args["distribution"] == "copy":
            return copy()
        if host not in addresses:
            self.show(f"{host} has no planned address, so the bundle is sent by plain copy")
            return copy()
        order = Order(
            bundle.path,
            bundle.sha256,
            target,
            host,
            addresses,
            args["port"],
            earlier=[f"{args['root']}/{INCOMING}-*/{PARTIAL}"],
            reserve=RESERVE,
            at_once=int(variables.get("ansible_forks") or 5),
        )
        return deliver(self, order, variables, self.show, copy)

    def show(self, line: str) -> None:
        self._display.display(f"  {line}")
