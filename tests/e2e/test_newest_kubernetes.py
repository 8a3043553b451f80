# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of a Kubernetes that is built of Go modules, with kube-proxy in nftables mode: it empties IPVS at its start."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import nft_modules
import pytest
from harness import CACHE, REPOSITORY, Lab, wait_until

pytestmark = pytest.mark.slow

VERSION = "v1.34.4"
BUNDLE = CACHE / "bundle" / f"kubernetes-{VERSION}-debian12-amd64.tar.gz"
VIP = "10.103.97.2"
HOSTS = ("master1", "node01")
MOST_SECONDS_WITHOUT_VIP = 3.0
PROXY = "-n kube-system -l k8s-app=kube-proxy"
# A virtual server of nobody's, which only somebody who empties the whole table takes away.
CANARY = "192.0.2.1:80"

# Prints, twenty times a second, when and whether the table has the VIP and the canary, until told to stop.
WATCH = f"""
import os, subprocess, time
with open("/run/ipvs-watch", "w") as out:
    while not os.path.exists("/run/ipvs-watch.stop"):
        table = subprocess.run(["ipvsadm", "-Ln"], capture_output=True, text=True).stdout
        lines = table.splitlines()
        at = next((i for i, line in enumerate(lines) if line.startswith("TCP  {VIP}:6443 ")), None)
        whole = at is not None and at + 1 < len(lines) and lines[at + 1].startswith("  ->")
        print(time.monotonic(), int(whole), int("TCP  {CANARY} " in table), file=out, flush=True)
        time.sleep(0.05)
"""

ASK_MODE = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:10249/proxyMode', timeout=5).read().decode())"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One control plane and one worker, with a bundle that the documented command makes or finds."""
    lab = Lab(str(REPOSITORY / "tests" / "topologies" / "same-names.yml"), "newest")
    try:
        lab.play("bundle", "-e", f"kubernetes_version={VERSION}")
        lab.play("lab", "-e", "lab_state=fresh", "-e", "lab_memory=2G")
        nft_modules.install(lab)
        yield lab
    finally:
        if not os.environ.get("MULTINIC_KEEP_LAB"):
            lab.remove()


def settings() -> list[str]:
    return ["-e", f"bundle={BUNDLE}", "-e", "kube_proxy_mode=nftables"]


def proxy_pod(lab: Lab, host: str) -> dict[str, str]:
    """The kube-proxy of a host that runs: its name and whether it is ready."""
    pods = json.loads(lab.kubectl(f"get pods {PROXY} --field-selector spec.nodeName={host} -o json"))["items"]
    running = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return {
        pod["metadata"]["name"]: pod["status"]["phase"]
        for pod in running
        if all(status["ready"] for status in pod["status"].get("containerStatuses", [{"ready": False}]))
    }


def restarted(lab: Lab, host: str) -> list[tuple[float, bool, bool]]:
    """Delete a host's kube-proxy; what was seen of the table until twenty seconds after the new one ran.

    Each entry is a time in seconds, whether the VIP had a server, and whether the canary was there.
    """
    lab.run(host, f"rm -f /run/ipvs-watch*; ipvsadm -D -t {CANARY} 2>/dev/null; ipvsadm -A -t {CANARY} -s rr")
    lab.run(host, f"setsid -f python3 -c {shlex.quote(WATCH)} </dev/null >/dev/null 2>&1")
    (old,) = proxy_pod(lab, host)
    lab.kubectl(f"-n kube-system delete pod {old}", timeout=120)
    wait_until(lambda: bool(set(proxy_pod(lab, host)) - {old}), 120, f"a new kube-proxy on {host}")
    wait_until(
        lambda: CANARY not in lab.run(host, "ipvsadm -Ln"), 60, f"kube-proxy empties IPVS when it starts on {host}"
    )
    lab.run(host, "sleep 10; touch /run/ipvs-watch.stop; sleep 0.5")
    lines = [line.split() for line in lab.run(host, "cat /run/ipvs-watch").splitlines()]
    return [(float(at), vip == "1", canary == "1") for at, vip, canary in lines]


def longest_gap(seen: list[tuple[float, bool, bool]]) -> float:
    """For how many seconds at most the VIP was away, up to the end of what was seen."""
    longest, since = 0.0, None
    for at, there, _canary in seen:
        if there:
            since = None
            continue
        since = at if since is None else since
        longest = max(longest, at - since)
    return longest


def test_a_cluster_of_the_newest_kubernetes(lab: Lab) -> None:
    run = lab.play("cluster", *settings())
    assert "all 2 pings between pods on different nodes came back" in run.output
    nodes = json.loads(lab.kubectl("get nodes -o json"))["items"]
    assert [node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes] == [VERSION] * len(HOSTS)
    for node in nodes:
        assert [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"] == ["True"]
    for host in HOSTS:
        assert lab.api_through_vip(host)
        # What kube-proxy says of itself, not what it was told.
        assert lab.run(host, f"python3 -c {shlex.quote(ASK_MODE)}").strip() == "nftables"


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    assert not lab.play("cluster", *settings()).changed()


def test_without_the_guard_a_starting_kube_proxy_takes_the_api_away(lab: Lab) -> None:
    """What the guard is for: without it the next test would fail."""
    lab.run("node01", "systemctl stop multinic-apiserver-guard")
    try:
        seen = restarted(lab, "node01")
        assert seen[0][1:] == (True, True) and seen[-1][1:] == (False, False)
        assert longest_gap(seen) > MOST_SECONDS_WITHOUT_VIP
    finally:
        lab.run("node01", "systemctl start multinic-apiserver-guard")
    wait_until(lambda: lab.api_through_vip("node01"), 10, "the guard puts the virtual server back")


@pytest.mark.parametrize("host", HOSTS)
def test_the_guard_heals_what_a_starting_kube_proxy_flushes(lab: Lab, host: str) -> None:
    seen = restarted(lab, host)
    assert seen[0][2] and not seen[-1][2]
    gap = longest_gap(seen)
    print(f"{host}: the VIP was away for {gap:.2f} s")
    assert gap <= MOST_SECONDS_WITHOUT_VIP
    assert lab.api_through_vip(host)


def test_the_doctor_tells_the_mode(lab: Lab, tmp_path: Path) -> None:
    report = tmp_path / "doctor.json"
    run = lab.play("doctor", *settings(), "-e", f"doctor_report_path={report}")
    assert "kube-proxy in nftables mode" in run.output
    assert "ERRORS" not in run.output


def test_an_older_kubernetes_has_no_such_mode(lab: Lab) -> None:
    """Refused before any host is changed, with the bundle of the lab's other clusters."""
    run = lab.play("cluster", "-e", "kube_proxy_mode=nftables", expect=None)
    assert run.returncode != 0
    assert not run.changed()
    assert "'nftables' is wanted, and Kubernetes v1.20.2 is planned" in run.output
