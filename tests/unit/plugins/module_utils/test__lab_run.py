# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab, _lab_run

LAB = _lab.plan(
    "unit",
    {"external": {"cidr": "192.0.2.0/24", "gateway": "192.0.2.1", "default_route": True}},
    [
        {"name": "one", "cards": [{"name": "eth0", "network": "external", "addresses": ["192.0.2.11"]}]},
        {
            "name": "two",
            "login": "password",
            "cards": [{"name": "eth0", "network": "external", "addresses": ["192.0.2.12"]}],
        },
    ],
)


@pytest.fixture
def paths(tmp_path: Path) -> _lab_run.Paths:
    return _lab_run.Paths(tmp_path, LAB.name)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_secrets_are_made_once_and_are_nobody_elses(paths: _lab_run.Paths) -> None:
    assert _lab_run.make_secrets(paths, LAB) is True
    first = {path: path.read_bytes() for path in paths.folder.rglob("*") if path.is_file()}
    assert _lab_run.make_secrets(paths, LAB) is False
    assert {path: path.read_bytes() for path in paths.folder.rglob("*") if path.is_file()} == first
    for name in ("password", "id_ed25519", "guests/one/ssh_host_ed25519_key"):
        assert _mode(paths.folder / name) == 0o600
    known = (paths.folder / "known_hosts").read_text(encoding="utf-8")
    for guest in ("one", "two"):
        public = (paths.guest(guest) / "ssh_host_ed25519_key.pub").read_text(encoding="utf-8").split()[1]
        assert public in known


def test_the_second_disk_holds_the_guests_own_files(paths: _lab_run.Paths) -> None:
    _lab_run.make_secrets(paths, LAB)
    identity = _lab_run.write_identity(paths, LAB.guest("two"))
    assert identity == _lab_run.guest_identity(paths, LAB.guest("two"))
    disk = paths.guest("two") / "identity.tar"
    assert _mode(disk) == 0o600
    with tarfile.open(disk) as archive:
        members = {member.name: member for member in archive.getmembers()}
        password = archive.extractfile("var/lib/multinic-lab/password")
        assert password is not None
        assert password.read().decode() == f"lab:{(paths.folder / 'password').read_text(encoding='utf-8')}\n"
    assert members["etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert members["home/lab/.ssh"].uid == _lab_run.USER_ID
    assert members["etc/sudoers.d/lab"].uid == 0


def test_files_are_written_only_when_they_differ(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    assert _lab_run.write(path, "a\n", 0o600) is True
    assert _lab_run.write(path, "a\n", 0o600) is False
    assert _lab_run.write(path, "b\n", 0o600) is True
    assert (path.read_text(encoding="utf-8"), _mode(path)) == ("b\n", 0o600)


def test_a_lab_that_is_not_there_has_no_plan_and_no_processes(paths: _lab_run.Paths) -> None:
    assert _lab_run.load_plan(paths) is None
    assert _lab_run.processes(paths) == {}
    assert _lab_run.runs_with(paths, "one", []) is False


def test_processes_outside_the_kernels_root_are_never_taken_for_a_guest(paths: _lab_run.Paths) -> None:
    paths.kernel_root.mkdir()
    with subprocess.Popen(["sleep", "30"], executable="/bin/sleep") as innocent:
        lookalike = subprocess.Popen(["/bin/sh", "-c", "sleep 30; true", f"lab.name={LAB.name}", "umid=one"])
        try:
            assert _lab_run.processes(paths) == {}
            _lab_run.kill(paths, "one")
            assert innocent.poll() is None and lookalike.poll() is None
        finally:
            innocent.kill()
            lookalike.kill()
            lookalike.wait()


@pytest.mark.parametrize(
    ("states", "expected"),
    [("", "stopped"), ("S", "running"), ("TTT", "frozen"), ("TST", "running"), ("R", "running")],
)
def test_a_guest_is_frozen_only_as_a_whole(states: str, expected: str) -> None:
    found = [_lab_run.Process(100 + index, 100, state) for index, state in enumerate(states)]
    assert _lab_run.guest_state(found) == expected


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(_lab_run.RunError, match="failed with code"):
        _lab_run.run(["ip", "-n", "no-such-namespace", "link", "show"])
    with pytest.raises(_lab_run.RunError, match="is not installed"):
        _lab_run.run(["no-such-tool-anywhere"])
