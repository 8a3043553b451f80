# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.multinic.kubernetes.plugins.module_utils._cni import CniError, bridge_state


def bridge_state_filter(cluster: Mapping[str, Any], node: Mapping[str, Any], program: str) -> dict[str, Any]:
    """What a host needs for the bridge network, as parameters of host_state."""
    try:
        return bridge_state(cluster, node, str(program))
    except CniError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    except KeyError as exc:
        raise AnsibleFilterError(
            f"cni: the plan has no {exc}; run the preflight role first, it makes the plan"
        ) from exc


class FilterModule:
    """Filters of the cni role."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"bridge_state": bridge_state_filter}
