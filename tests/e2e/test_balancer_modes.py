# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to the API beside IPVS on real clusters, and the change between all three while every host asks.

Two hosts begin with a balancer that is not theirs. Three control planes and a worker begin with a proxy on each host;
the tests of that lab build on each other, in file order. Times are true only on a machine that does nothing else.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from external_balancer import ExternalBalancer, run
from harness import REPOSITORY, Lab, wait_until
from outage import Asking, Request, outage

pytestmark = pytest.mark.slow

NAME = "apiserver.cluster.local"
VIP = "10.103.97.2"
BALANCER = "192.168.253.10"
MASTERS = {"master1": "192.168.253.129", "master2": "192.168.253.128", "master3": "192.168.253.130"}
HOSTS = [*MASTERS, "node01"]
ADDRESS = {"localhost": "127.0.0.1", "ipvs": VIP, "external": BALANCER}

MOST_SECONDS = 3.0
# The control planes ask too while the way changes, but not as often: they share this machine's processors.
SELDOM = 0.25

# The servers that the proxy gives requests to; as docs/balancer.md tells to ask it, but every host has Python.
PROXY = r"""python3 -c '
import socket
with socket.socket(socket.AF_UNIX) as stream:
    stream.connect("/run/multinic-apiserver-proxy/status.sock")
    stream.sendall(b"show stat\n")
    told = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
rows = [line.split(",") for line in told.splitlines()]
print(*(row[1] for row in rows if row[0] == "ready" and row[1] != "BACKEND" and row[17] == "UP"))'"""
# What each way has on a host: units, folders of its own, listeners, the route, the virtual server.
TRACES = r"""
systemctl list-units --all --plain --no-legend 'multinic-vip*' 'multinic-apiserver*' | cut -d' ' -f1
ls /etc/systemd/system | grep -E 'multinic-(vip|apiserver)'
ls /etc/multinic /run /etc/modules-load.d /etc/sysctl.d | grep -E 'apiserver-(balancer|proxy|guard)'
ip route show table local | grep -F 10.103.97.2
ipvsadm -Sn 2>/dev/null | grep -F 10.103.97.2
ss -Hltn 'sport = :6443' | grep -F 127.0.0.1
pgrep -l 'keepalived|haproxy'
true
"""
OF_IPVS = ("vip", "balancer", "guard", VIP, "keepalived")
OF_PROXY = ("proxy", "127.0.0.1")


def leads_to(lab: Lab, host: str) -> list[str]:
    return lab.run(host, f"getent ahostsv4 {NAME} | cut -d' ' -f1 | sort -u").split()


def balanced(lab: Lab, host: str) -> set[str]:
    """The servers that a host's proxy gives requests to; none while it does not answer."""
    return set(lab.ssh(host, PROXY, 20).stdout.split())


def answers(lab: Lab, host: str) -> bool:
    """Does the API answer by its name, as kubelet asks it?"""
    script = (
        "import ssl, urllib.request;"
        "context = ssl.create_default_context(cafile='/etc/kubernetes/pki/ca.crt');"
        f"print(urllib.request.urlopen('https://{NAME}:6443/readyz', context=context, timeout=3).status)"
    )
    result = lab.ssh(host, f"python3 -c {shlex.quote(script)}", 15)
    return result.stdout.strip() == "200"


def nodes_ready(lab: Lab, count: int) -> bool:
    listing = lab.ssh("master1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes --no-headers", 20)
    states = [line.split()[1] for line in listing.stdout.splitlines()]
    return states == ["Ready"] * count


def wishes(mode: str) -> list[str]:
    more = ["-e", f"apiserver_external_address={BALANCER}"] if mode == "external" else []
    return ["-e", f"apiserver_balancer={mode}", *more]


# --- a balancer that is not ours, from nothing ----------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[Lab]:
    """A control plane and a worker, on which nothing is yet."""
    made = Lab(str(REPOSITORY / "tests" / "topologies" / "same-names.yml"), "modes-external")
    try:
        # The topologies' own hosts are only looked at, and have too little for a cluster.
        made.play("lab", "-e", "lab_state=fresh", "-e", "lab_memory=2G")
        yield made
    finally:
        made.remove()


def test_a_cluster_begins_with_an_external_balancer(pair: Lab, tmp_path: Path) -> None:
    outside = ExternalBalancer(pair, "internal", BALANCER, 24, tmp_path)
    try:
        nobody = ["-e", "apiserver_balancer=external", "-e", "apiserver_external_address=192.168.253.77"]
        run_ = pair.play("preflight", *nobody, expect=None)
        assert run_.returncode != 0
        assert "apiserver_external_address" in run_.output
        assert "192.168.253.77:6443 cannot be reached" in run_.output, run_.tail()

        refused = pair.play("preflight", *wishes("external"))
        assert "apiserver_external_address" not in refused.output, refused.tail()

        drop = ["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP"]
        run("ip", "netns", "exec", outside.space, *drop)
        silent = pair.play("preflight", *wishes("external"))
        assert f"{BALANCER}:6443 does not answer connections" in silent.output, silent.tail()
        run("ip", "netns", "exec", outside.space, "iptables", "-F")

        outside.start([MASTERS["master1"]])
        pair.play("cluster", *wishes("external"))
        for host in ("master1", "node01"):
            assert leads_to(pair, host) == [BALANCER]
            assert answers(pair, host)
            traces = pair.run(host, TRACES)
            assert not [word for word in (*OF_IPVS, *OF_PROXY) if word in traces], traces
        assert not pair.play("cluster", *wishes("external")).changed()

        outside.stop()
        gone = pair.play("preflight", *wishes("external"), expect=None)
        assert gone.returncode != 0
        assert f"{BALANCER}:6443 refuses connections" in gone.output, gone.tail()
        outside.start([MASTERS["master1"]])

        pair.guest(["master1", "node01"], "rebooted")
        wait_until(lambda: nodes_ready(pair, 2), 180, "both nodes are Ready after a reboot of both", every=1)
        assert answers(pair, "node01")
    finally:
        outside.remove()


