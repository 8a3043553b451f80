# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is built of Go modules, and with which Go."""

from __future__ import annotations

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_modules as modules
from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError

GO_MOD = """\
module k8s.io/kubernetes

go 1.24.0

godebug default=go1.24

require k8s.io/api v0.0.0

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/client-go => ./staging/src/k8s.io/client-go
\texample.com/other => example.com/fork v1.0.0
)
"""
REFERENCES = {"etcd": "registry.k8s.io/etcd:3.6.5-0", "coredns": "registry.k8s.io/coredns/coredns:v1.12.1"}


@pytest.mark.parametrize(
    ("version", "of_modules"),
    [("", False), ("v1.20.2", False), ("1.20.2", False), ("v1.31.0", True), ("1.34.4", True), ("v1.37.2", True)],
)
def test_the_version_decides_what_a_bundle_is_built_of(version: str, of_modules: bool) -> None:
    assert modules.built_from_modules(version) is of_modules


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("v1.20.3", "there is no recipe for a bundle of v1.20.3"),
        ("v1.30.14", "there is no recipe for a bundle of v1.30.14"),
        ("../1.34.4", "not a Kubernetes version"),
        ("v1.18.0", "is not supported"),
    ],
)
def test_a_version_without_a_recipe_is_told(version: str, told: str) -> None:
    with pytest.raises(BundleError, match=rf"kubernetes_version: .*{told}"):
        modules.built_from_modules(version)


def test_staging_folders_are_modules_of_their_own() -> None:
    assert modules.staging_modules(GO_MOD) == ["k8s.io/api", "k8s.io/client-go"]
    assert modules.staging_version("v1.34.4") == "v0.34.4"
    with pytest.raises(BundleError, match="replaces no module"):
        modules.staging_modules("module k8s.io/kubernetes\n")


@pytest.mark.parametrize(
    "line",
    ["replace go.etcd.io/etcd/api/v3 => ../api", "\tgo.etcd.io/etcd/api/v3 => ../api", "replace a.b/c v1.2.3 => ./c"],
)
def test_folders_that_a_downloaded_module_lacks_are_seen(line: str) -> None:
    assert len(modules.local_replacements(f"module x\n{line}\nreplace other.org/a => other.org/b v1.0.0\n")) == 1


def test_the_newest_go_that_is_new_enough_is_taken() -> None:
    have = {"/usr/lib/go-1.19/bin/go": "go1.19.8\n", "/usr/local/go/bin/go": "go1.26.8\n", "/opt/go": "go1.9\n"}
    assert modules.choose_go(have, modules.wanted_go(GO_MOD)) == ("/usr/local/go/bin/go", "go1.26.8")


@pytest.mark.parametrize(
    ("have", "told"),
    [
        ({}, "has none"),
        ({"/usr/lib/go-1.19/bin/go": "go1.19.8\n"}, r"has go1\.19\.8 \(/usr/lib/go-1\.19/bin/go\)"),
        ({"/opt/go": "devel +abc\n"}, "has devel"),
    ],
)
def test_no_go_that_is_new_enough_is_told(have: dict[str, str], told: str) -> None:
    with pytest.raises(BundleError, match=rf"Go 1\.24 or newer, and this machine {told}"):
        modules.choose_go(have, (1, 24))


def test_the_linker_is_told_the_version_where_the_modules_have_it() -> None:
    flags = modules.linker_flags("v1.34.4", "2026-02-10T12:53:36Z").split(" -X ")
    assert flags[0] == "-s -w -buildid="
    assert "k8s.io/component-base/version.gitVersion=v1.34.4" in flags
    assert "k8s.io/client-go/pkg/version.gitMinor=34" in flags
    assert not any("vendor" in flag for flag in flags)


@pytest.mark.parametrize(
    ("name", "module", "version"),
    [
        ("etcd", "go.etcd.io/etcd/server/v3", "v3.6.5"),
        ("etcdctl", "go.etcd.io/etcd/etcdctl/v3", "v3.6.5"),
        ("coredns", "github.com/coredns/coredns", "v1.12.1"),
        ("crictl", "sigs.k8s.io/cri-tools", "v1.34.0"),
    ],
)
def test_kubeadm_decides_what_is_built_beside_it(name: str, module: str, version: str) -> None:
    what = modules.module_of(name, "v1.34.4", lambda: REFERENCES)
    assert (what.module, what.version) == (module, version)


def test_a_tag_without_a_version_is_told() -> None:
    with pytest.raises(BundleError, match="holds no version of etcd"):
        modules.tag_version({"etcd": "registry.k8s.io/etcd:latest"}, "etcd")


def test_a_modules_time_is_the_bundles() -> None:
    assert modules.epoch_of("2026-02-10T12:53:36Z") == 1770728016


def test_the_recipes_are_whole() -> None:
    built = {binary for image in modules.IMAGES.values() for binary, _place in image.binaries}
    assert built | set(recipe.HOST_BINARIES) == set(modules.BINARIES)
    assert modules.BINARIES[0] == "kubeadm"  # whose list of images decides the versions of others
    assert "nftables" in modules.IMAGES["kube-proxy"].packages
    assert set(modules.IMAGES) == set(recipe.IMAGES)
    assert modules.TOOLS
