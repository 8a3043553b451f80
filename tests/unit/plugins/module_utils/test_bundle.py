# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import (
    BundleError,
    Manifest,
    Member,
    MemberCheck,
    checksum_line,
    parse_checksum,
    parse_manifest,
    path_problem,
)

SHA = "0123456789abcdef" * 4


def binary(name: str) -> dict[str, Any]:
    return {"path": f"bin/{name}", "sha256": SHA, "size": 3, "mode": "0755", "kind": "binary"}


def good() -> dict[str, Any]:
    image = {
        "path": "images/pause.tar",
        "sha256": SHA,
        "size": 5,
        "mode": "0644",
        "kind": "image",
        "images": ["k8s.gcr.io/pause:3.2"],
        "roles": ["control_plane", "worker"],
    }
    package = {
        "path": "packages/debian-12/ipvsadm_1.31-1+b1_amd64.deb",
        "sha256": SHA,
        "size": 7,
        "mode": "0644",
        "kind": "package",
        "distribution": "debian-12",
        "package": "ipvsadm",
        "version": "1:1.31-1+b1",
    }
    return {
        "schema": 1,
        "kubernetes_version": "v1.20.2",
        "architecture": "amd64",
        "created": "2021-01-13T13:28:09Z",
        "image_repository": "k8s.gcr.io",
        "pause_image": "k8s.gcr.io/pause:3.2",
        "images_required": ["k8s.gcr.io/pause:3.2", "k8s.gcr.io/coredns:1.7.0"],
        "parts": [binary("kubeadm"), binary("kubelet"), binary("kubectl"), image, package],
        "missing": [{"name": "k8s.gcr.io/coredns:1.7.0", "reason": "the module proxy did not answer"}],
    }


def test_a_good_manifest_survives_reading_and_writing() -> None:
    manifest = parse_manifest(good())
    assert manifest.kubernetes_version == "v1.20.2"
    assert manifest.parts[3].images == ("k8s.gcr.io/pause:3.2",)
    assert parse_manifest(manifest.as_dict()) == manifest


def part(index: int, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["parts"][index].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data.update(changes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(top(schema=2), "schema 2", id="schema"),
        pytest.param(lambda data: data.pop("schema"), "schema None", id="no schema"),
        pytest.param(top(extra=1), "manifest has unknown fields: extra", id="unknown field"),
        pytest.param(top(kubernetes_version="1.20"), "not like v1.20.2", id="version"),
        pytest.param(top(kubernetes_version=""), "manifest.kubernetes_version is missing", id="no version"),
        pytest.param(top(parts={}), "manifest.parts is not a list of objects", id="parts"),
        pytest.param(top(images_required="all"), "is not a list of strings", id="images required"),
        pytest.param(top(missing=[]), "image 'k8s.gcr.io/coredns:1.7.0': is required", id="absent image"),
        pytest.param(top(pause_image="pause:1"), "none of the required images", id="pause"),
        pytest.param(lambda data: data["parts"].pop(1), "part 'bin/kubelet': is not in the bundle", id="no kubelet"),
        pytest.param(part(0, sha256="abc"), "not 64 hexadecimal digits", id="short sha256"),
        pytest.param(part(0, sha256=SHA.upper()), "in lower case", id="upper sha256"),
        pytest.param(part(0, sha256=7), "parts[0].sha256 is a int", id="number as sha256"),
        pytest.param(part(0, size=-1), "not a size in bytes", id="negative size"),
        pytest.param(part(0, size=True), "not a size in bytes", id="truth as size"),
        pytest.param(part(0, mode="4755"), "not like 0644 or 0755", id="setuid"),
        pytest.param(part(0, mode="755"), "not like 0644 or 0755", id="short mode"),
        pytest.param(part(0, kind="script"), "kind is 'script'", id="kind"),
        pytest.param(part(0, owner="root"), "unknown fields: owner", id="unknown field of a part"),
        pytest.param(part(0, path="bin/../../etc/passwd"), "has the component '..'", id="traversal"),
        pytest.param(part(0, path="/bin/kubeadm"), "is absolute", id="absolute"),
        pytest.param(part(0, path="images/kubeadm.tar"), "is not where a part of kind binary lies", id="place"),
        pytest.param(part(1, path="bin/kubeadm"), "stands in the manifest more than once", id="twice"),
        pytest.param(part(3, images=[]), "names no image", id="image without reference"),
        pytest.param(part(3, images=["pause"]), "not like registry/name:tag", id="reference without tag"),
        pytest.param(part(3, roles=["master"]), "not some of control_plane, worker", id="role"),
        pytest.param(part(3, roles=[]), "not some of control_plane, worker", id="no role"),
        pytest.param(part(4, distribution="Debian"), "not like debian-12", id="distribution"),
        pytest.param(part(4, distribution="debian-11"), "is not below packages/debian-11/", id="other distribution"),
        pytest.param(part(4, package=""), "names no package", id="package"),
        pytest.param(top(missing=[{"name": "k8s.gcr.io/coredns:1.7.0"}]), "missing[0].reason is missing", id="reason"),
    ],
)
def test_what_is_wrong_is_told(change: Callable[[dict[str, Any]], Any], told: str) -> None:
    data = good()
    change(data)
    with pytest.raises(BundleError) as caught:
        parse_manifest(data)
    assert told in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    data = good()
    data["parts"][0]["sha256"] = "x"
    data["parts"][1]["mode"] = "x"
    data["parts"].append(copy.deepcopy(data["parts"][3]))
    with pytest.raises(BundleError) as caught:
        parse_manifest(data)
    assert len(caught.value.problems) == 4
    assert "part 'bin/kubeadm': sha256" in caught.value.problems[0]


