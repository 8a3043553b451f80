# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ssh://master1", "ssh://node01"]

Until = Callable[[Callable[[], bool], float], bool]
CLUSTER_ADDRESS = {"master1": "192.168.253.129", "node01": "192.168.253.131"}


@pytest.fixture
def name(host: Host) -> str:
    return host.check_output("hostname")


@pytest.fixture
def manifest(host: Host) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(host.check_output("cat /var/lib/multinic/bundle/current/manifest.json"))
    return read


def journal(host: Host, unit: str) -> str:
    return host.check_output(f"journalctl --no-pager -n 30 -u {unit}")


@pytest.mark.parametrize("module", ["br_netfilter", "overlay", "ip_vs", "nf_conntrack"])
def test_kernel_module_is_loaded(host: Host, module: str) -> None:
    assert module in {line.split()[0] for line in host.check_output("lsmod").splitlines()}


def test_kernel_forwards_and_sees_bridged_packets(host: Host) -> None:
    assert host.sysctl("net.ipv4.ip_forward") == 1
    assert host.sysctl("net.bridge.bridge-nf-call-iptables") == 1


def test_parameters_come_after_those_of_sysctl_conf_at_boot(host: Host) -> None:
    files = host.check_output("ls /etc/sysctl.d").split()
    assert "99-zz-multinic-node.conf" in files
    assert not [name for name in files if name.startswith("90-multinic")]


def test_swap_is_off_and_stays_off(host: Host) -> None:
    assert host.check_output("swapon --show --noheadings") == ""
    assert host.run("systemctl is-enabled swap.target").stdout.strip() == "masked"


def test_names_lead_to_cluster_addresses(host: Host, name: str) -> None:
    for peer, address in CLUSTER_ADDRESS.items():
        assert host.check_output(f"getent ahostsv4 {peer}").split()[0] == address
    assert host.check_output("getent ahostsv4 apiserver.cluster.local").split()[0] == "10.103.97.2"
    assert host.check_output(f"getent ahostsv4 {name}").split()[0] == CLUSTER_ADDRESS[name]


@pytest.mark.parametrize("unit", ["containerd", "chrony"])
def test_unit_runs_and_starts_at_boot(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running, journal(host, unit)
    assert service.is_enabled


def test_kubelet_waits_for_kubeadm(host: Host) -> None:
    """Before init or join it would restart every few seconds."""
    assert (
        host.file("/etc/systemd/system/kubelet.service").exists
        or host.file("/lib/systemd/system/kubelet.service").exists
    )
    assert not host.service("kubelet").is_running


def test_clock_follows_the_control_plane_over_the_cluster_network(host: Host, name: str, until: Until) -> None:
    if name == "master1":
        return
    assert until(lambda: "^* 192.168.253.129" in host.check_output("chronyc -n sources"), 60), host.check_output(
        "chronyc -n sources; chronyc -n tracking"
    )


def test_images_of_the_role_are_there_and_no_others(host: Host, name: str, manifest: dict[str, Any]) -> None:
    role = "control_plane" if name == "master1" else "worker"
    images = [part for part in manifest["parts"] if part["kind"] == "image"]
    wanted = {reference for part in images if role in part["roles"] for reference in part["images"]}
    listed = set(host.check_output("ctr --namespace k8s.io images list --quiet").split())
    assert wanted
    assert wanted <= listed
    unwanted = {reference for part in images if role not in part["roles"] for reference in part["images"]}
    assert not unwanted & listed


def test_binaries_are_the_bundles(host: Host, manifest: dict[str, Any]) -> None:
    version = manifest["kubernetes_version"]
    assert host.check_output("kubeadm version -o short") == version
    assert host.check_output("kubelet --version") == f"Kubernetes {version}"
    assert version in host.check_output("kubectl version --client --short")


def test_container_runs(host: Host, manifest: dict[str, Any]) -> None:
    pause = manifest["pause_image"]
    host.check_output(f"ctr --namespace k8s.io run --detach {pause} molecule")
    try:
        assert "RUNNING" in host.check_output("ctr --namespace k8s.io task list | grep ^molecule")
    finally:
        host.run("ctr --namespace k8s.io task kill --signal SIGKILL molecule; sleep 1")
        host.run("ctr --namespace k8s.io task delete molecule; ctr --namespace k8s.io container delete molecule")


def test_daemons_that_run_by_units_of_ours_do_not_start_by_their_packages_too(host: Host) -> None:
    assert host.file("/lib/systemd/system/keepalived.service").exists
    assert not host.service("keepalived").is_enabled
    assert not host.service("keepalived").is_running


def test_what_only_another_way_to_the_api_needs_is_not_installed(host: Host) -> None:
    held = host.run("ls /var/lib/multinic/bundle/current/packages/*/").stdout
    for name in ("haproxy", "libopentracing1", "liblua5.3-0"):
        assert f"{name}_" in held
        assert not host.package(name).is_installed
    assert host.package("libsnmp40").is_installed, "what keepalived needs"
