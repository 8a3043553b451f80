# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _images as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import Manifest, Part


def image(name: str, size: int, references: Sequence[str], roles: Sequence[str]) -> Part:
    return Part(
        path=f"images/{name}.tar",
        sha256="0" * 64,
        size=size,
        mode="0644",
        kind="image",
        images=tuple(references),
        roles=tuple(roles),
    )


MANIFEST = Manifest(
    kubernetes_version="v1.20.2",
    architecture="amd64",
    created="",
    image_repository="k8s.gcr.io",
    pause_image="k8s.gcr.io/pause:3.2",
    images_required=(),
    parts=(
        image("pause", 1, ["k8s.gcr.io/pause:3.2"], ["control_plane", "worker"]),
        image("etcd", 5, ["k8s.gcr.io/etcd:3.4.13-0"], ["control_plane"]),
        image("proxy", 9, ["k8s.gcr.io/kube-proxy:v1.20.2"], ["control_plane", "worker"]),
        Part(path="bin/kubeadm", sha256="0" * 64, size=3, mode="0755", kind="binary"),
    ),
)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("k8s.gcr.io/pause:3.2", "k8s.gcr.io/pause:3.2"),
        ("localhost/x:1", "localhost/x:1"),
        ("registry:5000/x:1", "registry:5000/x:1"),
        ("calico/node:v3.20.0", "docker.io/calico/node:v3.20.0"),
        ("busybox:1", "docker.io/library/busybox:1"),
    ],
)
def test_containerd_names_images_in_full(reference: str, name: str) -> None:
    assert core.normalised(reference) == name


@pytest.mark.parametrize(
    ("roles", "present", "paths"),
    [
        (["worker"], [], ["images/proxy.tar", "images/pause.tar"]),
        (["control_plane"], [], ["images/proxy.tar", "images/etcd.tar", "images/pause.tar"]),
        ([], ["k8s.gcr.io/etcd:3.4.13-0"], ["images/proxy.tar", "images/pause.tar"]),
        (["worker"], ["k8s.gcr.io/pause:3.2", "k8s.gcr.io/kube-proxy:v1.20.2"], []),
    ],
)
def test_only_missing_images_of_the_hosts_role_are_imported(
    roles: list[str], present: list[str], paths: list[str]
) -> None:
    assert [archive.path for archive in core.archives_to_import(MANIFEST, roles, present)] == paths


def test_an_archive_is_imported_for_the_one_image_of_it_that_is_missing() -> None:
    both = image("both", 1, ["a.io/x:1", "a.io/y:1"], ["worker"])
    manifest = Manifest(**{**MANIFEST.__dict__, "parts": (both,)})
    archives = core.archives_to_import(manifest, ["worker"], ["a.io/x:1"])
    assert [archive.missing for archive in archives] == [("a.io/y:1",)]
