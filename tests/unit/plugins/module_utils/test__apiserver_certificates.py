# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_certificates as certificates

VIP = "10.103.97.2"
NAME = "apiserver.cluster.local"


def settings(authority: Authority, port: int) -> dict[str, Any]:
    return {"ca": str(authority.path), "port": port, "source": "127.0.0.1", "name": NAME}


class Authority:
    """Signs certificates as kubeadm does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.path = folder / f"{name}.crt"
        made = self.builder(self.name, self.key, 0).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), True
        )
        self.path.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=days or 9))
        )

    def server(self, name: str, days: int = 9) -> Path:
        """A file with a certificate for the name, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
        made = self.builder(subject, key, days).add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        path = self.folder / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "kubernetes")


@pytest.mark.parametrize(
    ("name", "days", "other", "trouble"),
    [
        (NAME, 9, False, ""),
        (NAME, -1, False, "certificate has expired"),
        ("elsewhere.example", 9, False, f"Hostname mismatch, certificate is not valid for '{NAME}'."),
        (NAME, 9, True, "unable to get local issuer certificate"),
    ],
)
def test_certificates_are_judged_as_clients_judge_them(
    tmp_path: Path, authority: Authority, name: str, days: int, other: bool, trouble: str
) -> None:
    """By the program, as the guard begins it once a minute."""
    pem = (Authority(tmp_path, "stranger") if other else authority).server(name, days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def serve(listener: socket.socket) -> None:
        client, _address = listener.accept()
        try:
            with context.wrap_socket(client, server_side=True) as stream:
                stream.recv(1)
        except OSError:
            pass  # the client has seen enough

    with socket.create_server(("127.0.0.1", 0)) as listener:
        wanted = settings(authority, listener.getsockname()[1])
        wanted["ways"] = [{"vip": "fd00::2", "source": "::1"}, {"vip": VIP, "source": wanted.pop("source")}]
        config = tmp_path / "config.json"
        config.write_text(json.dumps(wanted), encoding="utf-8")
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        words = [sys.executable, "-I", "-S", "-E", certificates.__file__, str(config), VIP, "127.0.0.1"]
        told = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        thread.join(10)
    assert told == ({"127.0.0.1": trouble} if trouble else {})


def test_a_server_that_does_not_answer_has_no_bad_certificate(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert certificates.troubles(settings(authority, port), ["127.0.0.1"]) == {}
