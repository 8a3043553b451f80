# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.multinic.kubernetes.plugins.module_utils import (
    _apiserver_certificates,
    _apiserver_guard,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import (
    CERTIFICATES_PROGRAM,
    GUARD_PROGRAM,
    BalancerError,
    Check,
    balancer_absent,
    balancer_state,
    balancer_stopped,
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
    programs = {
        GUARD_PROGRAM: inspect.getsource(_apiserver_guard),
        CERTIFICATES_PROGRAM: inspect.getsource(_apiserver_certificates),
    }
    try:
        check_settings = Check(str(check["path"]), **seconds)
        return balancer_state(cluster, node, programs, check_settings, [name for name in names if name])
    except BalancerError as exc:
        raise AnsibleFilterError(f"apiserver_balancer: {exc}") from exc
    except KeyError as exc:
        raise AnsibleFilterError(
            f"apiserver_balancer: the plan has no {exc}; run the preflight role first, it makes the plan"
        ) from exc


def balancer_removal_filter(part: str) -> dict[str, Any]:
    """How a host gets rid of the balancer: what is stopped, then what is absent, as parameters of host_state."""
    parts = {"stopped": balancer_stopped, "absent": balancer_absent}
    if part not in parts:
        raise AnsibleFilterError(f"balancer_removal: {part!r} is none of {', '.join(parts)}")
    return parts[part]()


class FilterModule:
    """Filters of the apiserver_balancer role."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"balancer_state": balancer_state_filter, "balancer_removal": balancer_removal_filter}
