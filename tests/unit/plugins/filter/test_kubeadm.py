# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.filter.kubeadm import kubeadm_joiners

PLAN = {"control_plane": ["m1", "m2"], "workers": ["w1", "w2"], "first_control_plane": "m1"}
HOSTVARS: dict[str, Any] = {
    name: {"ansible_facts": {"multinic": {"kubernetes": {"member": False}}}} for name in ("m1", "m2", "w1", "w2")
}


@pytest.mark.parametrize(
    ("hosts", "control_plane", "workers"),
    [
        (None, ["m2"], ["w1", "w2"]),
        (["w2", "w1"], [], ["w1", "w2"]),
        (["m1", "w2"], [], ["w2"]),
        (["m2"], ["m2"], []),
        ([], [], []),
    ],
)
def test_only_hosts_of_the_run_join(hosts: Any, control_plane: list[str], workers: list[str]) -> None:
    assert kubeadm_joiners(PLAN, HOSTVARS, hosts) == {"control_plane": control_plane, "workers": workers}
