# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.modules import component_status

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: 83FDA8C0:9C40 0261670A:192B 01 00000000:00000000 00:00000000 00000000     0        0 101 1\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc with kubelet on the host, etcd on the host, and somebody's own etcd in a pod that is older."""
    monkeypatch.setattr(component_status, "PROC", tmp_path)
    for number, words, network in (
        ("self", "python3", "net:[1]"),
        ("7", "/usr/bin/etcd\0--listen-client-urls=http://0.0.0.0:2379", "net:[2]"),
        ("12", "etcd\0--listen-client-urls=https://192.168.253.129:2379", "net:[1]"),
        ("9", "/usr/bin/kubelet\0--node-ip=192.168.253.129\0--config\0/var/lib/kubelet/config.yaml", "net:[1]"),
        ("30", "", "net:[1]"),
    ):
        folder = tmp_path / number
        for part in ("ns", "fd", "net"):
            (folder / part).mkdir(parents=True)
        (folder / "cmdline").write_text(words + "\0" * bool(words))
        (folder / "ns/net").symlink_to(network)
    (tmp_path / "9/fd/5").symlink_to("socket:[101]")
    (tmp_path / "9/fd/6").symlink_to("/dev/null")
    (tmp_path / "9/net/tcp").write_text(HEAD + LINE)
    return tmp_path


def test_a_program_of_the_same_name_in_a_pod_is_not_the_clusters(proc: Path) -> None:
    found = component_status.find_processes()
    assert sorted(found) == ["etcd", "kubelet"]
    assert found["etcd"].flags == {"listen-client-urls": "https://192.168.253.129:2379"}
    assert found["kubelet"].flags["config"] == "/var/lib/kubelet/config.yaml"


def test_a_programs_connections_are_found_by_its_sockets(proc: Path) -> None:
    found = component_status.find_processes()
    assert found["kubelet"].inodes() == {"101"}
    assert found["kubelet"].ends()["outgoing"] == [
        {"local": "192.168.253.131", "remote": "10.103.97.2", "port": 6443, "count": 1}
    ]
    assert found["etcd"].ends() == {"listens": [], "outgoing": [], "incoming": []}


def test_a_program_that_serves_nothing_shows_no_certificate(proc: Path) -> None:
    process = component_status.Process(proc / "9", ["--advertise-address=127.0.0.1", "--secure-port=1"])
    assert component_status.served(process, 1) == ""