# --- a proxy on each host -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three control planes and a worker whose cluster began with the proxy.

    MULTINIC_INSTALLED_LAB names a lab that runs and holds it already, and MULTINIC_KEEP_LAB=1 leaves it.
    """
    there = os.environ.get("MULTINIC_INSTALLED_LAB")
    made = Lab("lab", there or "modes")
    try:
        if not there:
            made.fresh()
            made.play("cluster", "-e", "apiserver_balancer=localhost")
        yield made
    finally:
        if not os.environ.get("MULTINIC_KEEP_LAB"):
            made.remove()


@pytest.fixture
def whole(lab: Lab) -> Lab:
    """The lab, once the worker's proxy has all three servers."""
    wait_until(lambda: balanced(lab, "node01") == set(MASTERS.values()), 150, "all three servers are ready", every=1)
    return lab


def asked(lab: Lab, blow: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """What a client on the worker sees of a blow, and of so many seconds after it."""
    client = Asking(lab, "node01", NAME)
    try:
        time.sleep(2)
        blow()
        time.sleep(seconds)
    finally:
        requests = client.end()
    found = outage(requests)
    assert found["requests"] > 10 * seconds, "the client asked"
    print(f"\n{found}")
    return found


def test_a_cluster_begins_with_the_proxy(lab: Lab) -> None:
    for host in HOSTS:
        assert leads_to(lab, host) == ["127.0.0.1"]
        traces = lab.run(host, TRACES)
        assert not [word for word in OF_IPVS if word in traces]
        assert "haproxy" in traces
    for host in HOSTS:
        wait_until(
            lambda host=host: balanced(lab, host) == set(MASTERS.values()),  # type: ignore[misc]
            60,
            f"the proxy on {host} has all three servers",
        )
        assert answers(lab, host)
    assert nodes_ready(lab, 4)
    assert not lab.play("cluster", "-e", "apiserver_balancer=localhost").changed()


def test_a_killed_api_server_costs_at_most_a_moment(whole: Lab) -> None:
    found = asked(whole, lambda: whole.run("master2", "kill -9 $(pidof kube-apiserver)"), 10)
    assert found["gap_seconds"] <= MOST_SECONDS
    assert found["over"]


def test_an_api_server_that_stops_in_order_costs_no_request(whole: Lab) -> None:
    manifest, away = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/root/kube-apiserver.yaml"
    try:
        found = asked(whole, lambda: whole.run("master3", f"mv {manifest} {away}"), 20)
        assert whole.ssh("master3", "pidof kube-apiserver").returncode != 0, "it was stopped"
    finally:
        whole.run("master3", f"test ! -e {away} || mv {away} {manifest}")
    assert found["failed"] == 0, found


def test_a_frozen_control_plane_costs_seconds(whole: Lab) -> None:
    try:
        found = asked(whole, lambda: whole.guest(["master3"], "frozen"), 20)
        assert balanced(whole, "node01") == set(MASTERS.values()) - {MASTERS["master3"]}
    finally:
        whole.guest(["master3"], "thawed")
    assert found["gap_seconds"] <= MOST_SECONDS
    assert found["over"]


@pytest.mark.parametrize("host", ["node01", "master2"])
def test_a_host_that_was_rebooted_has_its_proxy(whole: Lab, host: str) -> None:
    whole.guest([host], "rebooted")
    wait_until(lambda: answers(whole, host), 90, f"the API answers on {host} by its name")
    wait_until(lambda: balanced(whole, host) == set(MASTERS.values()), 120, f"{host} has all three servers", every=1)
    wait_until(lambda: nodes_ready(whole, 4), 120, "all nodes are Ready", every=1)


# --- from one way to another ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outside(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalBalancer]:
    made = ExternalBalancer(lab, "internal", BALANCER, 24, tmp_path_factory.mktemp("balancer"))
    try:
        made.start(MASTERS.values())
        yield made
    finally:
        made.remove()


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("mode", ["ipvs", "external", "localhost"])
def test_a_running_cluster_changes_its_way_without_a_lost_request(lab: Lab, mode: str) -> None:
    wait_until(lambda: nodes_ready(lab, 4), 120, "all nodes are Ready", every=1)
    before = {host: leads_to(lab, host) for host in HOSTS}
    assert ADDRESS[mode] not in {address for found in before.values() for address in found}
    clients = {host: Asking(lab, host, NAME, 0.05 if host == "node01" else SELDOM) for host in HOSTS}
    requests: dict[str, list[Request]] = {}
    try:
        lab.play("cluster", *wishes(mode))
        time.sleep(3)
    finally:
        requests = lab.everywhere(lambda host: clients[host].end(), HOSTS)
    figures = {host: outage(found) for host, found in requests.items()}
    print(f"\n{mode}: {figures}")
    assert {host: found["failed"] for host, found in figures.items()} == dict.fromkeys(HOSTS, 0), figures
    assert figures["node01"]["requests"] > 200

    for host in HOSTS:
        assert leads_to(lab, host) == [ADDRESS[mode]]
        traces = lab.run(host, TRACES)
        wanted = {"ipvs": OF_PROXY, "localhost": OF_IPVS, "external": (*OF_IPVS, *OF_PROXY)}[mode]
        assert not [word for word in wanted if word in traces], f"{host}:\n{traces}"
    assert nodes_ready(lab, 4)
    assert not lab.play("cluster", *wishes(mode)).changed()
    assert "ERRORS" not in lab.play("doctor", *wishes(mode)).output
