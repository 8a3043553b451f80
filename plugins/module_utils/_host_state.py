# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Desired host state against found host state: what has to change, in which order, told in sentences and as a diff.

This module util is private to the collection. It is pure: it neither reads nor writes the host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

FSTAB = "/etc/fstab"
FSTAB_MARK = "# multinic: "
UNIT_FILE_FOLDERS = ("/etc/systemd/", "/lib/systemd/", "/usr/lib/systemd/", "/usr/local/lib/systemd/", "/run/systemd/")
UNIT_SUFFIXES = (
    ".service",
    ".socket",
    ".timer",
    ".path",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".slice",
    ".scope",
    ".device",
)
ENABLED_STATES = frozenset({"enabled", "alias", "static", "indirect", "generated"})
DISABLE_STATES = frozenset({"enabled", "enabled-runtime", "linked", "linked-runtime"})
MASKED_STATES = frozenset({"masked"})
RUNNING_STATES = frozenset({"active", "activating", "reloading", "refreshing"})
FAILED_AND_WAITING = "auto-restart"  # systemd calls it activating, but it waits for its next try
SWAP_TARGET = "swap.target"
OURS = "Written by multinic.kubernetes"
SAVED = ".multinic-saved"
SYSCTLS_BEFORE = "/var/lib/multinic/sysctls-before.json"
HIDDEN = "(sensitive, not shown)\n"


class StateError(ValueError):
    """The desired state contradicts itself or what was found; the message says where and what to do."""


@dataclass(frozen=True)
class FoundPath:
    """What lies at one path. `content` is None for large or unread files, which are compared by `digest`."""

    kind: str = "absent"  # absent, file, directory, link, other
    mode: int = 0
    owner: str = ""
    group: str = ""
    uid: int = -1
    gid: int = -1
    content: Optional[bytes] = None
    digest: str = ""
    size: int = 0
    identity: tuple[int, int] = (0, 0)  # device and inode
    target: str = ""


ABSENT = FoundPath()


@dataclass(frozen=True)
class FoundUnit:
    load: str = "not-found"
    active: str = "inactive"
    file_state: str = ""
    need_reload: bool = False
    sub: str = ""

    @property
    def runs(self) -> bool:
        return self.active in RUNNING_STATES and self.sub != FAILED_AND_WAITING


@dataclass(frozen=True)
class Found:
    modules: frozenset[str] = frozenset()
    sysctls: Mapping[str, Optional[str]] = field(default_factory=dict)  # None: the key does not exist now
    swaps: tuple[str, ...] = ()
    paths: Mapping[str, FoundPath] = field(default_factory=dict)
    units: Mapping[str, FoundUnit] = field(default_factory=dict)
    pending_restarts: tuple[str, ...] = ()  # an earlier run was stopped between writing a file and restarting these
    pending_reloads: tuple[str, ...] = ()  # likewise, and reloading


@dataclass
class Write:
    """One path to be brought into its desired state."""

    action: str  # directory, save, file, link, remove, attributes
    path: str
    content: Optional[bytes] = None
    source: str = ""
    hard_link: bool = False
    target: str = ""
    mode: Optional[int] = None
    owner: Optional[str] = None
    group: Optional[str] = None
    validate: str = ""
    keep_attributes: bool = False


@dataclass
class Plan:
    load_modules: list[str] = field(default_factory=list)
    set_sysctls: list[tuple[str, str]] = field(default_factory=list)
    swap_off: bool = False
    writes: list[Write] = field(default_factory=list)
    daemon_reload: bool = False
    # Units whose files change: whether systemd has to reload is then for systemd to say, since a reload is expensive
    # and a unit that it has not loaded yet needs none.
    changed_units: list[str] = field(default_factory=list)
    systemctl: list[tuple[str, list[str]]] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    reloads: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------------------------------
# small pure helpers
# ---------------------------------------------------------------------------------------------------------------------


def module_name(name: str) -> str:
    """The kernel's own spelling of a module's name."""
    return name.strip().replace("-", "_")


