# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import ROLES, BundleError

DEB822 = """# a comment
Types: deb
# another
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates sid
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Enabled: no

Types: deb
URIs: http://other.example/
Suites: nodistro
Components: main
"""


def test_deb822_sources_gain_source_packages_and_lose_the_rest() -> None:
    assert recipe.private_sources({"debian.sources": DEB822}) == (
        "Types: deb deb-src\n"
        "Suites: bookworm bookworm-updates\n"
        "URIs: http://mirror.example/debian\n"
        "Components: main\n"
        "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )


def test_one_line_sources_become_deb822() -> None:
    text = """
    # deb http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://mirror.example/debian bookworm main contrib  # here
deb-src http://mirror.example/debian bookworm main
deb http://other.example/ trixie main
"""
    assert recipe.private_sources({"sources.list": text}) == (
        "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main contrib\n"
        "Signed-By: /k.gpg\nTrusted: yes\n"
    )


@pytest.mark.parametrize(
    "files", [{}, {"debian.sources.save": DEB822}, {"x.list": "deb http://m.example/ trixie main"}]
)
def test_a_machine_without_debian_12_is_told(files: dict[str, str]) -> None:
    with pytest.raises(BundleError, match="apt has no source for Debian bookworm"):
        recipe.private_sources(files)


@pytest.mark.parametrize(
    ("debian", "version"),
    [("1.20.5+really1.20.2-1.1+deb12u1", "v1.20.2"), ("1.20.2-1", "v1.20.2"), ("2:1.33.4+ds-1", "v1.33.4")],
)
def test_the_kubernetes_version_is_in_the_packages(debian: str, version: str) -> None:
    assert recipe.upstream_version(debian) == version


def test_a_version_without_one_is_told() -> None:
    with pytest.raises(BundleError, match="holds no Kubernetes version"):
        recipe.upstream_version("git20210101-1")


def test_the_linker_is_told_the_version_and_strips() -> None:
    flags = recipe.version_ldflags("v1.20.2", "1.20.2-1", "2021-01-13T13:28:09Z").split()
    assert flags[:3] == ["-s", "-w", "-buildid="]
    assert "k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion=v1.20.2" in flags
    assert "k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version.gitCommit=debian-1.20.2-1" in flags


LISTED = """k8s.gcr.io/kube-apiserver:v1.20.2
k8s.gcr.io/kube-controller-manager:v1.20.2
k8s.gcr.io/kube-scheduler:v1.20.2
k8s.gcr.io/kube-proxy:v1.20.2
k8s.gcr.io/pause:3.2
k8s.gcr.io/etcd:3.4.13-0
k8s.gcr.io/coredns:1.7.0
"""


def test_kubeadms_list_names_every_image_with_a_recipe() -> None:
    references = recipe.image_references(LISTED)
    assert set(references) == set(recipe.IMAGES)
    assert references["etcd"] == "k8s.gcr.io/etcd:3.4.13-0"
    assert recipe.image_repository(references.values()) == "k8s.gcr.io"


def test_coredns_may_lie_one_folder_deeper() -> None:
    references = recipe.image_references("r.example:5000/k/pause:3.4\nr.example:5000/k/coredns/coredns:v1.8.0")
    assert references["coredns"] == "r.example:5000/k/coredns/coredns:v1.8.0"
    assert recipe.image_repository(references.values()) == "r.example:5000/k"


@pytest.mark.parametrize("listed", ["k8s.gcr.io/kube-router:v1", "a/pause:3.2\nb/pause:3.3"])
def test_an_image_without_recipe_is_told(listed: str) -> None:
    with pytest.raises(BundleError, match="no recipe"):
        recipe.image_references(listed)


def test_images_of_several_repositories_are_told() -> None:
    with pytest.raises(BundleError, match="not from one repository"):
        recipe.image_repository(["a/pause:3.2", "b/etcd:3"])


def test_packages_are_read_from_apts_list() -> None:
    printed = """Reading package lists...
'http://m.example/pool/c/conntrack_1.4.7-1+b2_amd64.deb' conntrack_1%3a1.4.7-1+b2_amd64.deb 35240 SHA256:00
'http://m.example/pool/a.deb' adduser_3.134_all.deb 100 MD5Sum:00
"""
    adduser, conntrack = recipe.printed_packages(printed)
    assert (conntrack.name, conntrack.version, conntrack.architecture) == ("conntrack", "1:1.4.7-1+b2", "amd64")
    assert conntrack.file == "conntrack_1%3a1.4.7-1+b2_amd64.deb"
    assert conntrack.plain_file == "conntrack_1.4.7-1+b2_amd64.deb"
    assert adduser.plain_file == "adduser_3.134_all.deb"


def test_the_base_is_what_every_debian_has() -> None:
    available = """Package: bash
Essential: yes
Priority: required

Package: mawk
Priority: required
Description: Priority: optional

Package: nano
Priority: important

Package: apt
Priority: required
"""
    assert recipe.base_packages(available) == ["apt", "bash", "mawk"]


def test_plugins_of_clouds_are_left_out() -> None:
    assert recipe.without_plugins("# azure:azure\nforward:forward\nazure:azure\n", ["azure"]) == (
        "# azure:azure\nforward:forward\n"
    )


def test_a_plugin_that_is_not_there_is_told() -> None:
    with pytest.raises(BundleError, match="no plugin azure"):
        recipe.without_plugins("forward:forward\n", ["azure"])


@pytest.mark.parametrize(
    ("path", "unused"),
    [
        ("usr/share/doc", True),
        ("usr/share/doc/iptables/copyright", True),
        ("usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", True),
        ("usr/lib/x86_64-linux-gnu/xtables/libxt_set.so", False),
        ("usr/sbin/xtables-nft-multi", False),
        ("etc/protocols", False),
        ("usr/share/documents", False),
    ],
)
def test_what_only_people_read_stays_out_of_images(path: str, unused: bool) -> None:
    assert recipe.unused_in_image(path) is unused


def test_recipes_are_whole() -> None:
    for name, image in recipe.IMAGES.items():
        assert set(image.roles) <= set(ROLES), name
        assert image.roles, name
        assert {binary for binary, _place in image.binaries} <= set(recipe.BINARIES), name
        assert image.binaries or image.packages, name
        places = [place for _binary, place in image.binaries] + [place for place, _to in image.links]
        assert not any(place.startswith("/") or ".." in place for place in places), name
    assert set(recipe.MODULES) == set(recipe.OPTIONAL_BINARIES)
    assert recipe.BINARIES.index("kubeadm") == 0


def test_other_inputs_give_another_digest() -> None:
    assert recipe.digest("a", 1) == recipe.digest("a", 1)
    assert len({recipe.digest("a", 1), recipe.digest("a", 2), recipe.digest(["a", 1]), recipe.digest("a1")}) == 4
