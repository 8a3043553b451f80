# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as it runs on a host: a process of its own, on real files below a temporary folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECRET = "hunter2-hunter2"


class Runner:
    def __init__(self, repository: Path, folder: Path) -> None:
        self.module = repository / "plugins/modules/host_state.py"
        self.environment = {**os.environ, "PYTHONPATH": str(repository / ".collections")}
        self.folder = folder
        self.output = ""

    def __call__(self, check: bool = False, **params: Any) -> dict[str, Any]:
        arguments = {"name": "t", **params, "_ansible_check_mode": check, "_ansible_diff": True}
        path = self.folder.parent / "arguments.json"
        path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        command = [sys.executable, str(self.module), str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment)
        self.output = done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def run(repository: Path, tmp_path: Path) -> Runner:
    folder = tmp_path / "host"
    folder.mkdir()
    return Runner(repository, folder)


def test_check_changes_nothing_and_foretells_what_is_then_done_once(run: Runner) -> None:
    folder = run.folder
    (folder / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 me\n")
    (folder / "hosts").chmod(0o640)
    (folder / "binary").write_bytes(b"\0binary")
    wish: dict[str, Any] = {
        "directories": [{"path": str(folder / "a/b"), "mode": "0750"}],
        "files": [
            {"path": str(folder / "a/b/file"), "content": "text\n", "mode": "0600"},
            {"path": str(folder / "copy"), "source": str(folder / "binary"), "mode": "0755"},
            {"path": str(folder / "linked"), "source": str(folder / "binary"), "mode": "0755", "hard_link": True},
        ],
        "links": [{"path": str(folder / "link"), "target": "copy"}],
        "blocks": [{"path": str(folder / "hosts"), "content": "10.0.0.1 me\n"}],
        "absent_lines": [{"path": str(folder / "hosts"), "regexp": r"^127\.0\.1\.1\s"}],
    }
    foretold = run(check=True, **wish)
    assert run.names() == ["binary", "hosts"]
    done = run(**wish)
    assert (done["changed"], done["changes"], done["diff"]) == (True, foretold["changes"], foretold["diff"])
    assert (folder / "a/b").stat().st_mode & 0o777 == 0o750
    assert (folder / "a/b/file").stat().st_mode & 0o777 == 0o600
    assert (folder / "copy").read_bytes() == b"\0binary"
    assert (folder / "linked").samefile(folder / "binary")
    assert not (folder / "copy").samefile(folder / "binary")
    assert (folder / "link").readlink() == Path("copy")
    assert (folder / "hosts").read_text() == (
        "127.0.0.1 localhost\n# BEGIN multinic t\n10.0.0.1 me\n# END multinic t\n"
    )
    assert (folder / "hosts").stat().st_mode & 0o777 == 0o640
    again = run(**wish)
    assert (again["changed"], again["changes"], again["diff"]) == (False, [], [])


def test_a_file_that_is_refused_leaves_all_files_as_they_were(run: Runner) -> None:
    (run.folder / "good").write_text("old")
    files = [
        {"path": str(run.folder / "good"), "content": "new", "validate": "grep -q new %s"},
        {"path": str(run.folder / "bad"), "content": "new", "validate": "grep -q old %s"},
    ]
    result = run(files=files)
    assert result["failed"]
    assert f"{run.folder}/bad was not written: 'grep -q old %s' refused it" in result["msg"]
    assert run.names() == ["good"]
    assert (run.folder / "good").read_text() == "old"


def test_a_secret_is_in_no_output(run: Runner) -> None:
    files = [{"path": str(run.folder / "secret"), "content": SECRET, "sensitive": True, "mode": "0600"}]
    assert run(check=True, files=files)["changed"]
    assert SECRET not in run.output
    assert run(files=files)["changed"]
    assert SECRET not in run.output
    assert (run.folder / "secret").read_text() == SECRET
    assert run(files=[*files, {"path": "relative", "content": ""}])["failed"]
    assert SECRET not in run.output


def test_what_a_killed_run_left_is_cleared_away(run: Runner) -> None:
    (run.folder / ".multinic-abc123-file").write_text("half")
    assert run(files=[{"path": str(run.folder / "file"), "content": "whole"}])["changed"]
    assert run.names() == ["file"]


def test_a_link_in_place_of_a_file_is_replaced_not_followed(run: Runner) -> None:
    (run.folder / "precious").write_text("precious")
    (run.folder / "file").symlink_to("precious")
    assert run(files=[{"path": str(run.folder / "file"), "content": "new"}])["changed"]
    assert (run.folder / "precious").read_text() == "precious"
    assert (run.folder / "file").read_text() == "new"


def test_a_block_follows_the_link_of_its_file(run: Runner) -> None:
    (run.folder / "real").write_text("x\n")
    (run.folder / "link").symlink_to("real")
    assert run(blocks=[{"path": str(run.folder / "link"), "content": "y"}])["changed"]
    assert (run.folder / "link").is_symlink()
    assert "y\n" in (run.folder / "real").read_text()


def test_a_kernel_parameter_that_does_not_exist_is_foretold_but_then_an_error(run: Runner) -> None:
    sysctls = {"net.no_such_parameter": "1"}
    foretold = run(check=True, sysctls=sysctls)
    assert "set sysctl net.no_such_parameter = 1 (was absent)" in foretold["changes"]
    result = run(sysctls=sysctls)
    assert "net.no_such_parameter does not exist" in result["msg"]
    assert not Path("/etc/sysctl.d/99-zz-multinic-t.conf").exists()


def test_what_somebody_else_wrote_is_kept_as_it_was(run: Runner) -> None:
    path = run.folder / "config"
    path.write_text("theirs\n")
    path.chmod(0o640)
    files = [{"path": str(path), "content": "# Written by multinic.kubernetes\n", "backup": True}]
    foretold = run(check=True, files=files)
    done = run(files=files)
    assert done["changes"] == foretold["changes"]
    saved = run.folder / "config.multinic-saved"
    assert (saved.read_text(), saved.stat().st_mode & 0o777) == ("theirs\n", 0o640)
    path.write_text("again theirs\n")
    run(files=files)
    assert run.names() == ["config", "config.multinic-saved"]
    assert saved.read_text() == "theirs\n"


def test_a_link_is_made_only_to_what_is_there(run: Runner) -> None:
    (run.folder / "second").write_text("")
    there, nowhere = str(run.folder / "second"), str(run.folder / "nowhere")
    links = [
        {"path": str(run.folder / "link"), "targets": [nowhere, there]},
        {"path": str(run.folder / "none"), "targets": [nowhere]},
    ]
    assert run(links=links)["changes"] == [f"link {run.folder}/link to {there}"]
    assert run.names() == ["link", "second"]
    assert not run(links=links)["changed"]
