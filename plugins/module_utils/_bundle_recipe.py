# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""How each part of the Debian-made bundle is built, as data, and the decisions around it. Pure: runs nothing."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError

DISTRIBUTION = "debian-12"
CODENAME = "bookworm"
SOURCE_PACKAGE = "kubernetes"
GO = "/usr/lib/go-1.19/bin/go"
# As Kubernetes' own build has it: without the tag, kubelet knows nothing of SELinux.
GO_TAGS = "selinux,notest"
GO_PACKAGE_REFLECT2 = "/usr/share/gocode/src/github.com/modern-go/reflect2"

# What the build runs: the program or file that shows the package is there, and the package that brings it.
TOOLS: dict[str, str] = {
    GO: "golang-1.19-go",
    GO_PACKAGE_REFLECT2: "golang-github-modern-go-reflect2-dev",
    "/usr/bin/dpkg-source": "dpkg-dev",
    "/usr/bin/gcc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/bin/make": "make",
    "/usr/bin/rsync": "rsync",
    "/usr/bin/xz": "xz-utils",
    "/usr/bin/patch": "patch",
}

KUBERNETES_BINARIES = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)
HOST_BINARIES = ("kubeadm", "kubelet", "kubectl", "crictl")
BINARIES = (*KUBERNETES_BINARIES, "crictl", "pause", "coredns")
# A bundle without one of these is still a bundle; the manifest then says what is missing, and why.
OPTIONAL_BINARIES = ("crictl", "coredns")

HOST_PACKAGES = (
    "chrony",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ethtool",
    "haproxy",
    "ipset",
    "iptables",
    "ipvsadm",
    "keepalived",
    "kmod",
    "nftables",
    "runc",
    "socat",
)

# Anything in an image that only people read, or that only other languages need.
_UNUSED = re.compile(
    r"usr/share/(doc|doc-base|man|info|locale|lintian|bug|bash-completion|zsh|initramfs-tools)(/|$)"
    r"|usr/lib/x86_64-linux-gnu/gconv(/|$)|usr/lib/locale(/|$)|usr/lib/tmpfiles\.d(/|$)|lib/systemd(/|$)"
    r"|etc/(init\.d|bash_completion\.d|kernel|ld\.so\.conf\.d|initramfs-tools)(/|$)|usr/share/initramfs-tools"
)


@dataclass(frozen=True)
class ModuleRecipe:
    """A program that comes from the Go module proxy."""

    module: str
    version: str
    package: str = "."
    # Newer dependencies than the module asks for, where the old ones can't run with this Go.
    require: tuple[str, ...] = ()
    # Plugins left out (CoreDNS only): clients of clouds and of tracing services.
    without_plugins: tuple[str, ...] = ()
    version_variable: str = ""
    licence: str = "Apache-2.0"


MODULES: dict[str, ModuleRecipe] = {
    "coredns": ModuleRecipe(
        module="github.com/coredns/coredns",
        version="",
        require=("github.com/modern-go/reflect2@v1.0.2", "github.com/json-iterator/go@v1.1.12"),
        without_plugins=("route53", "azure", "clouddns", "trace", "etcd", "grpc", "dnstap"),
        version_variable="github.com/coredns/coredns/coremain.GitCommit",
    ),
    "crictl": ModuleRecipe(
        module="github.com/kubernetes-sigs/cri-tools",
        version="v1.26.1",
        package="./cmd/crictl",
        version_variable="github.com/kubernetes-sigs/cri-tools/pkg/version.Version",
    ),
}


@dataclass(frozen=True)
class ImageRecipe:
    """What goes into an image, and who needs it."""

    roles: tuple[str, ...]
    binaries: tuple[tuple[str, str], ...] = ()
    packages: tuple[str, ...] = ()
    # Whether all that the packages depend on goes in too, or only what `keep` names: (place in package, place in image).
    closure: bool = False
    keep: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()


def _xtables_links() -> tuple[tuple[str, str], ...]:
    """What Debian's alternatives do on a host: `iptables` is the nf_tables one, as it is for kubelet beside it."""
    names = [f"ip{six}tables{what}" for six in ("", "6") for what in ("", "-save", "-restore")]
    return tuple((f"usr/sbin/{name}", "xtables-nft-multi") for name in names)


