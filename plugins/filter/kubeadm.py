# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adapters: kubeadm's configuration, callable from a play. What they do is in module_utils/_kubeadm.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.multinic.kubernetes.plugins.module_utils._kubeadm import (
    KubeadmConfigError,
    default_patches,
    init_documents,
    join_documents,
    joiners,
)


def _need_mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"{name} must be a mapping, not {value!r}")
    return value


def _configuration(build: Callable[..., Any], plan: Any, node: Any, settings: Any) -> Any:
    try:
        return build(
            _need_mapping("the cluster plan", plan),
            _need_mapping("the node plan", node),
            _need_mapping("settings", settings),
        )
    except KubeadmConfigError as error:
        lines = "".join(f"\n  {problem}" for problem in error.problems)
        raise AnsibleFilterError(f"kubeadm's configuration cannot be built:{lines}") from error
    except KeyError as error:
        raise AnsibleFilterError(f"the cluster plan lacks {error}") from error


def kubeadm_init_configuration(plan: Any, node: Any, settings: Any) -> list[dict[str, Any]]:
    """The documents of kubeadm init."""
    documents: list[dict[str, Any]] = _configuration(init_documents, plan, node, settings)
    return documents


def kubeadm_join_configuration(plan: Any, node: Any, settings: Any) -> list[dict[str, Any]]:
    """The documents of kubeadm join."""
    documents: list[dict[str, Any]] = _configuration(join_documents, plan, node, settings)
    return documents


def kubeadm_patches(extra: Any) -> dict[str, str]:
    """The patches every cluster gets, with the user's."""
    return {**default_patches(), **{str(name): str(text) for name, text in _need_mapping("patches", extra).items()}}


def kubeadm_joiners(plan: Any, hostvars: Any, hosts: Any = None) -> dict[str, list[str]]:
    """Which hosts of this run still have to join. Facts of others may be known too."""
    known = _need_mapping("hostvars", hostvars)
    facts = {}
    for name in [*_need_mapping("the cluster plan", plan)["control_plane"], *plan["workers"]]:
        if name in known and (hosts is None or name in hosts):
            found = known[name].get("ansible_facts", {}).get("multinic")
            if found:
                facts[name] = found
    return joiners(plan, facts)


class FilterModule:
    """Filters about kubeadm."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {
            "kubeadm_init_configuration": kubeadm_init_configuration,
            "kubeadm_join_configuration": kubeadm_join_configuration,
            "kubeadm_patches": kubeadm_patches,
            "kubeadm_joiners": kubeadm_joiners,
        }
