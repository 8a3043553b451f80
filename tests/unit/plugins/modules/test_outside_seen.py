# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of the outside address on this machine, of something that answers as an API server does."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_outside as check
from ansible_collections.multinic.kubernetes.plugins.modules import cluster_status as module

NAME = "apiserver.cluster.local"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"


def pem() -> tuple[bytes, bytes]:
    """A key and a certificate for the API's name and one address, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address(HERE))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, made.public_bytes(serialization.Encoding.PEM)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name is the parent's
        pass


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    private, certificate = pem()
    (tmp_path / "both.pem").write_bytes(private + certificate)
    (tmp_path / "ca.crt").write_bytes(certificate)
    (tmp_path / "kube-apiserver.yaml").write_text(f"    - --advertise-address={HERE}\n", encoding="utf-8")
    monkeypatch.setattr(module, "CA", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(module, "MANIFESTS", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with http.server.ThreadingHTTPServer((HERE, 0), Answer) as answering:
        answering.socket = context.wrap_socket(answering.socket, server_side=True)
        thread = threading.Thread(target=answering.serve_forever)
        thread.start()
        yield answering.server_address[1]
        answering.shutdown()
        thread.join()


def host(port: int) -> module.Host:
    def run_command(words: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    fake: Any = SimpleNamespace(params={"port": port, "server_name": NAME}, run_command=run_command)
    return module.Host(fake)


def test_who_has_an_address_that_the_certificate_holds_is_told_so(port: int) -> None:
    assert host(port).outside(HERE) == {"address": HERE, "held": True, "error": "", "certificate": ""}


def test_a_certificate_that_lacks_the_address_is_told_beside_who_does_not_answer(port: int) -> None:
    told = host(port).outside(ELSEWHERE)
    assert (told["address"], told["held"]) == (ELSEWHERE, False)
    assert "refused" in told["error"]
    assert f"certificate is not valid for '{ELSEWHERE}'" in told["certificate"]


def test_of_an_api_server_that_does_not_answer_no_certificate_is_told(port: int) -> None:
    assert host(1).outside(HERE)["certificate"] == ""
    assert "refused" in host(1).outside(HERE)["error"]


def test_whether_the_api_server_is_ready_is_asked_by_tls(port: int) -> None:
    assert check.ask(HERE, port, "/readyz").ready
    answer = check.ask(HERE, port, "/livez")
    assert (answer.ready, answer.silent) == (False, False)
    assert "503" in answer.told
