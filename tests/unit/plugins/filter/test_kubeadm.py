# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters about kubeadm add to the core."""

from __future__ import annotations

from typing import Any

from ansible_collections.multinic.kubernetes.plugins.filter import kubeadm

PLAN = {"control_plane": ["m1", "m2"], "workers": ["w1", "w2"], "first_control_plane": "m1"}
FRESH: dict[str, Any] = {"ansible_facts": {"multinic": {"kubernetes": {"member": False}}}}


def test_hosts_outside_the_run_do_not_join() -> None:
    hostvars = dict.fromkeys(("m1", "m2", "w1", "w2"), FRESH)
    assert kubeadm.kubeadm_joiners(PLAN, hostvars, ["m1", "w2"]) == {"control_plane": [], "workers": ["w2"]}
    assert kubeadm.kubeadm_joiners(PLAN, hostvars) == {"control_plane": ["m2"], "workers": ["w1", "w2"]}
