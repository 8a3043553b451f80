# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module asks and looks at, on this machine."""

from __future__ import annotations

import datetime
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.multinic.kubernetes.plugins.modules import apiserver_change as module

NAME = "apiserver.cluster.local"
VIP = "10.103.97.2"


def pem(name: str) -> tuple[bytes, bytes]:
    """A key and a certificate for the name, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, made.public_bytes(serialization.Encoding.PEM)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 500)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name is the parent's
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of something that answers as an API server does, and its certificate."""
    private, certificate = pem(NAME)
    both, trusted = tmp_path / "both.pem", tmp_path / "ca.crt"
    both.write_bytes(private + certificate)
    trusted.write_bytes(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as answering:
        answering.socket = context.wrap_socket(answering.socket, server_side=True)
        thread = threading.Thread(target=answering.serve_forever)
        thread.start()
        yield answering.server_address[1], trusted
        answering.shutdown()
        thread.join()


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
    other.write_bytes(pem("kubernetes")[1])
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
