# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab_image as image

# As apt prints it: a third party first, and a field that it does not know.
TARGETS = """\
http://other.example/apt|stable|stable|Other|main
http://mirror.example/debian|bookworm-updates|bookworm-updates|Debian|main
http://mirror.example/debian|bookworm|bookworm|Debian|contrib
http://mirror.example/debian|bookworm|bookworm|Debian|main
http://mirror.example/debian-security|bookworm-security|bookworm-security|Debian|main
"""
NO_LISTS = "http://mirror.example/debian|bookworm|$(CODENAME)|$(ORIGIN)|main\n"


@pytest.mark.parametrize("text", [TARGETS, NO_LISTS])
def test_the_mirror_is_the_machines_own(text: str) -> None:
    assert image.mirror(image.parse_targets(text), "bookworm") == "http://mirror.example/debian"


def test_a_machine_without_mirror_is_told_what_to_do() -> None:
    with pytest.raises(image.ImageError, match="lab_mirror"):
        image.mirror(image.parse_targets("http://other.example/apt|stable|stable|Other|main\n"), "bookworm")


def test_guests_get_the_updates_that_the_machine_gets() -> None:
    assert image.sources(image.parse_targets(TARGETS), "bookworm", "bookworm") == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian bookworm-updates main",
        "deb http://mirror.example/debian-security bookworm-security main",
    ]


def test_the_kernel_comes_from_its_own_suite_and_a_given_mirror_wins() -> None:
    targets = image.parse_targets(TARGETS)
    assert image.sources(targets, "bookworm", "forky") == ["deb http://mirror.example/debian forky main"]
    assert image.sources([], "bookworm", "bookworm", "http://given.example") == [
        "deb http://given.example bookworm main"
    ]


def test_the_machines_way_to_the_mirror_is_kept() -> None:
    dump = 'Acquire "";\nAcquire::http "";\nAcquire::http::Proxy "http://proxy.example:3128";\nAcquire::Retries "3";\n'
    assert image.apt_options(dump) == [
        'Acquire::Check-Valid-Until "false"',
        'Acquire::http::Proxy "http://proxy.example:3128"',
        'Acquire::Retries "3"',
    ]


def test_the_image_is_named_for_what_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.base_name("7.2.7")
    assert before == image.base_name("7.2.7")
    assert before != image.base_name("7.2.8")
    monkeypatch.setattr(image, "GUEST_PACKAGES", (*image.GUEST_PACKAGES, "less"))
    assert image.base_name("7.2.7") != before


def test_nothing_that_the_bundle_brings_is_in_the_image() -> None:
    brought = {"containerd", "keepalived", "ipvsadm", "chrony", "conntrack", "ipset", "iptables", "socat"}
    assert not brought & set(image.GUEST_PACKAGES)


def test_the_first_process_is_a_script_that_a_shell_can_read(tmp_path: Path) -> None:
    mode, text = image.OVERLAY["usr/lib/multinic-lab/init"]
    script = tmp_path / "init"
    script.write_text(text, encoding="utf-8")
    assert mode & 0o111
    assert text.rstrip().endswith('exec /sbin/init "$@"')
    assert subprocess.run(["/bin/sh", "-n", str(script)], check=False).returncode == 0