@pytest.mark.parametrize("data", [None, [], "text", 7])
def test_only_an_object_is_a_manifest(data: Any) -> None:
    with pytest.raises(BundleError, match="not an object"):
        parse_manifest(data)


@pytest.mark.parametrize(
    "path",
    ["bin/kubeadm", "packages/debian-12/libc6_2.36-9+deb12u14_amd64.deb", "packages/debian-12/a_1.6~ds1_amd64.deb"],
)
def test_plain_names_may_be_unpacked(path: str) -> None:
    assert path_problem(path) == ""


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "bin/..", "../x", "./bin", "bin//x", "bin/", "bin/a\nb", "bin\\..\\x", "bin/\0", ".ssh/x",
     "bin/-rf", "a" * 256, "bin/Ω"],
)  # fmt: skip
def test_other_names_may_not(path: str) -> None:
    assert path_problem(path)


@given(st.text(min_size=1))
def test_a_name_that_passes_stays_below_its_folder(path: str) -> None:
    if not path_problem(path):
        parts = path.split("/")
        assert not path.startswith("/")
        assert not {"", ".", ".."} & set(parts)
        assert path.isprintable()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["schema", "parts", "path", "sha256", "size", "images", "missing", "name", "kind", "roles"]), inner,
)))  # fmt: skip
def test_whatever_is_read_only_a_bundle_error_comes_out(data: Any) -> None:
    if isinstance(data, dict):
        data = {**data, "schema": 1}
    with pytest.raises(BundleError):
        parse_manifest(data)


@pytest.fixture
def manifest() -> Manifest:
    return parse_manifest(good())


def test_members_of_the_manifest_pass(manifest: Manifest) -> None:
    check = MemberCheck(manifest)
    for item in manifest.parts:
        assert check.part(Member(item.path, True, item.size)) == item
    check.finish()


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (Member("bin/kubeadm", False, 3), "is a link, a folder or a device"),
        (Member("bin/kubeadm", True, 4), "has 4 bytes, but the manifest says 3"),
        (Member("bin/other", True, 3), "is not in the manifest"),
        (Member("../bin/kubeadm", True, 3), "has the component '..'"),
        (Member("/bin/kubeadm", True, 3), "is absolute"),
    ],
)
def test_other_members_do_not(manifest: Manifest, member: Member, told: str) -> None:
    with pytest.raises(BundleError, match=told):
        MemberCheck(manifest).part(member)


def test_a_member_may_come_once(manifest: Manifest) -> None:
    check = MemberCheck(manifest)
    check.part(Member("bin/kubeadm", True, 3))
    with pytest.raises(BundleError, match="more than once"):
        check.part(Member("bin/kubeadm", True, 3))


def test_absent_members_are_told(manifest: Manifest) -> None:
    check = MemberCheck(manifest)
    check.part(Member("bin/kubeadm", True, 3))
    with pytest.raises(BundleError) as caught:
        check.finish()
    assert len(caught.value.problems) == 4


def test_checksums_are_read_as_they_are_written() -> None:
    assert parse_checksum(checksum_line(SHA, "lab.tar.gz"), "x") == SHA
    assert parse_checksum(SHA.upper(), "x") == SHA


@pytest.mark.parametrize("text", ["", "\n", "abc  lab.tar.gz", "lab.tar.gz"])
def test_a_file_without_checksum_is_told(text: str) -> None:
    with pytest.raises(BundleError, match=r"x\.sha256 holds no sha256"):
        parse_checksum(text, "x.sha256")
