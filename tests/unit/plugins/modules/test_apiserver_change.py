# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module asks and looks at, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.modules import apiserver_change as module
from ansible_collections.multinic.kubernetes.tests.unit.api_server import api_server, self_signed

NAME = "apiserver.cluster.local"
VIP = "10.103.97.2"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of something that answers as an API server does, and its certificate."""
    with api_server(tmp_path, NAME) as port:
        yield port, tmp_path / "ca.crt"


def test_only_an_answer_200_is_one(server: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, trusted = server
    monkeypatch.setattr(module, "CA", str(trusted))
    assert module.ask("127.0.0.1", port, NAME, "/readyz") == ""
    assert " 500 " in f"{module.ask('127.0.0.1', port, NAME, '/livez')} "
    assert "refused" in module.ask("127.0.0.2", port, NAME, "/readyz")


def test_whoever_is_there_must_have_the_clusters_certificate(
    server: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _trusted = server
    other = tmp_path / "other.crt"
    other.write_bytes(self_signed("kubernetes")[1])
    monkeypatch.setattr(module, "CA", str(other))
    assert "certificate verify failed" in module.ask("127.0.0.1", port, NAME, "/readyz").lower()
    monkeypatch.setattr(module, "CA", str(tmp_path / "not-yet.crt"))
    assert module.ask("127.0.0.1", port, NAME, "/readyz") == ""


@pytest.mark.parametrize("content", [b"", b"\0" * 1099, b"-----BEGIN CERTIFICATE-----\nMIIC5zCC"])
def test_an_authority_that_a_power_loss_left_empty_is_told(
    server: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    damaged = tmp_path / "damaged.crt"
    damaged.write_bytes(content)
    monkeypatch.setattr(module, "CA", str(damaged))
    told = module.ask("127.0.0.1", server[0], NAME, "/readyz")
    assert told.startswith(f"{damaged} on this host holds no certificate. It is the same on every host")


@pytest.mark.parametrize(("now", "seconds"), [(1000.0, 6.0), (1004.0, 2.0), (1007.0, 0.0), (100.0, 6.0)])
def test_a_clock_that_was_put_back_holds_nothing_up(now: float, seconds: float) -> None:
    assert module.time_left(1000.0, now) == seconds


def process(proc: Path, number: int, command: str, hosts: str | Path) -> None:
    folder = proc / str(number)
    (folder / "root/etc").mkdir(parents=True)
    (folder / "comm").write_text(f"{command}\n", encoding="utf-8")
    if isinstance(hosts, Path):
        (folder / "root/etc/hosts").hardlink_to(hosts)
    else:
        (folder / "root/etc/hosts").write_text(hosts, encoding="utf-8")


def test_whoever_has_an_old_hosts_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, proc = tmp_path / "hosts", tmp_path / "proc"
    mine.write_text(f"127.0.0.1 {NAME}\n", encoding="utf-8")
    process(proc, 10, "kubelet", mine)
    process(proc, 20, "kube-proxy", f"# Kubernetes-managed hosts file (host network).\n{VIP} {NAME}\n")
    process(proc, 30, "etcd", f"127.0.0.1 {NAME}\n")
    process(proc, 40, "app", f"# {VIP} {NAME}\n{VIP} another.name\n")
    (proc / "50").mkdir()
    (proc / "self").mkdir()
    monkeypatch.setattr(module, "PROC", proc)
    monkeypatch.setattr(module, "HOSTS", mine)
    assert module.stale(NAME, {VIP}) == {20: "kube-proxy"}
    assert module.stale(NAME, {"127.0.0.1"}) == {30: "etcd"}
