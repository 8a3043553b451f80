# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.callback.phases import (
    LONGEST_QUOTE,
    Heartbeat,
    Phases,
    Watcher,
    duration,
    last_line,
)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0.0 s"), (0.44, "0.4 s"), (10, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_heartbeat_is_silent_before_its_time_and_after_the_task() -> None:
    beat = Heartbeat(first=10)
    assert beat.line(100) == ""
    beat.start("The apiserver answers", 100)
    assert beat.line(109.9) == ""
    assert beat.line(110) == "  … still: The apiserver answers (10 s)"
    beat.stop()
    assert beat.line(1000) == ""


def test_heartbeat_pauses_grow_up_to_a_minute() -> None:
    beat = Heartbeat(first=10)
    beat.start("build", 0)
    spoken = [second for second in range(900) if beat.line(second)]
    pauses = [after - before for before, after in zip(spoken, spoken[1:])]
    assert spoken[:3] == [10, 20, 30]
    assert pauses == sorted(pauses)
    assert max(pauses) == 60


def test_heartbeat_names_the_hosts_that_have_not_answered_or_quotes_the_controllers_progress() -> None:
    beat = Heartbeat(first=1)
    beat.start("join", 0)
    beat.hosts = dict.fromkeys(["localhost", "a", "b", "c", "d", "e", "f"])
    assert beat.line(1, "image 3 of 9") == "  … still: join (1.0 s, waiting for a, b, c, d and 2 more)"
    beat.hosts = {"localhost": None}
    assert beat.line(2, "image 3 of 9") == "  … still: join (2.0 s): image 3 of 9"


def test_heartbeat_of_zero_is_off() -> None:
    beat = Heartbeat(first=0)
    beat.start("build", 0)
    assert beat.line(10_000) == ""


def test_phases_table_sums_up() -> None:
    phases = Phases()
    assert phases.table(5) == []
    phases.start("Proof", 0)
    assert phases.table(3) == ["  Proof         3.0 s"]
    phases.start("Everything else", 5)
    rows = phases.table(125)
    assert [row.split("  ")[1] for row in rows] == ["Proof", "Everything else", "total"]
    assert [row[-12:].strip() for row in rows] == ["5.0 s", "2 min 00 s", "2 min 05 s"]


def test_last_line_of_a_file_written_since(tmp_path: Path) -> None:
    file = tmp_path / "progress.log"
    assert last_line(str(file), 0) == ""
    file.write_bytes(b"first\n10 %\r\x1b[32m20 %\x1b[0m\n\n")
    assert last_line(str(file), 0) == "20 %"
    assert last_line(str(file), file.stat().st_mtime + 1) == ""
    file.write_text("x" * 9000)
    assert last_line(str(file), 0) == "x" * LONGEST_QUOTE
    file.write_text("\n\n")
    assert last_line(str(file), 0) == ""


def test_watcher_speaks_and_stops() -> None:
    spoken: list[float] = []
    watcher = Watcher(lambda: spoken.append(time.monotonic()), tick=0.01)
    watcher.start()
    deadline = time.monotonic() + 10
    while len(spoken) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    watcher.stop()
    assert len(spoken) >= 3
    assert not watcher.is_alive()


def test_watcher_ends_quietly_when_it_cannot_speak() -> None:
    def fail() -> None:
        raise RuntimeError("display is gone")

    watcher = Watcher(fail, tick=0.01)
    watcher.start()
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    watcher.stop()


def play(repository: Path, folder: Path, tasks: str, *, heartbeat: str = "0.3") -> subprocess.CompletedProcess[str]:
    """A real run with the callback enabled."""
    playbook = folder / "play.yml"
    playbook.write_text(
        "- name: Waiting phase\n  hosts: localhost\n  gather_facts: false\n  connection: local\n"
        f"  vars: {{ansible_python_interpreter: '{sys.executable}'}}\n  tasks:\n{tasks}"
        "- name: Closing phase\n  hosts: localhost\n  gather_facts: false\n  tasks: []\n",
        encoding="utf-8",
    )
    return subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", str(playbook)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(repository / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(repository / ".collections"),
            "ANSIBLE_CALLBACKS_ENABLED": "multinic.kubernetes.phases",
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "MULTINIC_HEARTBEAT_SECONDS": heartbeat,
            "MULTINIC_PROGRESS": str(folder / "progress.log"),
        },
    )


def test_a_real_run_shows_heartbeats_and_phases(repository: Path, tmp_path: Path) -> None:
    command = f"echo half done > {tmp_path}/progress.log; sleep 2"
    run = play(
        repository,
        tmp_path,
        f"    - name: Something slow\n      ansible.builtin.shell: {command}\n      changed_when: false\n",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"… still: Something slow \(\d\.\d s\): half done", run.stdout), run.stdout
    recap, phases = run.stdout.index("PLAY RECAP"), run.stdout.index("PHASES")
    assert recap < phases
    assert re.search(r"^  Waiting phase +[2-9]\.\d s$", run.stdout, re.MULTILINE), run.stdout
    assert re.search(r"^  Closing phase +\d\.\d s$", run.stdout, re.MULTILINE), run.stdout
    assert "callback" not in run.stderr.lower(), run.stderr


def test_a_failed_run_still_ends_with_its_phases(repository: Path, tmp_path: Path) -> None:
    run = play(repository, tmp_path, "    - name: Refused\n      ansible.builtin.fail:\n        msg: no\n")
    assert run.returncode == 2, run.stdout + run.stderr
    assert "… still" not in run.stdout
    assert re.search(r"^  Waiting phase +\d\.\d s$", run.stdout, re.MULTILINE), run.stdout


def test_a_run_with_unusable_progress_file_is_not_broken(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "progress.log").mkdir()
    run = play(
        repository,
        tmp_path,
        "    - name: Something slow\n      ansible.builtin.command: sleep 1\n      changed_when: false\n",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "… still: Something slow" in run.stdout
