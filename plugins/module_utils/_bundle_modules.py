# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""How each part of a bundle is built from the modules of the Go module proxy, as data and decisions. Pure: runs nothing.

Kubernetes publishes itself as the module k8s.io/kubernetes at v1.34.4, without the folders below `staging`; those are
modules of their own, k8s.io/api and others, at v0.34.4.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import VersionError, parse_supported

MODULE = "k8s.io/kubernetes"
DEBIAN_VERSION = "v1.20.2"
"""What Debian 12's source package holds."""

OLDEST = (1, 31)
"""From here on kubeadm speaks to the container runtime itself, so that a bundle may do without crictl."""

OLDEST_GO = (1, 21)
"""Older Go commands can't read the modules' go.mod."""

ETCD_BINARIES = ("etcd", "etcdctl")
BINARIES = (*recipe.KUBERNETES_BINARIES, "crictl", "pause", *ETCD_BINARIES, "coredns")
TOOLS = {place: package for place, package in recipe.TOOLS.items() if package in ("gcc", "libc6-dev")}

_LOCAL = "usr/local/bin"

IMAGES: dict[str, recipe.ImageRecipe] = {
    **recipe.IMAGES,
    # In nftables mode kube-proxy runs nft.
    "kube-proxy": replace(recipe.IMAGES["kube-proxy"], packages=(*recipe.IMAGES["kube-proxy"].packages, "nftables")),
    "etcd": recipe.ImageRecipe(("control_plane",), tuple((name, f"{_LOCAL}/{name}") for name in ETCD_BINARIES)),
}

# A line of a go.mod, up to what it replaces a module by.
_REPLACED = r"^[ \t]*(?:replace[ \t]+)?([^\s(]+)(?:[ \t]+v\S+)?[ \t]+=>[ \t]+"

COREDNS = replace(recipe.MODULES["coredns"], require=())


def built_from_modules(version: str) -> bool:
    """Whether this version is built of Go modules, or else of Debian's source; a BundleError if of neither.

    Empty stands for the version that Debian has.
    """
    if not version:
        return False
    try:
        wanted = parse_supported(version)
    except VersionError as exc:
        raise BundleError(f"kubernetes_version: {exc}") from exc
    if str(wanted) == DEBIAN_VERSION:
        return False
    if not wanted.at_least(*OLDEST):
        raise BundleError(
            f"kubernetes_version: there is no recipe for a bundle of {wanted}. {DEBIAN_VERSION} is built of Debian 12's "
            f"source package, v{OLDEST[0]}.{OLDEST[1]} and newer of Go modules. A bundle of any other version that was "
            "made elsewhere can be installed all the same"
        )
    return True


def staging_modules(go_mod: str) -> list[str]:
    """The modules that Kubernetes' go.mod replaces by folders below `staging`; a BundleError if there are none."""
    found = sorted(set(re.findall(rf"{_REPLACED}\./staging/", go_mod, re.MULTILINE)))
    if not found:
        raise BundleError(f"the go.mod of {MODULE} replaces no module by a folder below staging")
    return found


def staging_version(version: str) -> str:
    """v0.34.4 for v1.34.4."""
    return re.sub(r"^v1\.", "v0.", version)


def local_replacements(go_mod: str) -> list[str]:
    """The modules that a go.mod replaces by folders beside it, which a module that was downloaded does not have."""
    return sorted(set(re.findall(rf"{_REPLACED}\.\.?/", go_mod, re.MULTILINE)))


def wanted_go(go_mod: str) -> tuple[int, int]:
    """The oldest Go that a module is to be built with, from the line `go` of its go.mod."""
    found = re.search(r"^go (\d+)\.(\d+)", go_mod, re.MULTILINE)
    return (int(found.group(1)), int(found.group(2))) if found else OLDEST_GO


def go_release(answer: str) -> tuple[int, ...]:
    """(1, 26, 8) for what `go env GOVERSION` prints: go1.26.8. Empty if it is no release."""
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.strip())
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def choose_go(answers: Mapping[str, str], wanted: tuple[int, int]) -> tuple[str, str]:
    """The newest Go that this machine has, and its version, from the answers of `go env GOVERSION` by the command.

    A BundleError if none is new enough.
    """
    releases = {command: go_release(answer) for command, answer in answers.items()}
    able = [command for command, release in releases.items() if release[:2] >= wanted]
    if not able:
        have = ", ".join(f"{answers[command].strip()} ({command})" for command in answers) or "none"
        raise BundleError(
            f"Kubernetes of Go modules is built with Go {wanted[0]}.{wanted[1]} or newer, and this machine has {have}."
            " Install one, and put its folder into PATH or it into /usr/local/go"
        )
    best = max(able, key=lambda command: releases[command])
    return best, answers[best].strip()


def epoch_of(time: str) -> int:
    """The seconds since 1970 of a module's time, such as 2026-02-10T12:53:36Z."""
    return int(datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp())


def linker_flags(version: str, built: str) -> str:
    """The linker's flags that tell each binary its version. There is no commit to be told: a module does not hold it."""
    major, minor = version.lstrip("v").split(".")[:2]
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": f"module-{version}",
        "gitTreeState": "archive",
        "buildDate": built,
    }
    settings = [
        f"-X k8s.io/{package}.{key}={value}"
        for package in ("component-base/version", "client-go/pkg/version")
        for key, value in values.items()
    ]
    return " ".join(["-s", "-w", "-buildid=", *settings])


def tag_version(references: Mapping[str, str], name: str) -> str:
    """v3.6.5 where kubeadm wants registry.k8s.io/etcd:3.6.5-0."""
    tag = references[name].rsplit(":", 1)[-1]
    found = re.match(r"v?(\d+\.\d+\.\d+)", tag)
    if not found:
        raise BundleError(f"the tag of {references[name]} holds no version of {name}")
    return f"v{found.group(1)}"


def module_of(name: str, version: str, references: t.Callable[[], Mapping[str, str]]) -> recipe.ModuleRecipe:
    """How a program beside Kubernetes' own is built for a Kubernetes version.

    `references` gives kubeadm's images, and is asked only where one decides.
    """
    if name == "crictl":
        # Its releases follow Kubernetes' minor ones.
        return recipe.ModuleRecipe(
            module="sigs.k8s.io/cri-tools",
            version=re.sub(r"\.\d+$", ".0", version.split("-", 1)[0]),
            package="./cmd/crictl",
            version_variable="sigs.k8s.io/cri-tools/pkg/version.Version",
        )
    if name in ETCD_BINARIES:
        folder = "server" if name == "etcd" else name
        return recipe.ModuleRecipe(
            module=f"go.etcd.io/etcd/{folder}/v3", version=tag_version(references(), "etcd"), version_variable=""
        )
    if name == "coredns":
        return replace(COREDNS, version=tag_version(references(), "coredns"))
    raise BundleError(f"there is no recipe for a program {name!r}; there is one for {', '.join(BINARIES)}")
