# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import BalancerError, Check
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    hosts_block,
    mode_state,
    retired_state,
)


def apiserver_way(
    cluster: Mapping[str, Any], node: Mapping[str, Any], check: Mapping[str, Any], retired: str = ""
) -> dict[str, Any]:
    """What the planned way to the API server needs on a host, or what takes another one away."""
    seconds = {name: float(check[name]) for name in ("interval", "timeout", "answer_timeout")}
    try:
        state = mode_state(cluster, node, Check(str(check["path"]), **seconds), retired or None)
    except BalancerError as exc:
        raise AnsibleFilterError(f"apiserver_balancer: {exc}") from exc
    except KeyError as exc:
        raise AnsibleFilterError(
            f"apiserver_balancer: the plan has no {exc}; run the preflight role first, it makes the plan"
        ) from exc
    return retired_state(state) if retired else state


def hosts_lines(cluster: Mapping[str, Any], host: str, changed: bool = False) -> str:
    """The lines of /etc/hosts for one host of the plan."""
    try:
        return hosts_block(cluster, host, changed)
    except KeyError as exc:
        raise AnsibleFilterError(
            f"hosts_lines: the plan has no {exc}; run the preflight role first, it makes the plan"
        ) from exc


class FilterModule:
    """Filters of the ways to the API server."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"apiserver_way": apiserver_way, "hosts_lines": hosts_lines}
