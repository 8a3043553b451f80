# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import (
    BalancerError,
    Check,
    balancer_state,
)


def balancer_state_filter(
    cluster: Mapping[str, Any],
    node: Mapping[str, Any],
    check: Mapping[str, Any],
    drained: str | Iterable[str] = (),
) -> dict[str, Any]:
    """What a host needs to reach the API server through the VIP, as parameters of host_state."""
    names = drained.split(",") if isinstance(drained, str) else drained
    seconds = {name: float(check[name]) for name in ("interval", "timeout", "answer_timeout")}
    try:
        return balancer_state(cluster, node, Check(str(check["path"]), **seconds), [name for name in names if name])
    except BalancerError as exc:
        raise AnsibleFilterError(f"apiserver_balancer: {exc}") from exc
    except KeyError as exc:
        raise AnsibleFilterError(
            f"apiserver_balancer: the plan has no {exc}; run the preflight role first, it makes the plan"
        ) from exc


class FilterModule:
    """Filters of the apiserver_balancer role."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"balancer_state": balancer_state_filter}
