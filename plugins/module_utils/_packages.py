# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Which packages of a bundle a host lacks, and in which order Debian compares versions. Pure: nothing is run here."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from types import MappingProxyType
from typing import Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import Manifest

POLICY_MARK = "# written by multinic.kubernetes, for the time of one installation"


class PackagesError(ValueError):
    """The packages can't be installed; the message says why and what to do."""


@dataclass(frozen=True)
class Package:
    """A package of the bundle, for this host's distribution."""

    name: str
    version: str
    path: str


@dataclass(frozen=True)
class Selection:
    """What one installation takes: the files to install, told as sentences."""

    install: tuple[Package, ...] = ()
    changes: tuple[str, ...] = ()
    before: Mapping[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------------------------
# Debian versions (Debian Policy, section 5.6.12)
# ---------------------------------------------------------------------------------------------------------------------


Pair = tuple[tuple[int, ...], int]
END: Pair = ((0,), 0)  # what stands beyond the end of a version: no text, and a missing number counts as 0


def _rank(character: str) -> int:
    """Tilde before the end of the text, the end before letters, letters before all else."""
    if character == "~":
        return -1
    if character.isalpha():
        return ord(character)
    return ord(character) + 256


def _pairs(text: str) -> list[Pair]:
    """Alternating texts and numbers; every text ends with rank 0, so a longer one compares as policy says."""
    found = re.findall(r"([^0-9]*)([0-9]*)", text)
    return [(tuple(_rank(char) for char in word) + (0,), int(number or 0)) for word, number in found]


def _version(version: str) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Epoch, upstream version and revision."""
    epoch, colon, rest = version.strip().partition(":")
    if not colon:
        epoch, rest = "0", epoch
    if not epoch.isdigit():
        raise PackagesError(f"{version!r} is no Debian package version: its epoch is no number")
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return _pairs(epoch), _pairs(upstream), _pairs(revision)


def older(version: str, than: str) -> bool:
    """Whether a Debian package version comes before another."""
    for one, two in zip(_version(version), _version(than)):
        for mine, other in zip_longest(one, two, fillvalue=END):
            if mine != other:
                return mine < other
    return False


# ---------------------------------------------------------------------------------------------------------------------
# the host
# ---------------------------------------------------------------------------------------------------------------------


def distribution(os_release: str) -> str:
    """`debian-12` from the text of /etc/os-release."""
    fields = dict(re.findall(r"^([A-Z_]+)=[\"']?([^\"'\n]*)", os_release, re.MULTILINE))
    return f"{fields.get('ID', 'linux')}-{fields.get('VERSION_ID', '')}".rstrip("-").lower()


def installed_versions(dpkg_query: str) -> dict[str, str]:
    """Package to version, of those that are unpacked and configured."""
    return {name: version for name, version, _provides in _installed(dpkg_query)}


def provided_names(dpkg_query: str) -> dict[str, str]:
    """The names that installed packages provide besides their own, each with one that does."""
    return {
        words[0]: package
        for package, _version, provides in _installed(dpkg_query)
        for item in provides.split(",")
        if (words := item.split()) and words[0] != package
    }


def _installed(dpkg_query: str) -> Iterator[tuple[str, str, str]]:
    """The installed ones among lines of `Package Version Status-Abbrev Provides`."""
    for line in dpkg_query.splitlines():
        name, version, status, provides = (line.split("\t") + ["", "", ""])[:4]
        # The second letter is the state: i installed, t and W only wait for triggers. The third tells of damage.
        if len(status) >= 2 and status[1] in "itW" and status[2:].strip() == "":
            yield name, version, provides


def packages_for(manifest: Manifest, wanted_distribution: str, names: Sequence[str] = ()) -> list[Package]:
    """The bundle's packages for this distribution, all or those named."""
    found = [
        Package(part.package, part.version, part.path)
        for part in manifest.parts
        if part.kind == "package" and part.distribution == wanted_distribution
    ]
    absent = sorted(set(names) - {package.name for package in found})
    if absent and found:
        raise PackagesError(f"the bundle holds no package {', '.join(absent)} for {wanted_distribution}")
    return [package for package in found if not names or package.name in names]


def select(
    packages: Iterable[Package],
    installed: Mapping[str, str],
    provided: Mapping[str, str] = MappingProxyType({}),
    damaged: Collection[str] = (),
) -> Selection:
    """What is missing, older than the bundle's, or damaged. Newer ones stay, and so does who provides the name."""
    install, changes, before = [], [], {}
    for package in sorted(packages, key=lambda item: item.name):
        found = installed.get(package.name)
        sentence = f"install {package.name} {package.version}"
        if found is None:
            if package.name in provided:
                continue
        elif older(found, package.version):
            sentence = f"upgrade {package.name} from {found} to {package.version}"
        elif package.name in damaged and found == package.version:
            sentence += " again: the host went down before it was safely on the disk"
        else:
            continue
        install.append(package)
        before[package.name] = found or ""
        changes.append(sentence)
    return Selection(tuple(install), tuple(changes), before)


# ---------------------------------------------------------------------------------------------------------------------
# what belongs to a package (Debian Policy, sections 3.6, 5.3 and 7.1)
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Relations:
    """What a package file says of others: the names it may depend on, and the names that it stands for."""

    depends: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()


def relations(control: str) -> Relations:
    """The relations in the text of a control file. Of alternatives all are taken: which one is there is not known here."""
    fields: dict[str, str] = {}
    name = ""
    for line in control.splitlines():
        if line[:1].isspace():
            fields[name] = fields.get(name, "") + line
        else:
            name, _colon, text = line.partition(":")
            fields[name] = text

    def names(*wanted: str) -> frozenset[str]:
        items = re.split(r"[,|]", ",".join(fields.get(field, "") for field in wanted))
        return frozenset(words[0].partition(":")[0] for item in items if (words := item.replace("(", " (").split()))

    return Relations(names("Pre-Depends", "Depends"), names("Provides"))


def narrowed(
    selection: Selection, told: Mapping[str, Relations], only: Collection[str] = (), without: Collection[str] = ()
) -> Selection:
    """Of a selection only some packages and what these need, or all without some and what only those need."""
    meant: dict[str, set[str]] = {}
    for package in selection.install:
        for name in (package.name, *told.get(package.name, Relations()).provides):
            meant.setdefault(name, set()).add(package.name)

    def needs(package: str) -> set[str]:
        depends = told.get(package, Relations()).depends
        return {found for name in depends for found in meant.get(name, ())} - {package}

    def with_all_it_needs(names: Iterable[str]) -> set[str]:
        found, left = set(), list(names)
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left.extend(needs(name))
        return found

    names = {package.name for package in selection.install}
    if only:
        names = with_all_it_needs(names & set(only))
    gone = names & set(without)
    if gone:
        names = with_all_it_needs(names - with_all_it_needs(gone))
    sentences = zip(selection.install, selection.changes)
    return Selection(
        tuple(package for package in selection.install if package.name in names),
        tuple(sentence for package, sentence in sentences if package.name in names),
        {name: version for name, version in selection.before.items() if name in names},
    )


# dpkg is told not to wait for the disk after every file. Until all is synced at the end, a marker on the disk tells which
# packages a power loss would leave "installed" with empty files.


def unsynced_marker(boot: str, names: Iterable[str]) -> str:
    return json.dumps({"boot": boot, "packages": sorted(names)}) + "\n"


def not_on_disk(marker: str, boot: str) -> set[str]:
    """The packages of a marker that an earlier boot has left. Within one boot nothing is lost, even by a killed run."""
    try:
        left = json.loads(marker)
    except ValueError:
        return set()
    if not isinstance(left, dict) or left.get("boot") == boot:
        return set()
    return {str(name) for name in left.get("packages") or ()}


def difference(selection: Selection) -> dict[str, str]:
    """The diff of one installation."""
    return {
        "before_header": "packages",
        "after_header": "packages",
        "before": "".join(f"{name} {version or '(not installed)'}\n" for name, version in selection.before.items()),
        "after": "".join(f"{package.name} {package.version}\n" for package in selection.install),
    }


def missing_commands(commands: Mapping[str, Optional[str]]) -> list[str]:
    return sorted(command for command, path in commands.items() if path is None)


def no_packages_problem(wanted_distribution: str, offered: Iterable[str], missing: Sequence[str]) -> str:
    """The error of a host whose distribution the bundle does not serve and that lacks something."""
    return (
        f"this host runs {wanted_distribution}, for which the bundle holds no packages (it holds them for "
        f"{', '.join(sorted(set(offered))) or 'no distribution'}), and these commands are missing: {', '.join(missing)}. "
        "Install them with the host's own package manager, or bring a bundle that holds them, then run again."
    )


def policy_is_left_over(text: str) -> bool:
    """Whether a policy-rc.d is one of a run that was killed; a power loss may have left it empty, which says nothing."""
    return POLICY_MARK in text or not text.strip()


def policy_script(pid: int, running: Iterable[str], saved: str) -> str:
    """A policy-rc.d that lets no service be started that did not run before, for as long as the process lives."""
    names = sorted(name[: -len(".service")] if name.endswith(".service") else name for name in running)
    return "\n".join(
        [
            "#!/bin/sh",
            POLICY_MARK,
            f"if ! kill -0 {pid} 2>/dev/null; then",
            f'  if [ -x {saved} ]; then exec {saved} "$@"; fi',
            "  exit 0",
            "fi",
            "while [ $# -gt 0 ]; do case $1 in --*) shift ;; *) break ;; esac; done",
            f'case " {" ".join(names)} " in *" ${{1%.service}} "*) exit 0 ;; esac',
            "exit 101",
            "",
        ]
    )
