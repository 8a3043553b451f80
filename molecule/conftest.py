# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' tests share: the hosts come from testinfra, what the controller does from here."""

from __future__ import annotations

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
