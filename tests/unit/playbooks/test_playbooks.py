# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks, run on this machine alone: what becomes of odd inventories and of limits."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = f"ansible_connection=local ansible_python_interpreter={sys.executable}"


MANIFEST = {
    "schema": 1,
    "kubernetes_version": "v1.20.2",
    "architecture": "amd64",
    "created": "2021-01-13T13:28:09Z",
    "image_repository": "k8s.gcr.io",
    "pause_image": "k8s.gcr.io/pause:3.2",
    "images_required": ["k8s.gcr.io/pause:3.2"],
    "parts": [
        {"path": f"bin/{name}", "sha256": "0" * 64, "size": 1, "mode": "0755", "kind": "binary"}
        for name in ("kubeadm", "kubelet", "kubectl")
    ],
    "missing": [{"name": "k8s.gcr.io/pause:3.2", "reason": "brought by the hosts"}],
}


def play(name: str, inventory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the collection as it is in this checkout, never as root of anything else."""
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            name if "/" in name else str(ROOT / "playbooks" / f"{name}.yml"),
            "-i",
            str(inventory),
            "-e",
            "ansible_become=false",
            *arguments,
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "hosts.ini"
    path.write_text(text, encoding="utf-8")
    return path


# --- groups ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inventory", "arguments", "groups"),
    [
        pytest.param(f"[masters]\nm1 {HERE}\n[workers]\nn1 {HERE}\n", [], "masters, workers", id="other names"),
        pytest.param(f"[kube-node]\nn1 {HERE}\n", ["--limit", "n1"], "kube-node", id="other names and a limit"),
        pytest.param(f"n1 {HERE}\n", [], "no groups", id="no groups"),
        pytest.param("", [], "no groups", id="no hosts"),
        pytest.param(f"[kube_node]\n[kube_control_plane]\n[other]\nn1 {HERE}\n", [], "other", id="empty groups"),
    ],
)
def test_an_inventory_without_the_groups_is_refused(
    inventory: str, arguments: list[str], groups: str, tmp_path: Path
) -> None:
    name = "cluster" if arguments else "preflight"
    run = play(name, written(tmp_path, inventory), *arguments)
    told = " ".join(run.stdout.split())
    assert run.returncode != 0, run.stdout
    assert "no host in the groups kube_control_plane and kube_node" in told
    assert f"({groups})" in told
    assert "DEPRECATION" not in run.stdout + run.stderr


# --- limits ----------------------------------------------------------------------------------------------------------


def report(folder: Path, inventory: str, *arguments: str) -> dict[str, Any]:
    path = folder / "report.json"
    run = play(
        "preflight",
        written(folder, inventory),
        "-e",
        f"preflight_report_path={path} kubernetes_version=v1.20.2 cluster_network=lo",
        *arguments,
    )
    assert path.exists(), run.stdout + run.stderr
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


CLUSTER = f"[kube_control_plane]\nm1 {HERE}\nm2 {HERE}\n[kube_node]\nn1 {HERE}\nn2 {HERE}\n"


def without_facts(found: dict[str, Any]) -> set[str]:
    return {item["host"] for item in found["findings"] if "cannot be reached" in item["found"]}


def seen(found: dict[str, Any]) -> set[str]:
    """Hosts of which something is told that only their facts can tell: all are this machine, with its machine-id."""
    return {item["host"] for item in found["findings"] if "is the same machine as" in item["found"]}


@pytest.mark.parametrize("arguments", [[], ["--limit", "n2,m1"]], ids=["all hosts", "limited"])
def test_all_hosts_are_looked_at(arguments: list[str], tmp_path: Path) -> None:
    found = report(tmp_path, CLUSTER, *arguments)
    assert without_facts(found) == set()
    assert seen(found) == {"m1", "m2", "n1", "n2"}


def test_masters_alone_are_a_cluster(tmp_path: Path) -> None:
    found = report(tmp_path, f"[kube_control_plane]\nm1 {HERE}\n")
    assert not [item for item in found["findings"] if item["variable"] == "kube_control_plane"]


def test_a_host_outside_the_limit_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    hosts = CLUSTER.replace(f"n1 {HERE}", "n1 ansible_host=127.0.0.1 ansible_port=1")
    found = report(tmp_path, hosts, "--limit", "n2,m1")
    (told,) = [item for item in found["findings"] if "it cannot be reached" in item["found"]]
    assert (told["host"], told["variable"]) == ("n1", "ansible_host")
    assert "take it out of the inventory" in told["remedy"]
    assert seen(found) == {"m1", "m2", "n2"}


# --- tags ------------------------------------------------------------------------------------------------------------

ONE_TAG = """
- name: One role alone
  hosts: kube_control_plane
  gather_facts: false
  roles:
    - {role: multinic.kubernetes.bundle, tags: [bundle]}
  tasks:
    - name: What other roles need of the bundle
      ansible.builtin.debug:
        msg: "{{ [bundle_facts.path, bundle_facts.pause_image, bundle_facts.binaries | length] | join(' ') }}"
      vars:
        bundle_facts: "{{ ansible_facts['multinic_bundle'] }}"
      tags: [node]
"""


def test_a_role_alone_knows_the_bundle_and_brings_it_nowhere(tmp_path: Path) -> None:
    bundle = tmp_path / "kube.tar.gz"
    data = json.dumps(MANIFEST).encode()
    with tarfile.open(bundle, "w:gz") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    playbook = tmp_path / "play.yml"
    playbook.write_text(ONE_TAG, encoding="utf-8")
    root = tmp_path / "unpacked"
    inventory = written(tmp_path, f"[kube_control_plane]\nm1 {HERE}\nm2 {HERE}\n")
    given = f"bundle={bundle} bundle_sha256={'a' * 64} bundle_root={root}"
    run = play(str(playbook), inventory, "-e", given, "--tags", "node")
    assert run.returncode == 0, run.stdout
    assert " ".join(run.stdout.split()).count(f"{root}/current k8s.gcr.io/pause:3.2 3") == 2
    assert not root.exists()


@pytest.mark.parametrize("tag", ["node", "verify"])
def test_every_tag_begins_with_the_plan_and_the_bundles_facts(tag: str, tmp_path: Path) -> None:
    run = play("cluster", written(tmp_path, CLUSTER), "--tags", tag, "--list-tasks")
    for task in (
        "The cluster is planned",
        "All findings are told, and none is an error",
        "What the bundle holds is known",
    ):
        assert task in run.stdout


# --- doctor ----------------------------------------------------------------------------------------------------------


def examined(folder: Path, inventory: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    path = folder / "doctor.json"
    given = f"doctor_report_path={path} cluster_network=lo doctor_page={folder / 'doctor.html'} bundle=/nowhere.tar.gz"
    return play("doctor", written(folder, inventory), "-e", given, *arguments), path


def test_the_doctor_says_that_there_is_no_cluster_and_asks_for_no_bundle(tmp_path: Path) -> None:
    run, path = examined(tmp_path, f"[kube_control_plane]\nm1 {HERE}\n")
    assert run.returncode != 0, run.stdout
    told = " ".join(run.stdout.split())
    assert "no host is a node of a cluster" in told
    assert "changed=0" in told and "nowhere" not in told
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {item["variable"] for item in found["findings"]} & {"bundle", "kubernetes_version"} == set()
    assert (tmp_path / "doctor.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_doctor_tells_a_host_that_is_away_among_the_others(tmp_path: Path) -> None:
    run, path = examined(
        tmp_path, f"[kube_control_plane]\nm1 {HERE}\n[kube_node]\nn1 ansible_host=127.0.0.1 ansible_port=1\n"
    )
    assert run.returncode != 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {item["host"] for item in found["findings"] if item["variable"] == "ansible_host"} == {"n1"}


def test_the_doctor_writes_nothing_in_check_mode(tmp_path: Path) -> None:
    run, path = examined(tmp_path, f"[kube_control_plane]\nm1 {HERE}\n", "--check", "--diff")
    assert "no host is a node of a cluster" in " ".join(run.stdout.split())
    assert not path.exists()
    assert not (tmp_path / "doctor.html").exists()