def sysctl_path(key: str) -> str:
    """Path below /proc/sys of a sysctl key; as in sysctl(8), the first separator decides whether dots or slashes separate."""
    dot, slash = key.find("."), key.find("/")
    if slash != -1 and (dot == -1 or slash < dot):
        return key
    return key.translate(str.maketrans("./", "/."))


def sysctl_value(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return " ".join(str(value).split())


def unit_name(name: str) -> str:
    return name if name.endswith(UNIT_SUFFIXES) else f"{name}.service"


def unit_of(path: str) -> str:
    """The unit that a unit file or a drop-in belongs to; empty if it belongs to none or to several."""
    match = re.match(r".*/system/([^/]+?)(\.d/[^/]+\.conf)?$", path)
    if not match or not match[1].endswith(UNIT_SUFFIXES) or "@." in match[1]:
        return ""
    return match[1]


def parse_mode(mode: Any, where: str) -> int:
    text = str(mode)
    if not re.fullmatch(r"0?[0-7]{3,4}", text):
        raise StateError(f"{where}: mode {text!r} is not an octal number in quotes such as '0644'")
    return int(text, 8)


def modules_file(modules: Iterable[str]) -> str:
    return f"# {OURS}\n" + "".join(f"{name}\n" for name in modules)


def sysctls_file(sysctls: Mapping[str, Any]) -> str:
    return f"# {OURS}\n" + "".join(f"{key} = {sysctl_value(value)}\n" for key, value in sysctls.items())


def without_swap(fstab: str) -> str:
    """fstab with every line that mounts swap commented out, and nothing else touched."""
    lines = []
    for line in fstab.splitlines(keepends=True):
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith("#") and fields[2] == "swap":
            line = FSTAB_MARK + line
        lines.append(line)
    return "".join(lines)


def with_block(text: str, content: str, marker: str, name: str, path: str = "") -> str:
    """Text with our managed block replaced, appended, or (empty content) removed."""
    begin, end = f"# BEGIN {marker} {name}", f"# END {marker} {name}"
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if line.strip() == begin]
    ends = [index for index, line in enumerate(lines) if line.strip() == end]
    if len(starts) != len(ends) or len(starts) > 1 or (starts and ends[0] < starts[0]):
        raise StateError(
            f"{path}: the managed block '{begin}' … '{end}' is damaged (found {len(starts)} beginnings and "
            f"{len(ends)} ends). Repair or remove these lines by hand, then run again."
        )
    block = [begin, *content.rstrip("\n").splitlines(), end] if content.strip() else []
    if starts:
        lines[starts[0] : ends[0] + 1] = block
    else:
        lines.extend(block)
    if not starts and not block:
        return text
    return "".join(f"{line}\n" for line in lines)


def without_lines(text: str, regexp: str, path: str = "") -> str:
    """Text without the lines the expression matches; lines inside managed blocks stay."""
    try:
        pattern = re.compile(regexp)
    except re.error as exc:
        raise StateError(f"{path}: absent_lines regexp {regexp!r} is not a regular expression: {exc}") from exc
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if line.startswith("# BEGIN multinic"):
            inside = True
        if inside or not pattern.search(line.rstrip("\n")):
            kept.append(line)
        if line.startswith("# END multinic"):
            inside = False
    return "".join(kept)


def sysctls_paths(name: str) -> tuple[str, str]:
    """The file of kernel parameters, and its name of earlier days.

    The last file that names a parameter wins at boot, and Debian links /etc/sysctl.conf as 99-sysctl.conf.
    """
    return f"/etc/sysctl.d/99-zz-multinic-{name}.conf", f"/etc/sysctl.d/90-multinic-{name}.conf"


