# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight's report writes the page, as a play calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.multinic.kubernetes.tests.unit import page_reports as reports


def play(
    folder: Path, repository: Path, report: dict[str, Any], page: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    """Call the action with the report's plan, findings and measurements, on hosts that are not asked anything."""
    hosts = {}
    for name, facts in report["facts"].items():
        hosts[name] = {"facts_here": facts, "probe": {"network_probe": report["probes"].get(name, {})}}
    tasks = [
        {"ansible.builtin.set_fact": {"multinic": "{{ facts_here }}", "cacheable": True}},
        {"ansible.builtin.set_fact": {"cluster_plan": report["plan"], "cacheable": True}},
        {
            "multinic.kubernetes.preflight_report": {
                "findings": [item.as_dict() for item in report["findings"] if item.variable == "cluster_network"],
                "probe_result": "probe",
                "page": str(page),
            },
            "run_once": True,
        },
    ]
    book = [{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": tasks}]
    (folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    (folder / "play.yml").write_text(json.dumps(book), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", "-i", "inventory.yml", "play.yml", *words],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(folder / "none.cfg"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(repository / ".collections"),
        },
    )


def test_the_page_is_written_whole(tmp_path: Path, repository: Path) -> None:
    page = tmp_path / "reports" / "today" / "preflight.html"
    done = play(tmp_path, repository, reports.four(), page)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"The report as a page, with a drawing: {page.resolve()}" in done.stdout
    text = page.read_text(encoding="utf-8")
    for words in ("All checks passed", "192.168.253.129/24", "12 of 12", "10 Gbit/s", "UTC</time>"):
        assert words in text
    assert page.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in page.parent.iterdir()] == [page.name]


def test_the_page_is_written_before_errors_end_the_run(tmp_path: Path, repository: Path) -> None:
    page = tmp_path / "preflight.html"
    page.write_text("of yesterday", encoding="utf-8")
    done = play(tmp_path, repository, reports.four_in_trouble(), page)
    assert done.returncode != 0
    assert f"with a drawing: {page.resolve()}" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "4 errors, 1 warning" in text
    assert "port 10250 is taken by nginx" in text


def test_hosts_that_could_not_be_planned_are_on_the_page(tmp_path: Path, repository: Path) -> None:
    page = tmp_path / "preflight.html"
    done = play(tmp_path, repository, reports.typo(), page)
    assert done.returncode != 0
    assert "192.168.253.131/24" in page.read_text(encoding="utf-8")


def test_check_mode_writes_nothing(tmp_path: Path, repository: Path) -> None:
    page = tmp_path / "preflight.html"
    done = play(tmp_path, repository, reports.four(), page, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not page.exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "file").touch()
    page = tmp_path / "file" / "preflight.html"
    done = play(tmp_path, repository, reports.four(), page)
    assert done.returncode != 0
    assert f"The page cannot be written to {page}" in done.stdout + done.stderr
