# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guests' kernel lacks for rules of nf_tables: its families ip and ip6, and NAT. Built of Debian's kernel source.

Debian's user-mode-linux has ``nf_tables`` as a module, but without ``CONFIG_NF_TABLES_IPV4`` and ``CONFIG_NFT_NAT``: no
``iptables`` and no ``nft`` adds a rule there. All that these switch on is in modules, so the kernel itself stays the same.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from harness import CACHE, REPOSITORY, Lab

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab_image as image

KERNEL = CACHE / "uml"
KEPT = CACHE / "nft-modules"
TOOLS = {"flex": "flex", "bison": "bison", "bc": "bc", "m4": "m4"}
SWITCHED_ON = ("NF_TABLES_IPV4", "NF_TABLES_IPV6")
MODULES = ("NFT_NAT", "NFT_FIB", "NFT_FIB_IPV4", "NFT_FIB_IPV6", "NFT_REJECT_IPV4", "NFT_REJECT_IPV6")
# All that the switches touch, also those that are there without them.
BUILT = (
    *(f"net/netfilter/{name}.ko" for name in ("nf_tables", "nft_nat", "nft_chain_nat", "nft_fib", "nft_masq")),
    *(f"net/netfilter/{name}.ko" for name in ("nft_redir", "nft_reject", "nft_tproxy", "nft_compat")),
    "net/ipv4/netfilter/nft_fib_ipv4.ko",
    "net/ipv4/netfilter/nft_reject_ipv4.ko",
    "net/ipv6/netfilter/nft_fib_ipv6.ko",
    "net/ipv6/netfilter/nft_reject_ipv6.ko",
)


def command(*words: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command at low priority; its output, or an error with the end of it."""
    done = subprocess.run(
        ["nice", *map(str, words)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, words))}:\n{done.stdout[-3000:]}"
    return done.stdout


def kernel_configuration() -> str:
    """What the guests' kernel was built with, which it holds as text."""
    text = (KERNEL / "usr/bin/linux.uml").read_bytes().replace(b"\0", b"\n").decode("latin-1")
    lines = re.findall(r"^(?:CONFIG_\w+=.*|# CONFIG_\w+ is not set)$", text, re.MULTILINE)
    assert len(lines) > 1000, "linux.uml holds no configuration"
    return "\n".join(lines) + "\n"


def fetch_source(place: Path, package: str) -> Path:
    """The archive of Debian's kernel source, of the suite that the guests' kernel is from."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = image.parse_targets(
        command("apt-get", "indextargets", "--format", image.TARGET_FORMAT, "Created-By: Packages")
    )
    for name in ("lists/partial", "cache/archives/partial"):
        (place / name).mkdir(parents=True)
    (place / "status").touch()
    (place / "sources.list").write_text(
        "\n".join(image.sources(targets, codename, image.KERNEL_SUITE, "")) + "\n", encoding="utf-8"
    )
    (place / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{place}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{place}/lists";\nDir::State::status "{place}/status";\nDir::Cache "{place}/cache";\n'
        'APT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::Check-Valid-Until "false";\n',
        encoding="utf-8",
    )
    environment = {"APT_CONFIG": str(place / "apt.conf")}
    command("apt-get", "-q", "update", environment=environment)
    command("apt-get", "-q", "download", package, cwd=place, environment=environment)
    (archive,) = place.glob(f"{package}_*.deb")
    command("dpkg-deb", "--extract", archive, place / "package")
    return next((place / "package/usr/src").glob("linux-source-*.tar.xz"))


def built(version: str) -> Path:
    """An archive of the modules for a kernel version, built unless it is in the cache."""
    final = KEPT / f"{version}.tar"
    if final.is_file():
        return final
    lacking = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if lacking:
        command("apt-get", "-q", "--yes", "--no-install-recommends", "install", *lacking)
    work = KEPT / "work"
    shutil.rmtree(work, ignore_errors=True)  # there may be none
    tree = work / "tree"
    tree.mkdir(parents=True)
    try:
        release = ".".join(version.split(".")[:2])
        command("tar", "-xJf", fetch_source(work, f"linux-source-{release}"), "-C", tree, "--strip-components=1")
        # The suite may have a later patch level by now; the modules are for the kernel that runs.
        makefile = (tree / "Makefile").read_text(encoding="utf-8")
        level = version.split(".")[2] if version.count(".") > 1 else ""
        (tree / "Makefile").write_text(
            re.sub(r"^SUBLEVEL =.*$", f"SUBLEVEL = {level}", makefile, count=1, flags=re.MULTILINE), encoding="utf-8"
        )
        (tree / ".config").write_text(kernel_configuration(), encoding="utf-8")
        switches = [word for name in SWITCHED_ON for word in ("--enable", name)]
        switches += [word for name in MODULES for word in ("--module", name)]
        command("scripts/config", *switches, "--disable", "LOCALVERSION_AUTO", cwd=tree)
        command("make", "ARCH=um", "olddefconfig", cwd=tree)
        command("make", "-j2", "ARCH=um", "modules_prepare", cwd=tree)
        # There is no list of the kernel's own symbols; depmod finds on the guests which module has which.
        command("make", "-j2", "ARCH=um", "KBUILD_MODPOST_WARN=1", *BUILT, cwd=tree)
        for name in BUILT:
            command("strip", "--strip-debug", tree / name)
        fresh = final.with_suffix(".new")
        with tarfile.open(fresh, "w") as archive:
            for name in BUILT:
                archive.add(tree / name, f"{Path(name).name}")
        fresh.replace(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def install(lab: Lab) -> None:
    """The modules on all guests, before anything of nf_tables is used there."""
    (version,) = {text.strip() for text in lab.everywhere(lambda host: lab.run(host, "uname -r")).values()}
    archive = built(version)
    folder = f"/lib/modules/{version}/updates"
    lab.everywhere(lambda host: lab.run(host, f"mkdir -p {folder}"))
    options = ["-i", str(lab.inventory), "-e", f"lab_name={lab.name}", "--become"]
    command(
        *("ansible", "kube_control_plane:kube_node", *options, "-m", "ansible.builtin.unarchive"),
        *("-a", f"src={archive} dest={folder}"),
        cwd=REPOSITORY,
    )
    seen = "table ip multinic-seen { chain c { type nat hook postrouting priority 100; masquerade; }; }"
    for host in lab.hosts:
        lab.run(
            host,
            f"depmod && rmmod nft_compat nf_tables 2>/dev/null; modprobe nf_tables; command -v nft >/dev/null || exit 0;"
            f" echo '{seen}' | nft -f - && nft delete table ip multinic-seen",
        )