def boot_files(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files that repeat kernel modules and sysctls at boot; an empty list or map removes the file."""
    name, files = params["name"], []
    modules, sysctls = params.get("kernel_modules"), params.get("sysctls")
    if modules is not None:
        path = f"/etc/modules-load.d/multinic-{name}.conf"
        wanted = [module_name(module) for module in modules]
        files.append({"path": path, "content": modules_file(wanted), "state": "present" if wanted else "absent"})
    if sysctls is not None:
        path, old = sysctls_paths(name)
        files.append({"path": path, "content": sysctls_file(sysctls), "state": "present" if sysctls else "absent"})
        files.append({"path": old, "state": "absent"})
    return files


def sysctls_before(kept: Mapping[str, str], found: Mapping[str, Optional[str]], keys: Iterable[str]) -> dict[str, str]:
    """Kernel parameters with the values that they had before any was set: what is kept already, and what comes new."""
    fresh = {key: sysctl_value(found[key]) for key in keys if found.get(key) is not None}
    return {**fresh, **kept}


# ---------------------------------------------------------------------------------------------------------------------
# what the shell has to look at
# ---------------------------------------------------------------------------------------------------------------------


def text_paths(params: Mapping[str, Any]) -> list[str]:
    """Paths whose content must be read, however large."""
    paths = [entry["path"] for key in ("blocks", "absent_lines") for entry in params.get(key) or []]
    paths += [entry["path"] for entry in boot_files(params)]
    paths += [entry["path"] for entry in params.get("files") or [] if entry.get("content") is not None]
    if params.get("swap") is False:
        paths.append(FSTAB)
    return list(dict.fromkeys(paths))


def other_paths(params: Mapping[str, Any]) -> list[str]:
    """Paths of which kind, attributes and digest are enough."""
    paths = [entry["path"] for key in ("directories", "files", "links") for entry in params.get(key) or []]
    paths += [entry["source"] for entry in params.get("files") or [] if entry.get("source")]
    paths += [entry["path"] + SAVED for entry in params.get("files") or [] if entry.get("backup")]
    paths += [target for entry in params.get("links") or [] for target in entry.get("targets") or []]
    paths += [
        entry["if_exists"] for key in ("files", "blocks") for entry in params.get(key) or [] if entry.get("if_exists")
    ]
    return [path for path in dict.fromkeys(paths) if path not in set(text_paths(params))]


def pairs(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each file that is taken from another file of the host, with that source."""
    return [(entry["path"], entry["source"]) for entry in params.get("files") or [] if entry.get("source")]


def needs_digests(found: FoundPath, source: FoundPath) -> bool:
    """Whether only the contents can tell if two files are equal: hard links and different sizes need no reading."""
    both = found.kind == source.kind == "file"
    return both and found.identity != source.identity and found.size == source.size


def watched_units(params: Mapping[str, Any], pending: Iterable[str] = ()) -> list[str]:
    names = [unit_name(unit["name"]) for unit in params.get("units") or []]
    names += [
        unit_name(unit)
        for key in ("files", "blocks")
        for entry in params.get(key) or []
        for unit in [*(entry.get("restart") or []), *(entry.get("reload") or [])]
    ]
    if params.get("swap") is False:
        names.append(SWAP_TARGET)
    return list(dict.fromkeys([*names, *(unit_name(unit) for unit in pending)]))


def check_desired(params: Mapping[str, Any]) -> None:
    """All contradictions of the wish itself, at once."""
    problems = []
    name = params["name"]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        problems.append(f"name {name!r} may hold only letters, digits, '_', '.' and '-': it becomes part of file names")
    seen: dict[str, str] = {}
    for key in ("directories", "files", "links"):
        for index, entry in enumerate(params.get(key) or []):
            where = f"{key}[{index}] {entry['path']}"
            if not entry["path"].startswith("/"):
                problems.append(f"{where}: the path must be absolute")
            if entry["path"] in seen:
                problems.append(f"{where}: the path is already named by {seen[entry['path']]}")
            seen[entry["path"]] = where
            if key == "files" and entry.get("state", "present") == "present":
                given = [option for option in ("content", "source") if entry.get(option) is not None]
                if len(given) != 1:
                    problems.append(f"{where}: give exactly one of content and source, found {given or 'none'}")
            if key == "links" and bool(entry.get("target")) == bool(entry.get("targets")):
                problems.append(f"{where}: give exactly one of target and targets")
            if entry.get("validate") and "%s" not in entry["validate"]:
                problems.append(f"{where}: validate must hold %s, where the file's path is put")
    edited = [entry["path"] for key in ("blocks", "absent_lines") for entry in params.get(key) or []]
    for path in dict.fromkeys(edited):
        if path in seen:
            problems.append(
                f"{path}: {seen[path]} owns the whole file, so no block or line of it can be managed as well"
            )
    for entry in params.get("files") or []:
        if entry.get("hard_link") and not entry.get("source"):
            problems.append(f"files {entry['path']}: hard_link needs source")
    if problems:
        raise StateError("; ".join(problems))


# ---------------------------------------------------------------------------------------------------------------------
# the plan
# ---------------------------------------------------------------------------------------------------------------------


class _Planner:
    def __init__(self, params: Mapping[str, Any], found: Found, check_mode: bool) -> None:
        self.params = params
        self.found = found
        self.check_mode = check_mode
        self.plan = Plan()
        self.state_before: list[str] = []
        self.state_after: list[str] = []
        self.restart_because: dict[str, str] = {unit_name(unit): "" for unit in found.pending_restarts}
        self.unit_reload_because: dict[str, str] = {unit_name(unit): "" for unit in found.pending_reloads}
        self.reload_because: list[str] = []

    def entries(self, key: str) -> list[dict[str, Any]]:
        return list(self.params.get(key) or [])

    def applying(self, key: str) -> list[dict[str, Any]]:
        """The entries whose condition holds."""
        return [
            entry
            for entry in self.entries(key)
            if not entry.get("if_exists") or self.at(entry["if_exists"]).kind != "absent"
        ]

    def at(self, path: str) -> FoundPath:
        return self.found.paths.get(path, ABSENT)

    def note(self, sentence: str, before: str = "", after: str = "") -> None:
        self.plan.changes.append(sentence)
        if before or after:
            self.state_before.append(before)
            self.state_after.append(after)

    # -- kernel --

    def modules(self) -> None:
        for name in self.params.get("kernel_modules") or []:
            name = module_name(name)
            if name not in self.found.modules and name not in self.plan.load_modules:
                self.plan.load_modules.append(name)
                self.note(
                    f"load kernel module {name}", f"kernel module {name}: absent", f"kernel module {name}: loaded"
                )

    def sysctls(self) -> None:
        for key, value in (self.params.get("sysctls") or {}).items():
            wanted = sysctl_value(value)
            now = self.found.sysctls.get(key)
            if now is None or sysctl_value(now) != wanted:
                self.plan.set_sysctls.append((key, wanted))
                shown = "absent" if now is None else sysctl_value(now)
                self.note(
                    f"set sysctl {key} = {wanted} (was {shown})", f"sysctl {key} = {shown}", f"sysctl {key} = {wanted}"
                )

    def swap(self) -> None:
        if self.params.get("swap") is not False or not self.found.swaps:
            return
        self.plan.swap_off = True
        for device in self.found.swaps:
            self.note(f"turn swap off on {device}", f"swap {device}: on", f"swap {device}: off")

    # -- paths --

    def attribute_changes(self, entry: Mapping[str, Any], found: FoundPath) -> list[str]:
        changes = []
        if entry.get("mode") is not None:
            mode = parse_mode(entry["mode"], entry["path"])
            if found.kind not in ("absent", "link") and found.mode != mode:
                changes.append(f"mode {found.mode:04o} to {mode:04o}")
        for option, numeric, name in (("owner", found.uid, found.owner), ("group", found.gid, found.group)):
            wanted = entry.get(option)
            if wanted is not None and found.kind != "absent" and str(wanted) not in (name, str(numeric)):
                changes.append(f"{option} {name or numeric} to {wanted}")
        return changes

    def write(self, action: str, entry: Mapping[str, Any], **more: Any) -> None:
        mode = entry.get("mode")
        self.plan.writes.append(
            Write(
                action=action,
                path=entry["path"],
                mode=None if mode is None else parse_mode(mode, entry["path"]),
                owner=entry.get("owner"),
                group=entry.get("group"),
                **more,
            )
        )

    def show(self, path: str, before: str, after: str) -> None:
        self.plan.diff.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def directories(self) -> None:
        for entry in self.entries("directories"):
            path, found = entry["path"], self.at(entry["path"])
            if found.kind == "absent":
                self.write("directory", entry)
                self.note(f"create directory {path}", f"directory {path}: absent", f"directory {path}: present")
            elif found.kind != "directory":
                raise StateError(
                    f"directories: {path} is a {found.kind}, not a directory. Move it away, then run again."
                )
            else:
                self.attributes(entry, found)

    def attributes(self, entry: Mapping[str, Any], found: FoundPath) -> bool:
        differing = self.attribute_changes(entry, found)
        if differing:
            self.write("attributes", entry)
            sentence = f"change {', '.join(differing)} of {entry['path']}"
            self.note(sentence, f"{entry['path']}: as found", f"{entry['path']}: {', '.join(differing)}")
        return bool(differing)

    def file_changed(self, path: str, restart: Iterable[str] = (), reload: Iterable[str] = ()) -> None:
        for unit in restart:
            self.restart_because.setdefault(unit_name(unit), path)
        for unit in reload:
            self.unit_reload_because.setdefault(unit_name(unit), path)
        if path.startswith(UNIT_FILE_FOLDERS) and unit_of(path):
            self.plan.changed_units.append(unit_of(path))
        elif path.startswith(UNIT_FILE_FOLDERS) or path == FSTAB:
            self.reload_because.append(path)

    def same(self, entry: Mapping[str, Any], found: FoundPath) -> bool:
        if found.kind != "file":
            return False
        if entry.get("source"):
            source = self.at(entry["source"])
            if source.kind == "absent":
                return False
            return source.identity == found.identity or (bool(source.digest) and source.digest == found.digest)
        return found.content == str(entry["content"]).encode()

    def files(self) -> None:
        for entry in [*boot_files(self.params), *self.applying("files")]:
            path, found = entry["path"], self.at(entry["path"])
            restart, reload = entry.get("restart") or [], entry.get("reload") or []
            if found.kind in ("directory", "other"):
                raise StateError(f"files: {path} is a {found.kind}, not a file. Move it away, then run again.")
            if entry.get("state") == "absent":
                if found.kind != "absent":
                    self.write("remove", {"path": path})
                    self.note(f"remove {path}")
                    self.show(path, shown_content(found, bool(entry.get("sensitive"))), "")
                    self.file_changed(path, restart, reload)
                continue
            entry = {"mode": "0644", **{key: value for key, value in entry.items() if value is not None}}
            source = self.source_of(entry)
            if self.same(entry, found):
                if self.attributes(entry, found):
                    self.file_changed(path, restart, reload)
                continue
            sensitive = bool(entry.get("sensitive"))
            content = None if entry.get("source") else str(entry["content"]).encode()
            if entry.get("backup"):
                self.save(path, found)
            self.write(
                "file",
                entry,
                content=content,
                source=entry.get("source") or "",
                hard_link=bool(entry.get("hard_link")),
                validate=entry.get("validate") or "",
            )
            self.note(f"{'create' if found.kind == 'absent' else 'change'} {path}")
            after = source if content is None else FoundPath("file", content=content)
            self.show(path, shown_content(found, sensitive), shown_content(after, sensitive, entry.get("source") or ""))
            self.file_changed(path, restart, reload)

    def save(self, path: str, found: FoundPath) -> None:
        """Keep what somebody else wrote, the first time that it is replaced."""
        saved = path + SAVED
        if found.kind == "file" and OURS.encode() not in (found.content or b"") and self.at(saved).kind == "absent":
            self.plan.writes.append(Write("save", path, target=saved))
            self.note(f"keep the file found at {path} as {saved}", f"{saved}: absent", f"{saved}: what {path} was")

    def source_of(self, entry: Mapping[str, Any]) -> FoundPath:
        if not entry.get("source"):
            return ABSENT
        source = self.at(entry["source"])
        if source.kind == "absent" and self.check_mode:
            return source
        if source.kind != "file":
            raise StateError(
                f"files: {entry['path']}: its source {entry['source']} is {source.kind} on this host, not a file. "
                "Was the bundle unpacked here?"
            )
        return source

    def links(self) -> None:
        for entry in self.entries("links"):
            path, found, target = entry["path"], self.at(entry["path"]), self.target_of(entry)
            if not target or (found.kind == "link" and found.target == target):
                continue
            if found.kind != "absent" and entry.get("keep_existing"):
                continue
            if found.kind == "directory":
                raise StateError(f"links: {path} is a directory, not a link. Move it away, then run again.")
            self.plan.writes.append(Write("link", path, target=target))
            before = f"link {path} -> {found.target}" if found.kind == "link" else f"{path}: {found.kind}"
            self.note(f"link {path} to {target}", before, f"link {path} -> {target}")
            self.file_changed(path)

    def target_of(self, entry: Mapping[str, Any]) -> str:
        """What the link has to lead to; empty if nothing of it is there. In check mode the first may yet be brought."""
        if entry.get("target"):
            return str(entry["target"])
        there = [target for target in entry["targets"] if self.at(target).kind != "absent"]
        return str((there or entry["targets"][:1])[0]) if there or self.check_mode else ""

    def edits(self) -> None:
        """Blocks, absent lines and fstab: several wishes may meet in one file, which is written once."""
        texts: dict[str, str] = {}

        def text_of(path: str) -> str:
            if path not in texts:
                found = self.at(path)
                if found.kind not in ("absent", "file"):
                    raise StateError(f"{path} is a {found.kind}, not a file: a block or line of it cannot be managed")
                texts[path] = (found.content or b"").decode("utf-8", "surrogateescape")
            return texts[path]

        restarts: dict[str, list[str]] = {}
        for entry in self.applying("blocks"):
            path, marker = entry["path"], entry.get("marker") or "multinic"
            restarts.setdefault(path, []).extend(entry.get("restart") or [])
            texts[path] = with_block(text_of(path), entry.get("content") or "", marker, self.params["name"], path)
        for entry in self.entries("absent_lines"):
            texts[entry["path"]] = without_lines(text_of(entry["path"]), entry["regexp"], entry["path"])
        if self.params.get("swap") is False:
            texts[FSTAB] = without_swap(text_of(FSTAB))
        for path, text in texts.items():
            found, content = self.at(path), text.encode("utf-8", "surrogateescape")
            if content == (found.content or b""):
                continue
            fresh = found.kind == "absent"
            self.plan.writes.append(
                Write("file", path, content=content, mode=0o644 if fresh else None, keep_attributes=not fresh)
            )
            self.note(f"{'create' if fresh else 'edit'} {path}")
            self.show(path, shown_content(found, False), shown_content(FoundPath("file", content=content), False))
            self.file_changed(path, restarts.get(path, ()))

    # -- units --

    def units(self) -> None:
        actions: dict[str, list[str]] = {"unmask": [], "mask": [], "enable": [], "disable": [], "stop": [], "start": []}
        wished: dict[str, Mapping[str, Any]] = {unit_name(entry["name"]): entry for entry in self.entries("units")}
        if self.params.get("swap") is False:
            # Swap may come from zram-generator or a partition's type too: fstab is not all that is read at boot.
            wished = {SWAP_TARGET: {"masked": True}, **wished}
        for name, entry in wished.items():
            now = self.found.units.get(name, FoundUnit())
            done = []
            if entry.get("masked") is True and now.file_state not in MASKED_STATES:
                done.append("mask")
            if entry.get("masked") is False and now.file_state in MASKED_STATES:
                done.append("unmask")
            if entry.get("enabled") is True and now.file_state not in ENABLED_STATES:
                done.append("enable")
            if entry.get("enabled") is False and now.file_state in DISABLE_STATES:
                done.append("disable")
            restarted = now.active in RUNNING_STATES and name in self.restart_because
            if entry.get("state") == "started" and not now.runs and not restarted:
                done.append("start")
            if entry.get("state") == "stopped" and now.active in RUNNING_STATES:
                done.append("stop")
            for verb in done:
                actions[verb].append(name)
                self.note(
                    f"{verb} {name}", f"unit {name}: {now.file_state or now.load}, {now.active}", f"unit {name}: {verb}"
                )
        for name, because in self.restart_because.items():
            active = self.found.units.get(name, FoundUnit()).active
            if active not in RUNNING_STATES or name in actions["stop"]:
                continue
            self.plan.restarts.append(name)
            reason = f"{because} changed" if because else "an earlier run changed its files and was stopped"
            self.note(f"restart {name} ({reason})", f"unit {name}: runs with the old files", f"unit {name}: restart")
        self.unit_reloads(actions["stop"])
        order = list(wished)
        self.plan.restarts.sort(key=lambda unit: order.index(unit) if unit in order else len(order))
        self.plan.systemctl = [(verb, names) for verb, names in actions.items() if names]
        stale = [name for name, unit in self.found.units.items() if unit.need_reload]
        self.plan.daemon_reload = bool(self.reload_because or stale)
        if stale and not self.reload_because and not self.plan.changed_units:
            self.note(f"reload systemd: the files of {', '.join(stale)} are newer than what it has read")

    def unit_reloads(self, stopped: Iterable[str]) -> None:
        """A unit that runs reads its changed files again; one that is restarted anyway does so by that."""
        for name, path in self.unit_reload_because.items():
            active = self.found.units.get(name, FoundUnit()).active
            if active not in RUNNING_STATES or name in stopped or name in self.plan.restarts:
                continue
            self.plan.reloads.append(name)
            reason = f"{path} changed" if path else "an earlier run changed its files and was stopped"
            self.note(f"reload {name} ({reason})", f"unit {name}: runs with the old files", f"unit {name}: reload")

    def finished(self) -> Plan:
        if self.state_before:
            header = "host state"
            before, after = ("".join(f"{line}\n" for line in lines) for lines in (self.state_before, self.state_after))
            self.plan.diff.append({"before_header": header, "after_header": header, "before": before, "after": after})
        return self.plan


def shown_content(found: FoundPath, sensitive: bool, source: str = "") -> str:
    """A file as the diff shows it: text as it is, everything else described."""
    if found.kind == "link":
        return f"(link to {found.target})\n"
    if found.kind != "file":
        return f"(from {source} of the host)\n" if source else ""
    if sensitive:
        return HIDDEN
    if found.content is not None and b"\0" not in found.content:
        return found.content.decode("utf-8", "replace")
    digest = f", sha256 {found.digest}" if found.digest else ""
    return f"(binary, {found.size} bytes{digest})\n"


def plan(params: Mapping[str, Any], found: Found, check_mode: bool = False) -> Plan:
    """All that has to change on the host; empty `changes` means it is as desired."""
    check_desired(params)
    planner = _Planner(params, found, check_mode)
    planner.modules()
    planner.sysctls()
    planner.swap()
    planner.directories()
    planner.files()
    planner.links()
    planner.edits()
    planner.units()
    return planner.finished()


def redacted(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as they may be logged."""
    shown = dict(params)
    shown["files"] = [
        {**entry, "content": HIDDEN.strip()} if entry.get("sensitive") and entry.get("content") is not None else entry
        for entry in params.get("files") or []
    ]
    return shown
