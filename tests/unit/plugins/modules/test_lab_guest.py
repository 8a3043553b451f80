# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that the lab's description no longer names does not outlive the lab."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab, _lab_run
from ansible_collections.multinic.kubernetes.plugins.modules import lab_guest, lab_network


def plan(*names: str) -> _lab.Lab:
    return _lab.plan(
        "unit",
        {"external": {"cidr": "192.0.2.0/24", "gateway": "192.0.2.1", "default_route": True}},
        [
            {"name": name, "cards": [{"name": "eth0", "network": "external", "addresses": [f"192.0.2.{10 + number}"]}]}
            for number, name in enumerate(names)
        ],
    )


class Machine:
    """The processes of the lab's guests, as this machine would tell of them."""

    def __init__(self, *running: str) -> None:
        self.running = set(running)

    def processes(self, paths: _lab_run.Paths) -> dict[str, list[_lab_run.Process]]:
        return {name: [_lab_run.Process(1, 1, "S")] for name in self.running}

    def send(self, paths: _lab_run.Paths, name: str, number: signal.Signals) -> None:
        assert number is signal.SIGKILL
        self.running.discard(name)


@pytest.fixture
def paths(tmp_path: Path) -> _lab_run.Paths:
    """A lab of which `gone` was part until its description changed; all its guests run."""
    paths = _lab_run.Paths(tmp_path, "unit")
    for name in ("one", "two", "gone"):
        _lab_run.write(paths.guest(name) / "base", "image\n")
    _lab_run.write(paths.plan, _lab.dump(plan("one", "two")))
    return paths


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine("one", "two", "gone")
    monkeypatch.setattr(_lab_run, "processes", machine.processes)
    monkeypatch.setattr(_lab_run, "send", machine.send)
    monkeypatch.setattr(lab_guest.Guests, "differs", lambda self, name: False)
    return machine


def change(paths: _lab_run.Paths, names: list[str] | None, state: str, **more: Any) -> dict[str, str]:
    arguments = {"fresh": False, "prune": False, "wait": False, "check_mode": False, **more}
    return lab_guest.change_state(lab_guest.Guests(paths, names, 1), state, **arguments)


def test_absence_of_all_takes_what_is_left_too(paths: _lab_run.Paths, machine: Machine) -> None:
    assert change(paths, None, "absent") == dict.fromkeys(["one", "two", "gone"], "remove")
    assert not machine.running
    assert not any(paths.guest(name).exists() for name in ("one", "two", "gone"))
    assert lab_network.absent(paths, check_mode=False)["changed"]


def test_absence_without_a_description_takes_whatever_is_left(paths: _lab_run.Paths, machine: Machine) -> None:
    paths.plan.unlink()
    assert sorted(change(paths, None, "absent")) == ["gone", "one", "two"]
    assert not machine.running


@pytest.mark.parametrize("name", ["one", "gone"])
def test_absence_of_one_leaves_the_others(paths: _lab_run.Paths, machine: Machine, name: str) -> None:
    assert change(paths, [name], "absent") == {name: "remove"}
    assert machine.running == {"one", "two", "gone"} - {name}


def test_a_lab_as_described_has_no_other_guests(paths: _lab_run.Paths, machine: Machine) -> None:
    assert change(paths, None, "started", prune=True) == {"gone": "remove"}
    assert machine.running == {"one", "two"}
    assert not paths.guest("gone").exists()
    assert change(paths, None, "started", prune=True) == {}


@pytest.mark.parametrize(("names", "prune"), [(None, False), (["one"], True)])
def test_what_is_left_stays_unless_told(
    paths: _lab_run.Paths, machine: Machine, names: list[str] | None, prune: bool
) -> None:
    assert change(paths, names, "started", prune=prune) == {}
    assert machine.running == {"one", "two", "gone"}


def test_check_mode_tells_and_does_nothing(paths: _lab_run.Paths, machine: Machine) -> None:
    assert change(paths, None, "started", prune=True, check_mode=True) == {"gone": "remove"}
    assert machine.running == {"one", "two", "gone"}
    assert paths.guest("gone").exists()
