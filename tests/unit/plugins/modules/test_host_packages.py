# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.modules import host_packages

CONTROL = """Package: one
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Depends: two (>= 1), three
Description: nothing
"""


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb makes the package, and is not on this machine")
@pytest.mark.parametrize("compressor", ["xz", "gzip", "none"])
def test_the_control_file_is_read_as_dpkg_deb_reads_it(tmp_path: Path, compressor: str) -> None:
    (tmp_path / "tree/DEBIAN").mkdir(parents=True, mode=0o755)
    (tmp_path / "tree/DEBIAN/control").write_text(CONTROL, encoding="utf-8")
    package = tmp_path / "one.deb"
    build = ["dpkg-deb", "--build", "--root-owner-group", "--uniform-compression", f"-Z{compressor}"]
    subprocess.run([*build, str(tmp_path / "tree"), str(package)], check=True, capture_output=True)
    told = subprocess.run(["dpkg-deb", "--field", str(package)], check=True, capture_output=True, text=True)
    assert host_packages.control_text(package) == told.stdout == CONTROL


def test_what_is_no_package_is_told_from_one(tmp_path: Path) -> None:
    for content in (b"", b"!<arch>\n", b"!<arch>\n" + b"debian-binary".ljust(48) + b"0".ljust(10) + b"`\n"):
        (tmp_path / "one.deb").write_bytes(content)
        with pytest.raises(ValueError, match=r"ar archive|control file"):
            host_packages.control_text(tmp_path / "one.deb")
