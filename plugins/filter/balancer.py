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
    _apiserver_outside,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import (
    CERTIFICATES_PROGRAM,
    GUARD_PROGRAM,
    BalancerError,
    Check,
    drained_addresses,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    hosts_block,
    mode_state,
    way_removal,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._outside import (
    OUTSIDE,
    outside_removal,
    outside_state,
)


def apiserver_way(
    cluster: Mapping[str, Any],
    node: Mapping[str, Any],
    check: Mapping[str, Any],
    drained: str | Iterable[str] = (),
) -> dict[str, Any]:
    """What the planned way to the API server needs on a host, as parameters of host_state."""
    names = drained.split(",") if isinstance(drained, str) else drained
    seconds = {name: float(check[name]) for name in ("interval", "timeout", "answer_timeout")}
    programs = {
        GUARD_PROGRAM: inspect.getsource(_apiserver_guard),
        CERTIFICATES_PROGRAM: inspect.getsource(_apiserver_certificates),
    }
    try:
        check_settings = Check(str(check["path"]), **seconds)
        return mode_state(cluster, node, programs, check_settings, [name for name in names if name])
    except BalancerError as exc:
        raise AnsibleFilterError(f"apiserver_balancer: {exc}") from exc
    except KeyError as exc:
        raise AnsibleFilterError(
            f"apiserver_balancer: the plan has no {exc}; run the preflight role first, it makes the plan"
        ) from exc


def apiserver_way_removal(mode: str) -> dict[str, Any]:
    """How a host gets rid of a way to the API server: units that end, then what is absent, as parameters of host_state."""
    try:
        return outside_removal() if mode == OUTSIDE else way_removal(mode)
    except BalancerError as exc:
        raise AnsibleFilterError(f"apiserver_way_removal: {exc}") from exc


def apiserver_outside(
    cluster: Mapping[str, Any], host: str, path: str, drained: str | Iterable[str] = ()
) -> dict[str, Any]:
    """What a host needs for the API's outside address, as parameters of host_state; no files where it has no part in one."""
    names = [name for name in (drained.split(",") if isinstance(drained, str) else drained) if name]
    try:
        out = drained_addresses(cluster, names) if names else ()
        return outside_state(cluster, host, inspect.getsource(_apiserver_outside), path, out)
    except BalancerError as exc:
        raise AnsibleFilterError(f"apiserver_outside: {exc}") from exc
    except KeyError as exc:
        raise AnsibleFilterError(
            f"apiserver_outside: the plan has no {exc}; run the preflight role first, it makes the plan"
        ) from exc


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
        return {
            "apiserver_way": apiserver_way,
            "apiserver_way_removal": apiserver_way_removal,
            "apiserver_outside": apiserver_outside,
            "hosts_lines": hosts_lines,
        }
