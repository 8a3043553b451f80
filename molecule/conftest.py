# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' tests share: the hosts come from testinfra, what the controller does from here."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / "molecule/inventory"
CACHE = Path(os.environ.get("MULTINIC_CACHE") or "/var/cache/multinic-kubernetes")
LAB = "molecule"


def on_controller(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            **environment,
        },
    )


@pytest.fixture(scope="session")
def play() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a playbook of the collection against the molecule lab: play("preflight", "-e", "…")."""

    def run(playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return on_controller("ansible-playbook", f"playbooks/{playbook}.yml", "-i", str(INVENTORY), *arguments)

    return run


@pytest.fixture(scope="session")
def converge() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a scenario's converge.yml once more: converge("apiserver_balancer", "-e", "…")."""

    def run(scenario: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        folder = ROOT / "molecule" / scenario
        inventories = [INVENTORY, *(path for path in [folder / "inventory"] if path.exists())]
        words = [word for path in inventories for word in ("-i", str(path))]
        return on_controller("ansible-playbook", str(folder / "converge.yml"), *words, *arguments)

    return run


def pem() -> str:
    """A key and a certificate for the API's name, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "apiserver.cluster.local")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("apiserver.cluster.local")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + made.public_bytes(serialization.Encoding.PEM)).decode()


@pytest.fixture(scope="session")
def api_pem() -> str:
    """Of something that passes for an API server."""
    return pem()


@pytest.fixture(scope="session")
def other_pem() -> str:
    """Of another cluster's."""
    return pem()


@pytest.fixture(scope="session")
def guest() -> Callable[..., None]:
    """Do to guests what their hypervisor could: guest(guests=["node01"], state="frozen")."""

    def do(**parameters: Any) -> None:
        wanted = json.dumps({"lab": LAB, "cache": str(CACHE), **parameters})
        done = on_controller("ansible", "localhost", "-m", "multinic.kubernetes.lab_guest", "-a", wanted)
        assert done.returncode == 0, done.stdout + done.stderr

    return do


@pytest.fixture(scope="session")
def reach() -> Callable[[str], Host]:
    """Another host than the one a test is about."""

    def host(name: str) -> Host:
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(CACHE / "labs" / LAB / "ssh_config"), sudo=True)

    return host


@pytest.fixture(scope="session")
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A command on a guest through ssh that gives up by itself, for guests that may be dead."""

    def run(name: str, command: str, timeout: int = 5) -> subprocess.CompletedProcess[str]:
        return on_controller(
            "timeout",
            str(timeout),
            "ssh",
            "-F",
            str(CACHE / "labs" / LAB / "ssh_config"),
            f"-oConnectTimeout={timeout}",
            name,
            f"sudo sh -c {shlex.quote(command)}",
        )

    return run


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool], float], bool]:
    """Whether something becomes true within some seconds."""

    def wait(condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    return wait
