# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _balancer_modes as modes
from ansible_collections.multinic.kubernetes.plugins.module_utils import _host_state
from ansible_collections.multinic.kubernetes.plugins.module_utils import _node_reset as reset

HOSTS = "127.0.0.1 localhost\n"


def test_our_blocks_leave_others_files_as_they_were() -> None:
    text = _host_state.with_block(HOSTS, "192.168.253.129 master1\n", "multinic", "node")
    text = _host_state.with_block(text, "10.103.97.2 apiserver.cluster.local\n", "multinic", "apiserver")
    assert text != HOSTS
    assert reset.without_blocks(text) == HOSTS
    assert reset.without_blocks("# BEGIN other x\na\n# END other x\n") == "# BEGIN other x\na\n# END other x\n"


@pytest.mark.parametrize("mode", ["ipvs", "localhost"])
def test_every_file_of_every_way_to_the_api_goes(mode: str) -> None:
    kept = [path for path in modes.FILES_OF[mode] if not path.startswith(tuple(f"{path}/" for path in reset.FOLDERS))]
    assert kept == [path for path in kept if any(fnmatch(path, pattern) for pattern in reset.MARKED)]


def test_swap_comes_back_as_it_was() -> None:
    fstab = "UUID=1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n#/dev/sdb none swap sw 0 0\n"
    assert reset.with_swap(_host_state.without_swap(fstab)) == fstab


TABLE = """\
-A -t 10.103.97.2:6443 -s rr
-a -t 10.103.97.2:6443 -r 192.168.253.129:6443 -m -w 1
-A -t 10.96.0.1:443 -s rr
-A -u 10.96.0.10:53 -s rr
-A -t 10.7.7.7:80 -s wlc
-A -t [fd00::a]:443 -s rr
-A -f 7 -s rr
-A -t [fd00::97:2]:6443 -s rr
"""


def test_only_our_virtual_server_and_those_of_kube_proxy_go() -> None:
    gone = reset.services_to_remove(TABLE, ["10.96.0.1", "10.96.0.10", "fd00::a"], ["10.103.97.2", "fd00::97:2"])
    assert [(service.kind, service.address) for service in gone] == [
        ("-t", "10.103.97.2:6443"),
        ("-t", "10.96.0.1:443"),
        ("-u", "10.96.0.10:53"),
        ("-t", "[fd00::a]:443"),
        ("-t", "[fd00::97:2]:6443"),
    ]
    assert reset.services_to_remove(TABLE, [], []) == []


RULES = """\
*nat
:PREROUTING ACCEPT [1:60]
:KUBE-SERVICES - [0:0]
:DOCKER - [0:0]
[5:300] -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
[0:0] -A PREROUTING -j DOCKER
[0:0] -A KUBE-SERVICES -d 10.96.0.1/32 -j ACCEPT
[0:0] -A POSTROUTING -m set --match-set KUBE-LOOP-BACK dst -j MASQUERADE
COMMIT
"""


def test_rules_of_others_stay() -> None:
    kept = reset.without_chains(RULES)
    assert "KUBE" not in kept
    assert kept.splitlines() == [
        "*nat",
        ":PREROUTING ACCEPT [1:60]",
        ":DOCKER - [0:0]",
        "[0:0] -A PREROUTING -j DOCKER",
        "COMMIT",
    ]
    assert reset.chains_in(RULES)
    assert not reset.chains_in(kept)


def test_interfaces_of_the_pod_network_go_and_cards_stay() -> None:
    names = ["lo", "ens32", "cni0", "kube-ipvs0", "tunl0", "cali0123456789a", "caliper", "flannel.1", "docker0"]
    assert reset.links_to_remove(names) == ["cni0", "kube-ipvs0", "cali0123456789a", "flannel.1"]


def test_sets_of_others_stay() -> None:
    assert reset.sets_to_remove("KUBE-CLUSTER-IP\nf2b-sshd\ncali40all\n") == ["KUBE-CLUSTER-IP", "cali40all"]


@pytest.mark.parametrize(
    ("before", "now", "restored"),
    [
        ({"net.ipv4.ip_forward": "0"}, {"net.ipv4.ip_forward": "1\n"}, {"net.ipv4.ip_forward": "0"}),
        ({"net.ipv4.ip_forward": "1"}, {"net.ipv4.ip_forward": "1\n"}, {}),
        ({"a.b": "4 8"}, {"a.b": "4\t8\n"}, {}),
        ({"gone": "1"}, {"gone": None}, {}),
    ],
)
def test_kernel_parameters_come_back(
    before: dict[str, str], now: dict[str, str | None], restored: dict[str, str]
) -> None:
    assert reset.sysctls_to_restore(before, now) == restored


def test_what_a_parameter_was_before_us_is_kept_from_the_first_time() -> None:
    first = _host_state.sysctls_before(
        {}, {"net.ipv4.ip_forward": "0\n", "absent": None}, ["net.ipv4.ip_forward", "absent"]
    )
    assert first == {"net.ipv4.ip_forward": "0"}
    assert _host_state.sysctls_before(first, {"net.ipv4.ip_forward": "1\n"}, ["net.ipv4.ip_forward"]) == first


def test_mounts_are_undone_from_the_inside_out() -> None:
    mounts = "tmpfs /var/lib/kubelet/pods/1 tmpfs rw 0 0\ntmpfs /var/lib/kubelet/pods/1/a\\040b tmpfs rw 0 0\n/dev/x / ext4 rw 0 0\n"
    assert reset.mounts_below(mounts, "/var/lib/kubelet") == ["/var/lib/kubelet/pods/1/a b", "/var/lib/kubelet/pods/1"]