_BOTH = ("control_plane", "worker")
_CONTROL = ("control_plane",)
_LOCAL = "usr/local/bin"

IMAGES: dict[str, ImageRecipe] = {
    "kube-apiserver": ImageRecipe(_CONTROL, (("kube-apiserver", f"{_LOCAL}/kube-apiserver"),)),
    "kube-controller-manager": ImageRecipe(
        _CONTROL, (("kube-controller-manager", f"{_LOCAL}/kube-controller-manager"),)
    ),
    "kube-scheduler": ImageRecipe(_CONTROL, (("kube-scheduler", f"{_LOCAL}/kube-scheduler"),)),
    "kube-proxy": ImageRecipe(
        _BOTH,
        (("kube-proxy", f"{_LOCAL}/kube-proxy"),),
        packages=("iptables", "ipset", "kmod", "conntrack"),
        closure=True,
        links=_xtables_links(),
    ),
    "pause": ImageRecipe(_BOTH, (("pause", "pause"),), entrypoint=("/pause",)),
    "etcd": ImageRecipe(
        _CONTROL,
        packages=("etcd-server", "etcd-client", "libc6"),
        keep=(
            ("usr/bin/etcd", f"{_LOCAL}/etcd"),
            ("usr/bin/etcdctl", f"{_LOCAL}/etcdctl"),
            ("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
            ("lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
            ("lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libc.so.6"),
            ("lib/x86_64-linux-gnu/libpthread.so.0", "lib/x86_64-linux-gnu/libpthread.so.0"),
        ),
    ),
    "coredns": ImageRecipe(_BOTH, (("coredns", "coredns"),), entrypoint=("/coredns",)),
}


@dataclass(frozen=True)
class Package:
    """One Debian package, as apt names its file."""

    name: str
    version: str
    architecture: str
    file: str

    @property
    def plain_file(self) -> str:
        """The file's name without the version's epoch, as in Debian's own archive."""
        return f"{self.name}_{self.version.split(':', 1)[-1]}_{self.architecture}.deb"


def digest(*inputs: t.Any) -> str:
    """A short name for all that a part is made of: other inputs, another name."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def upstream_version(debian_version: str) -> str:
    """v1.20.2 for 1.20.5+really1.20.2-1.1+deb12u1."""
    upstream = debian_version.split(":", 1)[-1].rsplit("-", 1)[0].split("+really")[-1]
    found = re.match(r"[0-9]+\.[0-9]+\.[0-9]+", upstream)
    if not found:
        raise BundleError(f"the source package's version {debian_version!r} holds no Kubernetes version")
    return f"v{found.group()}"


def version_ldflags(version: str, source_version: str, built: str) -> str:
    """The linker's flags that tell each binary its version. The commit is the source package's version: that it is."""
    major, minor = version.lstrip("v").split(".")[:2]
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": f"debian-{source_version}",
        "gitTreeState": "archive",
        "buildDate": built,
    }
    packages = ("component-base/version", "client-go/pkg/version")
    settings = [
        f"-X k8s.io/kubernetes/vendor/k8s.io/{package}.{key}={value}"
        for package in packages
        for key, value in values.items()
    ]
    return " ".join(["-s", "-w", "-buildid=", *settings])


def image_name(reference: str) -> str:
    """kube-proxy for k8s.gcr.io/kube-proxy:v1.20.2."""
    return reference.rsplit("/", 1)[-1].rsplit(":", 1)[0]


def image_references(lines: str) -> dict[str, str]:
    """What `kubeadm config images list` printed, by the name of the recipe."""
    references = lines.split()
    found = {image_name(reference): reference for reference in references}
    unknown = sorted(set(found) - set(IMAGES))
    if unknown or len(found) != len(references):
        raise BundleError(
            f"kubeadm wants images that there is no recipe for: {', '.join(unknown) or ', '.join(references)}"
        )
    return found


def image_repository(references: Iterable[str]) -> str:
    """k8s.gcr.io, or a BundleError if the images come from more than one place."""
    places = sorted({reference.rsplit("/", 1)[0] for reference in references if image_name(reference) != "coredns"})
    if len(places) != 1:
        raise BundleError(f"kubeadm's images come from {', '.join(places) or 'nowhere'}, not from one repository")
    return places[0]


def unused_in_image(path: str) -> bool:
    """Whether a file of a package may be left out of an image."""
    return bool(_UNUSED.match(path))


def private_sources(files: Mapping[str, str], codename: str = CODENAME) -> str:
    """The machine's own package sources of this Debian release, with source packages, in deb822 form.

    From the texts of the machine's source lists by file name; a BundleError if none is for the release.
    """
    stanzas: list[str] = []
    for name, text in sorted(files.items()):
        if name.endswith(".sources"):
            stanzas.extend(_deb822_stanzas(text, codename))
        elif name.endswith(".list"):
            stanzas.extend(_one_line_stanzas(text, codename))
    if not stanzas:
        raise BundleError(
            f"apt has no source for Debian {codename} on this machine (looked in {', '.join(sorted(files)) or 'no file'}):"
            " the bundle is built from Debian 12's packages"
        )
    return "\n".join(stanzas)


def _suites_of(suites: Iterable[str], codename: str) -> list[str]:
    return [suite for suite in suites if suite == codename or suite.startswith((f"{codename}-", f"{codename}/"))]


def _deb822_stanzas(text: str, codename: str) -> t.Iterator[str]:
    for stanza in re.split(r"\n[ \t]*\n", text):
        lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
        entries: list[tuple[str, str]] = []
        for line in lines:
            if line[:1] in " \t" and entries:
                entries[-1] = (entries[-1][0], f"{entries[-1][1]}\n{line}")
            elif ":" in line:
                key, value = line.split(":", 1)
                entries.append((key.strip(), value.strip()))
        found = {key.lower(): value for key, value in entries}
        suites = _suites_of(found.get("suites", "").split(), codename)
        if not suites or found.get("enabled", "yes").lower() in ("no", "false"):
            continue
        kept = [f"{key}: {value}" for key, value in entries if key.lower() not in ("types", "suites", "enabled")]
        yield "\n".join(["Types: deb deb-src", f"Suites: {' '.join(suites)}", *kept]) + "\n"


def _one_line_stanzas(text: str, codename: str) -> t.Iterator[str]:
    names = {"signed-by": "Signed-By", "trusted": "Trusted", "check-valid-until": "Check-Valid-Until", "arch": ""}
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if not found or not _suites_of([found.group(3)], codename):
            continue
        lines = [
            "Types: deb deb-src",
            f"URIs: {found.group(2)}",
            f"Suites: {found.group(3)}",
            f"Components: {' '.join(found.group(4).split())}",
        ]
        for option in (found.group(1) or "").split():
            key, _equals, value = option.partition("=")
            if names.get(key.lower()):
                lines.append(f"{names[key.lower()]}: {value.replace(',', ' ')}")
        yield "\n".join(lines) + "\n"


def printed_packages(uris: str) -> list[Package]:
    """What `apt-get --print-uris` would fetch."""
    found: list[Package] = []
    for line in uris.splitlines():
        match = re.match(r"'[^']+' (\S+\.deb) \d+ ", line)
        if match:
            name, version, architecture = match.group(1)[: -len(".deb")].split("_")
            found.append(Package(name, unquote(version), architecture, match.group(1)))
    return sorted(found, key=lambda package: package.name)


def base_packages(available: str) -> list[str]:
    """The packages that every Debian host has, in what `apt-cache dumpavail` prints: essential or required, and apt."""
    names = {"apt"}
    for stanza in available.split("\n\n"):
        if re.search(r"^(Essential: yes|Priority: required)$", stanza, re.MULTILINE):
            name = re.search(r"^Package: (\S+)$", stanza, re.MULTILINE)
            if name:
                names.add(name.group(1))
    return sorted(names)


def without_plugins(plugin_cfg: str, names: Sequence[str]) -> str:
    """CoreDNS's plugin.cfg without these plugins; a BundleError if it does not have them."""
    lines = plugin_cfg.splitlines(keepends=True)
    have = {line.split(":", 1)[0] for line in lines if ":" in line and not line.startswith("#")}
    unknown = sorted(set(names) - have)
    if unknown:
        raise BundleError(f"CoreDNS's plugin.cfg has no plugin {', '.join(unknown)}")
    return "".join(line for line in lines if line.split(":", 1)[0] not in names)
