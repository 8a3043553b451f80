# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""What the lab's kernel and base image are made of. Pure: no I/O, no Ansible."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

KERNEL_SUITE = "forky"
KERNEL_PACKAGE = "user-mode-linux"
GUEST_SUITE = "bookworm"
GUEST_USER = "lab"
DISK_SIZE = "12G"
GUEST_PACKAGES = (
    "dbus",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "kmod",
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
)

# Runs as process 1 before systemd, so that systemd, udev and sshd see one settled host from their first moment.
_INIT = r"""#!/bin/sh
# Gives this guest its identity and cures what a User Mode Linux host lacks, then becomes systemd.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
state=/var/lib/multinic-lab

mount -t proc -o nosuid,nodev,noexec proc /proc
test -c /dev/null || mount -t devtmpfs devtmpfs /dev

# The second disk is a tar archive with this guest's own files. It is unpacked when it differs from the last boot's.
for word in $(cat /proc/cmdline); do
  case $word in lab.identity=*) wanted=${word#lab.identity=} ;; esac
done
if test "$wanted" != "$(cat $state/identity 2>/dev/null)"; then
  rm -f /etc/systemd/network/10-lab-* /etc/sudoers.d/lab /etc/ssh/sshd_config.d/lab.conf
  tar -x -p -f /dev/ubdb -C / --numeric-owner
  if test -s $state/password; then
    chpasswd < $state/password
    rm -f $state/password
  else
    usermod -p '!' lab
  fi
  printf '%s\n' "$wanted" > $state/identity
fi
hostname -F /etc/hostname 2>/dev/null || cat /etc/hostname > /proc/sys/kernel/hostname

# The driver takes large frames only after this switch; without it, every burst crawls.
for card in /sys/class/net/vec*; do
  test -e "$card" || mount -t sysfs sysfs /sys
done
for card in /sys/class/net/vec*; do
  ethtool -K "${card##*/}" gro off && ethtool -K "${card##*/}" gro on
done

# kubelet reads the clock speed and the topology here, and this kernel tells neither.
grep . /proc/cpuinfo > $state/cpuinfo
printf 'cpu MHz\t\t: 2000.000\nphysical id\t: 0\ncore id\t\t: 0\nsiblings\t: 1\ncpu cores\t: 1\n\n' >> $state/cpuinfo
mount --bind $state/cpuinfo /proc/cpuinfo

exec /sbin/init "$@"
"""

# path -> (mode, content); what every guest has beside Debian's own packages.
OVERLAY: dict[str, tuple[int, str]] = {
    "usr/lib/multinic-lab/init": (0o755, _INIT),
    "etc/fstab": (0o644, "# The kernel mounts the only disk.\n"),
    "etc/nsswitch.conf": (
        0o644,
        "passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files\nnetworks: files\n"
        "protocols: files\nservices: files\nethers: files\nrpc: files\n",
    ),
    "etc/resolv.conf": (0o644, "# The lab has no name server; names come from /etc/hosts.\n"),
    "etc/sysctl.d/60-lab.conf": (
        0o644,
        "# Strict, as on the hosts of the multi-NIC situations: a card takes only what it would answer by itself.\n"
        "net.ipv4.conf.default.rp_filter = 1\nnet.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.all.rp_filter = 1\n",
    ),
    "etc/systemd/journald.conf.d/lab.conf": (0o644, "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n"),
}

# link -> target. The console's Ctrl-Alt-Del is the lab's power button.
LINKS: dict[str, str] = {
    "etc/systemd/system/ctrl-alt-del.target": "/lib/systemd/system/poweroff.target",
    "etc/systemd/system/apt-daily.timer": "/dev/null",
    "etc/systemd/system/apt-daily-upgrade.timer": "/dev/null",
    "etc/systemd/system/dpkg-db-backup.timer": "/dev/null",
    "etc/systemd/system/e2scrub_all.timer": "/dev/null",
    "etc/systemd/system/fstrim.timer": "/dev/null",
}

UNITS = ("systemd-networkd.service", "ssh.service")

# Kept out of the image: every guest gets its own, or none.
UNWANTED = ("etc/ssh/ssh_host_*", "etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname", "var/cache/apt/*.bin")


class ImageError(ValueError):
    """The base image cannot be described from what this machine says."""


@dataclass(frozen=True)
class Target:
    """One index of packages of this machine's apt configuration."""

    site: str
    release: str
    codename: str
    origin: str
    component: str


TARGET_FORMAT = "$(SITE)|$(RELEASE)|$(CODENAME)|$(ORIGIN)|$(COMPONENT)"


def parse_targets(text: str) -> list[Target]:
    """Reads what C(apt-get indextargets --format) prints; a field that apt does not know stays empty."""
    targets = []
    for line in text.splitlines():
        fields = ["" if field.startswith("$(") else field.strip() for field in line.split("|")]
        if len(fields) == 5 and fields[0] and fields[1]:
            targets.append(Target(*fields))
    return targets


def _debian(targets: list[Target], codename: str) -> list[Target]:
    """The Debian archive's own main indexes for this machine's release, the release itself first."""
    suites = (codename, f"{codename}-updates", f"{codename}-security")
    found = [
        target
        for target in targets
        if target.component == "main" and target.release in suites and target.origin in ("Debian", "")
    ]
    return sorted(found, key=lambda target: suites.index(target.release))


def mirror(targets: list[Target], codename: str) -> str:
    """The address of the Debian mirror this machine itself uses."""
    for target in _debian(targets, codename):
        if target.release == codename:
            return target.site
    raise ImageError(
        f"apt on this machine names no Debian mirror for {codename} main; add one to its apt sources or set lab_mirror"
    )


def sources(targets: list[Target], codename: str, suite: str, override: str = "") -> list[str]:
    """Lines for sources.list, so that the guests' packages are as new as this machine's mirror offers."""
    base = override or mirror(targets, codename)
    lines = [f"deb {base} {suite} main"]
    if not override and codename == suite:
        for target in _debian(targets, codename):
            line = f"deb {target.site} {target.release} main"
            if line not in lines and target.release != suite:
                lines.append(line)
    return lines


def apt_options(dump: str) -> list[str]:
    """This machine's own ways to the mirror (proxy, certificates, retries) out of C(apt-config dump)."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Retries")
    kept = [line.strip() for line in dump.splitlines() if line.startswith(wanted) and not line.rstrip().endswith('"";')]
    return ['Acquire::Check-Valid-Until "false"', *(line.rstrip(";") for line in kept)]


def bootstrap(
    suite: str, packages: tuple[str, ...], root: str, source_lines: list[str], options: list[str]
) -> list[str]:
    """The command that makes one root file system."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        *(f"--aptopt={option}" for option in options),
        '--dpkgopt=path-exclude="/usr/share/doc/*"',
        '--dpkgopt=path-exclude="/usr/share/man/*"',
        '--dpkgopt=path-exclude="/usr/share/locale/*"',
        f"--include={','.join(packages)}",
        suite,
        root,
        *source_lines,
    ]


def base_name(kernel_version: str) -> str:
    """The base image's file name: a new one as soon as anything it is made of changes."""
    inputs = {
        "schema": 1,
        "kernel": kernel_version,
        "suite": GUEST_SUITE,
        "packages": GUEST_PACKAGES,
        "size": DISK_SIZE,
        "user": GUEST_USER,
        "overlay": OVERLAY,
        "links": LINKS,
        "units": UNITS,
        "unwanted": UNWANTED,
    }
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return f"{digest[:16]}.img"
