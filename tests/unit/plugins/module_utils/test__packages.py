# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _packages as core

RISING = [
    "1.0~rc1-1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb12u1",
    "1.0a-1",
    "1.0+dfsg-1",
    "1.0.1-1",
    "1.6.20~ds1-1+deb12u3",
    "1.6.20-1",
    "1.10-1",
    "1:0.1-1",
]


@pytest.mark.parametrize(("old", "new"), list(zip(RISING, RISING[1:])))
def test_debian_versions_rise(old: str, new: str) -> None:
    assert core.older(old, new)
    assert not core.older(new, old)
    assert not core.older(old, old)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is the oracle, and is not on this machine")
@settings(max_examples=100, deadline=None)
@given(
    st.from_regex(r"([0-3]:)?[0-9][0-9a-z.+~]{0,5}(-[0-9a-z.+~]{1,4})?", fullmatch=True),
    st.from_regex(r"([0-3]:)?[0-9][0-9a-z.+~]{0,5}(-[0-9a-z.+~]{1,4})?", fullmatch=True),
)
@example("0", "0-0")
@example("1a", "1a0")
@example("1", "1~")
@example("0", "0~")
@example("0-0", "0-~")
def test_versions_compare_as_dpkg_does(one: str, two: str) -> None:
    told = subprocess.run(["dpkg", "--compare-versions", one, "lt", two], check=False, capture_output=True)
    assert core.older(one, two) == (told.returncode == 0)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n', "debian-12"),
        ("ID='ubuntu'\nVERSION_ID='22.04'\n", "ubuntu-22.04"),
        ("ID=debian\n", "debian"),
        ("", "linux"),
    ],
)
def test_distribution(text: str, name: str) -> None:
    assert core.distribution(text) == name


def test_only_what_is_configured_counts_as_installed() -> None:
    text = "a\t1\tii \nb\t1\trc \nc\t1\tiF \nd\t1\tiU \ne\t1\thi \nf\t1\tiW \ng\t1\tiiR\nh\t\tun \n"
    assert core.installed_versions(text) == {"a": "1", "e": "1", "f": "1"}


PACKAGES = [core.Package("runc", "1.1.5-1", "p/runc"), core.Package("chrony", "4.3-2", "p/chrony")]


@pytest.mark.parametrize(
    ("installed", "changes"),
    [
        ({}, ["install chrony 4.3-2", "install runc 1.1.5-1"]),
        ({"runc": "1.1.4-1", "chrony": "4.3-2"}, ["upgrade runc from 1.1.4-1 to 1.1.5-1"]),
        ({"runc": "1.2-1", "chrony": "4.3-2"}, []),
    ],
)
def test_only_missing_and_older_packages_are_taken(installed: dict[str, str], changes: list[str]) -> None:
    selection = core.select(PACKAGES, installed)
    assert list(selection.changes) == changes
    assert len(selection.install) == len(changes)


DOCKER = (
    "containerd.io\t1.7.2-1\tii \tcontainerd, runc (= 1.1.7)\nchrony\t4.3-2\tii \ttime-daemon\nold\t1\trc \tchrony\n"
)


def test_what_an_installed_package_provides_counts_as_there() -> None:
    """containerd.io conflicts with Debian's containerd and runc, so dpkg would refuse these."""
    provided = core.provided_names(DOCKER)
    assert provided == {"containerd": "containerd.io", "runc": "containerd.io", "time-daemon": "chrony"}
    assert core.select(PACKAGES, core.installed_versions(DOCKER), provided).install == ()


def test_an_older_package_is_upgraded_even_if_another_provides_its_name() -> None:
    selection = core.select(PACKAGES, {"runc": "1.1.4-1", "chrony": "4.3-2"}, {"runc": "other"})
    assert list(selection.changes) == ["upgrade runc from 1.1.4-1 to 1.1.5-1"]


def test_what_a_power_loss_may_have_emptied_is_installed_again() -> None:
    marker = core.unsynced_marker("boot-1", ["runc", "gone"])
    assert core.not_on_disk(marker, "boot-2") == {"runc", "gone"}
    assert core.not_on_disk(marker, "boot-1") == set()  # the host did not go down, so nothing was lost
    assert core.not_on_disk("", "boot-2") == core.not_on_disk("[1]", "boot-2") == set()
    installed = {"runc": "1.1.5-1", "chrony": "4.3-2"}
    selection = core.select(PACKAGES, installed, damaged={"runc", "gone"})
    assert [package.name for package in selection.install] == ["runc"]
    assert "install runc 1.1.5-1 again" in selection.changes[0]
    assert core.select(PACKAGES, {**installed, "runc": "1.2-1"}, damaged={"runc"}).install == ()


