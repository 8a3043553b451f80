# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _versions as versions


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("v1.20.2", "v1.20.2"),
        ("1.31.0", "v1.31.0"),
        (" v1.31.0-rc.1 ", "v1.31.0-rc.1"),
        ("v1.28.4+rke2r1", "v1.28.4+rke2r1"),
        ("v1.30.1-alpha.0.12+abc", "v1.30.1-alpha.0.12+abc"),
    ],
)
def test_versions_are_read_and_written(text: str, written: str) -> None:
    assert str(versions.parse(text)) == written


@pytest.mark.parametrize("text", ["", "v1", "1.20", "v1.20.x", "v01.20.2", "1.20.2.3", "stable-1", "v1.20.2 x"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(versions.VersionError, match=r"write three numbers"):
        versions.parse(text)


@pytest.mark.parametrize("text", ["v1.18.20", "v0.20.2", "v2.0.0"])
def test_unsupported_versions_are_refused(text: str) -> None:
    with pytest.raises(versions.VersionError, match=r"installs v1\.19 and newer"):
        versions.parse_supported(text)


@pytest.mark.parametrize(
    ("text", "api", "flag", "crictl"),
    [
        ("v1.19.0", "v1beta2", "--experimental-patches", True),
        ("v1.20.2", "v1beta2", "--experimental-patches", True),
        ("v1.21.14", "v1beta2", "--experimental-patches", True),
        ("v1.22.0", "v1beta3", "", True),
        ("v1.30.9", "v1beta3", "", True),
        ("v1.31.0-rc.1", "v1beta4", "", False),
        ("v1.99.0", "v1beta4", "", False),
    ],
)
def test_what_each_kubeadm_takes(text: str, api: str, flag: str, crictl: bool) -> None:
    version = versions.parse_supported(text)
    assert versions.kubeadm_api(version) == api
    assert versions.patches_flag(version) == flag
    assert versions.needs_crictl(version) is crictl


@pytest.mark.parametrize(
    ("text", "phases"),
    [
        ("v1.20.2", ["control-plane-join update-status", "control-plane-join mark-control-plane"]),
        ("v1.22.0", ["control-plane-join mark-control-plane"]),
        ("v1.29.0", ["control-plane-join etcd", "control-plane-join mark-control-plane"]),
        ("v1.34.0", ["etcd-join", "control-plane-join mark-control-plane"]),
    ],
)
def test_an_etcd_member_without_a_name_is_never_written_again(text: str, phases: list[str]) -> None:
    assert versions.finishing_phases(versions.parse(text)) == phases


numbers = st.integers(min_value=0, max_value=500)


@given(numbers, numbers, numbers)
def test_reading_undoes_writing(major: int, minor: int, patch: int) -> None:
    version = versions.Version(major, minor, patch)
    assert versions.parse(str(version)) == version


@given(st.text())
def test_nothing_but_a_version_error_is_raised(text: str) -> None:
    with contextlib.suppress(versions.VersionError):
        assert versions.parse_supported(text).release >= versions.OLDEST
