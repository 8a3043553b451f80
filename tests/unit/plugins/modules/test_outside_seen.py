# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of the outside address on this machine, of something that answers as an API server does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_outside as check
from ansible_collections.multinic.kubernetes.plugins.modules import cluster_status as module
from ansible_collections.multinic.kubernetes.tests.unit.api_server import api_server

NAME = "apiserver.cluster.local"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    (tmp_path / "kube-apiserver.yaml").write_text(f"    - --advertise-address={HERE}\n", encoding="utf-8")
    monkeypatch.setattr(module, "CA", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(module, "MANIFESTS", tmp_path)
    with api_server(tmp_path, NAME, [HERE], otherwise=503) as port:
        yield port


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
