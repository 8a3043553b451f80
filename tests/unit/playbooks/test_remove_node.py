# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/remove_node.yml on this machine alone: what is refused before any host is asked. The rest needs a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
CLUSTER = f"[kube_control_plane]\nm1 {HERE}\nm2 {HERE}\n[kube_node]\nn1 {HERE}\n"


def removal(folder: Path, inventory: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / "hosts.ini"
    path.write_text(inventory, encoding="utf-8")
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        str(ROOT / "playbooks/remove_node.yml"),
        "-i",
        str(path),
        "-e",
        "ansible_become=false cluster_network=lo",
        *arguments,
    ]
    return subprocess.run(
        command,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("inventory", "arguments", "words"),
    [
        pytest.param(CLUSTER, [], "Name the host to remove: -e node=NAME. There are m1, m2, n1.", id="no name"),
        pytest.param(CLUSTER, ["-e", "node=m9"], "no host m9. There are m1, m2, n1.", id="another name"),
        pytest.param(
            f"[kube_control_plane]\nm1 {HERE}\n[kube_node]\nn1 {HERE}\n",
            ["-e", "node=m1"],
            "m1 is the only control plane of the inventory",
            id="the last control plane",
        ),
        pytest.param("", ["-e", "node=m1"], "no host m1. There are none.", id="no hosts"),
    ],
)
def test_what_cannot_be_meant_is_refused(inventory: str, arguments: list[str], words: str, tmp_path: Path) -> None:
    run = removal(tmp_path, inventory, *arguments)
    assert run.returncode != 0, run.stdout
    assert words in " ".join(run.stdout.split())
    assert "The hosts are grouped" not in run.stdout


def test_no_host_is_wiped_where_the_removal_was_not_examined(tmp_path: Path) -> None:
    """All hosts are this machine, which is no member of a cluster: the run ends before the node's turn comes.

    In check mode, for what this shows is that a failure would be one.
    """
    run = removal(tmp_path, CLUSTER, "-e", "node=n1", "--check")
    assert run.returncode != 0, run.stdout
    told = " ".join(run.stdout.split())
    assert "nothing was changed" in told or "run this on a control plane that stays" in told
    assert "Nothing of the cluster is left on the host" not in told
    assert "changed=1" not in told


def test_a_host_that_is_reached_but_cannot_be_asked_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    cluster = CLUSTER.replace(f"n1 {HERE}", "n1 ansible_connection=local ansible_python_interpreter=/bin/false")
    run = removal(tmp_path, cluster, "-e", "node=n1")
    assert run.returncode != 0, run.stdout
    told = " ".join(run.stdout.split())
    assert "Ansible reaches n1, but it cannot be asked, and nothing was changed" in told
    assert "The control planes that stay" not in told