def run_policy(tmp_path: Path, pid: int, *arguments: str) -> int:
    saved = tmp_path / "saved"
    saved.write_text("#!/bin/sh\nexit 104\n")
    saved.chmod(0o755)
    script = tmp_path / "policy-rc.d"
    script.write_text(core.policy_script(pid, ["chrony.service"], str(saved)))
    return subprocess.run(["sh", str(script), *arguments], check=False).returncode


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["chrony", "restart"], 0),
        (["chrony.service", "start"], 0),
        (["--quiet", "chrony", "start"], 0),
        (["containerd", "start"], 101),
        (["containerd.service", "start"], 101),
        (["chron", "start"], 101),
    ],
)
def test_the_policy_lets_only_services_start_that_ran(tmp_path: Path, arguments: list[str], answer: int) -> None:
    import os

    assert run_policy(tmp_path, os.getpid(), *arguments) == answer


def test_the_policy_of_a_killed_run_gives_way_to_the_hosts_own(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert run_policy(tmp_path, process.pid, "containerd", "start") == 104


@pytest.mark.parametrize(
    ("text", "left_over"),
    [(core.policy_script(1, [], "/saved"), True), ("", True), ("#!/bin/sh\nexit 101\n", False)],
)
def test_a_policy_of_a_killed_run_is_known_and_the_hosts_own_is_respected(text: str, left_over: bool) -> None:
    assert core.policy_is_left_over(text) is left_over


def test_an_unknown_distribution_is_one_clear_error() -> None:
    text = core.no_packages_problem("rocky-9.4", ["debian-12"], ["containerd", "runc"])
    assert "rocky-9.4" in text
    assert "containerd, runc" in text
    assert "debian-12" in text


HAPROXY = """Package: haproxy
Version: 2.6.12-1
Pre-Depends: dpkg (>= 1.17.14), lsb-base
Depends: libc6 (>= 2.34), liblua5.3-0(>= 5.3.0) | liblua5.3:any,
 libopentracing-c-wrapper0 (>= 1.1.3)
Provides: proxy (= 2)
Description: fast and reliable
 Depends: on nothing here
"""


def test_relations_are_read_from_a_control_file() -> None:
    found = core.relations(HAPROXY)
    assert found.depends == {"dpkg", "lsb-base", "libc6", "liblua5.3-0", "liblua5.3", "libopentracing-c-wrapper0"}
    assert found.provides == {"proxy"}


TOLD = {
    "haproxy": core.Relations(frozenset({"lsb-base", "liblua", "wrapper"})),
    "wrapper": core.Relations(frozenset({"tracing"})),
    "tracing-lib": core.Relations(provides=frozenset({"tracing"})),
    "chrony": core.Relations(frozenset({"lsb-base"})),
    "lsb-base": core.Relations(),
    "liblua": core.Relations(),
}


def whole_selection() -> core.Selection:
    return core.select([core.Package(name, "1", f"{name}.deb") for name in TOLD], {})


@pytest.mark.parametrize(
    ("only", "without", "left"),
    [
        ([], [], sorted(TOLD)),
        ([], ["haproxy"], ["chrony", "lsb-base"]),
        ([], ["wrapper"], sorted(TOLD)),  # haproxy needs it, and stays
        ([], ["wrapper", "haproxy"], ["chrony", "lsb-base"]),
        ([], ["gone"], sorted(TOLD)),
        (["haproxy"], [], ["haproxy", "liblua", "lsb-base", "tracing-lib", "wrapper"]),
        (["chrony"], ["haproxy"], ["chrony", "lsb-base"]),
        (["gone"], [], []),
    ],
)
def test_a_selection_is_narrowed_with_what_belongs_to_it(only: list[str], without: list[str], left: list[str]) -> None:
    found = core.narrowed(whole_selection(), TOLD, only, without)
    assert [package.name for package in found.install] == left
    assert list(found.changes) == [f"install {name} 1" for name in left]
    assert sorted(found.before) == left
