# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Kubernetes versions: how they are written, which are supported, and what kubeadm of each of them takes."""

from __future__ import annotations

import re
from typing import NamedTuple

OLDEST = (1, 19)
"""The oldest release this collection installs."""

NEWEST_KNOWN = (1, 37)
"""The newest release whose configuration types were checked field by field; newer ones are held to its fields."""

_VERSION = re.compile(
    r"^v?(?P<major>0|[1-9]\d*)\.(?P<minor>0|[1-9]\d*)\.(?P<patch>0|[1-9]\d*)"
    r"(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+(?P<build>[0-9A-Za-z.-]+))?$"
)


class VersionError(ValueError):
    """A text that is not a Kubernetes version, or a version this collection does not install."""


class Version(NamedTuple):
    """One Kubernetes version, written back as C(v1.20.2)."""

    major: int
    minor: int
    patch: int
    pre: str = ""
    build: str = ""

    def __str__(self) -> str:
        text = f"v{self.major}.{self.minor}.{self.patch}"
        text += f"-{self.pre}" if self.pre else ""
        return text + (f"+{self.build}" if self.build else "")

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor: what decides which fields and flags exist."""
        return (self.major, self.minor)

    def at_least(self, major: int, minor: int) -> bool:
        """True from the given release on; a pre-release of it counts, for it has its fields."""
        return self.release >= (major, minor)


def parse(text: str) -> Version:
    """Read a version such as C(v1.20.2) or C(1.31.0-rc.1)."""
    found = _VERSION.match(str(text).strip())
    if found is None:
        raise VersionError(f"'{text}' is not a Kubernetes version: write three numbers, such as v1.20.2")
    part = found.groupdict(default="")
    return Version(int(part["major"]), int(part["minor"]), int(part["patch"]), part["pre"], part["build"])


def parse_supported(text: str) -> Version:
    """Like parse(), and refuse what is older than this collection supports or not of major 1."""
    version = parse(text)
    if version.major != 1 or version.release < OLDEST:
        raise VersionError(
            f"Kubernetes {version} is not supported: this collection installs v{OLDEST[0]}.{OLDEST[1]} and newer"
        )
    return version


def kubeadm_api(version: Version) -> str:
    """The version of kubeadm's own configuration documents that is current in a release."""
    if version.at_least(1, 31):
        return "v1beta4"
    if version.at_least(1, 22):
        return "v1beta3"
    return "v1beta2"


def patches_flag(version: Version) -> str:
    """The command-line flag that names the directory of patches, or "" where the configuration names it."""
    return "" if version.at_least(1, 22) else "--experimental-patches"


def writes_apiserver_before_etcd(version: Version) -> bool:
    """Whether C(kubeadm join) starts a control plane's API server long before its etcd, so that it has to be told not to.

    The API server gives up after 20 s without etcd and is restarted. A member of etcd takes 15 to 20 s to join, and
    members join one behind the other. From 1.31 on, kubelet may depend on the local API server: there upstream's order
    stays.
    """
    return not version.at_least(1, 31)


def joins_etcd_as_voter(version: Version) -> bool:
    """Whether C(kubeadm join) adds an etcd member that votes before it is there, so that it has to be done without it.

    From 1.29 on (EtcdLearnerMode, in kubeadm's feature gates since 1.27) kubeadm adds learners by itself.
    """
    return not version.at_least(1, 29)


def has_nftables_proxy(version: Version) -> bool:
    """Whether kube-proxy has its mode nftables: an alpha gate in 1.29 and 1.30, on by default from 1.31 on."""
    return version.at_least(1, 29)


def nftables_proxy_gate(version: Version) -> bool:
    """Whether that mode has to be switched on (NFTablesProxyMode is alpha in 1.29 and 1.30)."""
    return has_nftables_proxy(version) and not version.at_least(1, 31)


def needs_crictl(version: Version) -> bool:
    """Older kubeadm reaches the container runtime through crictl, newer speaks to the socket itself."""
    return not version.at_least(1, 31)


def finishing_phases(version: Version) -> list[str]:
    """What C(kubeadm join phase) still has to do on a control plane whose etcd already is a member, in order.

    Up to 1.21 the node also has to be written into the ClusterStatus of the cluster. Where etcd members join as
    learners (1.29 and newer by default) the etcd phase is repeated: it finds the member and promotes it. The
    older etcd phase is left out: see joins_etcd_as_voter(), and it would write a member without a name.
    """
    if version.at_least(1, 33):
        return ["etcd-join", "control-plane-join mark-control-plane"]
    if version.at_least(1, 29):
        return ["control-plane-join etcd", "control-plane-join mark-control-plane"]
    if version.at_least(1, 22):
        return ["control-plane-join mark-control-plane"]
    return ["control-plane-join update-status", "control-plane-join mark-control-plane"]
