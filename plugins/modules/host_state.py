#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_state
short_description: Brings kernel modules, sysctls, swap, files and units of a host into one desired state
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - One call describes a whole part of a host. The module reads the host once, works out what differs, and changes only that.
  - The order is fixed. Kernel modules, sysctls, swap, directories, files, links, blocks and lines, then units.
  - Files are written beside their place and renamed over it, so that no reader ever sees half a file. All files that
    have O(files[].validate) are validated before the first one is put in place.
  - What kernel parameters were before they were first set is kept in C(/var/lib/multinic/sysctls-before.json), for the day
    that the host leaves its cluster.
  - Restarts and reloads that an interrupted run owed are remembered in C(/run/multinic) and made up for by the next run.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
    details:
      - Kernel modules, sources and units that an earlier task would have brought are predicted, not missed.
      - O(files[].validate) is not run, because what it needs may not be installed yet.
  diff_mode:
    support: full
options:
  name:
    description: Names the files and the managed block of this part of the host, as in C(/etc/sysctl.d/99-zz-multinic-NAME.conf).
    type: str
    required: true
  kernel_modules:
    description: Kernel modules to load now and at every boot. An empty list removes the boot file.
    type: list
    elements: str
  sysctls:
    description:
      - Kernel parameters to set now and at every boot. An empty dictionary removes the boot file.
      - The file comes after C(99-sysctl.conf), Debian's link to C(/etc/sysctl.conf), so these values are the ones that hold.
    type: dict
  swap:
    description:
      - V(false) turns all swap off, comments its lines in C(/etc/fstab), and masks C(swap.target), so that no other source
        of swap, such as zram-generator, brings it back at boot.
      - V(true) leaves swap alone.
    type: bool
    default: true
  directories:
    description: Directories to create, with their missing parents.
    type: list
    elements: dict
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      mode:
        description: Octal permissions in quotes.
        type: str
        default: "0755"
      owner:
        description: Name or number of the owner.
        type: str
      group:
        description: Name or number of the group.
        type: str
  files:
    description: Whole files.
    type: list
    elements: dict
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: What the file holds. Exactly one of O(files[].content) and O(files[].source) is needed.
        type: str
      source:
        description: A file on the host whose content is taken.
        type: path
      hard_link:
        description:
          - Make the file a hard link to O(files[].source) where both lie on one file system, which costs no time and no space.
          - Meant for large files that are only ever replaced, never written into. Owner and permissions are shared.
        type: bool
        default: false
      mode:
        description: Octal permissions in quotes.
        type: str
        default: "0644"
      owner:
        description: Name or number of the owner.
        type: str
      group:
        description: Name or number of the group.
        type: str
      state:
        description: Whether the file is there.
        type: str
        choices: [present, absent]
        default: present
      validate:
        description: Command that must succeed before the file is put in place; V(%s) stands for the new file. No shell is involved.
        type: str
      restart:
        description: Units that are restarted once, at the end, when this file changed and they are running.
        type: list
        elements: str
        default: []
      reload:
        description:
          - Units that are reloaded once, at the end, when this file changed and they are running. One that is restarted
            as well is only restarted.
        type: list
        elements: str
        default: []
      sensitive:
        description: Keep the content out of the result, the diff and the log.
        type: bool
        default: false
      backup:
        description:
          - Keep a file that is replaced, and that this collection did not write, beside it as C(PATH.multinic-saved).
          - Only once; what is kept is never overwritten.
        type: bool
        default: false
      if_exists:
        description: The file is of interest only where this path exists.
        type: path
  links:
    description: Symbolic links.
    type: list
    elements: dict
    suboptions:
      path:
        description: Absolute path of the link.
        type: path
        required: true
      target:
        description: What it points to. Exactly one of O(links[].target) and O(links[].targets) is needed.
        type: str
      targets:
        description:
          - Absolute paths; it points to the first that exists. If none does there is no link.
          - In check mode the first is foretold then, because an earlier task may have to bring it yet.
        type: list
        elements: path
      keep_existing:
        description: Leave whatever else already lies at O(links[].path), such as a file that somebody else put there later.
        type: bool
        default: false
  blocks:
    description: Managed blocks in files that belong to others, such as C(/etc/hosts).
    type: list
    elements: dict
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The lines of the block. Empty removes the block.
        type: str
        required: true
      marker:
        description: The block stands between C(# BEGIN MARKER NAME) and C(# END MARKER NAME).
        type: str
        default: multinic
      restart:
        description: Units that are restarted once, at the end, when this block changed and they are running.
        type: list
        elements: str
        default: []
      if_exists:
        description: The block is of interest only where this path exists.
        type: path
  absent_lines:
    description: Lines to remove from files of others. Lines inside managed blocks are never removed.
    type: list
    elements: dict
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      regexp:
        description: Python regular expression, searched for in each line.
        type: str
        required: true
  units:
    description: Units of systemd. Its configuration is reloaded first when a unit file changed.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the unit; C(.service) may be left out.
        type: str
        required: true
      enabled:
        description: Whether it starts at boot. Left alone when not given.
        type: bool
      state:
        description: Whether it runs now; one that fails and only waits for its next try does not. Left alone when not given.
        type: str
        choices: [started, stopped]
      masked:
        description: Whether it is masked. Left alone when not given.
        type: bool
"""

EXAMPLES = r"""
- name: The host forwards packets between pods
  multinic.kubernetes.host_state:
    name: node
    kernel_modules: [overlay, br_netfilter]
    sysctls:
      net.ipv4.ip_forward: "1"
      net.bridge.bridge-nf-call-iptables: "1"
    swap: false

- name: The host knows its peers by name and keeps time
  multinic.kubernetes.host_state:
    name: peers
    blocks:
      - path: /etc/hosts
        content: |
          192.168.253.129 master1
          192.168.253.131 node01
    absent_lines:
      - path: /etc/hosts
        regexp: '^127\.0\.1\.1\s'
    files:
      - path: /etc/chrony/chrony.conf
        content: |
          server 192.168.253.129 iburst
        restart: [chrony]
    units:
      - name: chrony
        enabled: true
        state: started
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be changed, one sentence each, in order.
  returned: success
  type: list
  elements: str
  sample: ["load kernel module br_netfilter", "set sysctl net.ipv4.ip_forward = 1 (was 0)", "start chrony.service"]
restarted:
  description: Units that were restarted because one of their files changed.
  returned: success
  type: list
  elements: str
  sample: ["chrony.service"]
reloaded:
  description: Units that were reloaded because one of their files changed.
  returned: success
  type: list
  elements: str
  sample: ["multinic-apiserver-balancer.service"]
"""

import contextlib
import dataclasses
import errno
import grp
import hashlib
import json
import os
import platform
import pwd
import shlex
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _host_state as core

READ_LIMIT = 64 * 1024
PENDING_FOLDER = Path("/run/multinic")
SYSCTLS = Path("/proc/sys")
SYSCTLS_BEFORE = Path(core.SYSCTLS_BEFORE)
UNIT_PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload")

ATTRIBUTES: dict[str, Any] = {"owner": {"type": "str"}, "group": {"type": "str"}}
ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "kernel_modules": {"type": "list", "elements": "str"},
    "sysctls": {"type": "dict"},
    "swap": {"type": "bool", "default": True},
    "directories": {
        "type": "list",
        "elements": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            "mode": {"type": "str", "default": "0755"},
            **ATTRIBUTES,
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            "content": {"type": "str"},
            "source": {"type": "path"},
            "hard_link": {"type": "bool", "default": False},
            "mode": {"type": "str", "default": "0644"},
            **ATTRIBUTES,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "validate": {"type": "str"},
            "restart": {"type": "list", "elements": "str", "default": []},
            "reload": {"type": "list", "elements": "str", "default": []},
            "sensitive": {"type": "bool", "default": False},
            "backup": {"type": "bool", "default": False},
            "if_exists": {"type": "path"},
        },
    },
    "links": {
        "type": "list",
        "elements": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            "target": {"type": "str"},
            "targets": {"type": "list", "elements": "path"},
            "keep_existing": {"type": "bool", "default": False},
        },
    },
    "blocks": {
        "type": "list",
        "elements": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "marker": {"type": "str", "default": "multinic"},
            "restart": {"type": "list", "elements": "str", "default": []},
            "if_exists": {"type": "path"},
        },
    },
    "absent_lines": {
        "type": "list",
        "elements": "dict",
        "options": {"path": {"type": "path", "required": True}, "regexp": {"type": "str", "required": True}},
    },
    "units": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "enabled": {"type": "bool"},
            "state": {"type": "str", "choices": ["started", "stopped"]},
            "masked": {"type": "bool"},
        },
    },
}


class Host:
    """Reads and changes this host; every decision comes from the plan."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = dict(module.params)
        self.pending_path = PENDING_FOLDER / f"restart-{self.params['name']}.json"
        self.pending_reload_path = PENDING_FOLDER / f"reload-{self.params['name']}.json"
        self.staged: list[Path] = []

    def fail(self, message: str) -> NoReturn:
        self.discard()
        self.module.fail_json(msg=message, invocation={"module_args": core.redacted(self.params)})
        raise AssertionError("fail_json returned")

    def run(self, *command: str) -> tuple[int, str, str]:
        program = self.module.get_bin_path(command[0], opt_dirs=["/sbin", "/usr/sbin"])
        if program is None:
            return 127, "", f"{command[0]} is not installed"
        rc, out, err = self.module.run_command([program, *command[1:]])
        return int(rc), str(out), str(err)

    # -- reading --

    def observe(self) -> core.Found:
        pending, pending_reloads = self.pending(self.pending_path), self.pending(self.pending_reload_path)
        for key in ("blocks", "absent_lines"):
            for entry in self.params.get(key) or []:
                entry["path"] = str(Path(entry["path"]).resolve())
        paths = {path: self.look(path, whole=True) for path in core.text_paths(self.params)}
        paths.update({path: self.look(path) for path in core.other_paths(self.params)})
        for path, source in core.pairs(self.params):
            if core.needs_digests(paths[path], paths[source]):
                paths[path], paths[source] = with_digest(path, paths[path]), with_digest(source, paths[source])
        return core.Found(
            modules=self.loaded_modules(),
            sysctls={key: self.sysctl(key) for key in self.params["sysctls"] or {}},
            swaps=self.swaps() if self.params["swap"] is False else (),
            paths=paths,
            units=self.look_at_units(core.watched_units(self.params, (*pending, *pending_reloads))),
            pending_restarts=pending,
            pending_reloads=pending_reloads,
        )

    def pending(self, path: Path) -> tuple[str, ...]:
        try:
            return tuple(str(unit) for unit in json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return ()

    def loaded_modules(self) -> frozenset[str]:
        if not self.params["kernel_modules"]:
            return frozenset()
        folder, built_in = Path("/sys/module"), Path(f"/lib/modules/{platform.release()}/modules.builtin")
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        if built_in.is_file():
            lines = built_in.read_text(encoding="utf-8").split()
            names.update(core.module_name(Path(line).name.split(".", 1)[0]) for line in lines)
        return frozenset(names)

    def sysctl(self, key: str) -> Optional[str]:
        try:
            return (SYSCTLS / core.sysctl_path(key)).read_text(encoding="utf-8")
        except OSError:
            return None

    def swaps(self) -> tuple[str, ...]:
        try:
            lines = Path("/proc/swaps").read_text(encoding="utf-8").splitlines()
            return tuple(line.split()[0] for line in lines[1:] if line.split())
        except OSError:
            return ()

    def look(self, path: str, whole: bool = False) -> core.FoundPath:
        try:
            found = Path(path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return core.ABSENT
        kind, target = "other", ""
        content: Optional[bytes] = None
        if stat.S_ISLNK(found.st_mode):
            kind, target = "link", str(Path(path).readlink())
        elif stat.S_ISDIR(found.st_mode):
            kind = "directory"
        elif stat.S_ISREG(found.st_mode):
            kind = "file"
            if whole or found.st_size <= READ_LIMIT:
                content = Path(path).read_bytes()
        return core.FoundPath(
            kind=kind,
            mode=stat.S_IMODE(found.st_mode),
            owner=account_name(found.st_uid),
            group=group_name(found.st_gid),
            uid=found.st_uid,
            gid=found.st_gid,
            content=content,
            size=found.st_size,
            identity=(found.st_dev, found.st_ino),
            target=target,
        )

    def look_at_units(self, names: list[str]) -> dict[str, core.FoundUnit]:
        if not names:
            return {}
        for _try in range(3):  # a busy host was seen to answer nothing, without an error
            rc, out, err = self.run("systemctl", "show", "--property", ",".join(UNIT_PROPERTIES), "--", *names)
            blocks = [
                dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in out.split("\n\n")
            ]
            blocks = [block for block in blocks if block]
            if len(blocks) == len(names) or self.module.check_mode:
                break
            time.sleep(0.5)
        if len(blocks) != len(names):
            if self.module.check_mode:
                return {}
            self.fail(f"systemctl show {' '.join(names)} told of {len(blocks)} units (rc {rc}): {err.strip()}")
        return {
            name: core.FoundUnit(
                load=block.get("LoadState", ""),
                active=block.get("ActiveState", ""),
                sub=block.get("SubState", ""),
                file_state=block.get("UnitFileState", ""),
                need_reload=block.get("NeedDaemonReload") == "yes",
            )
            for name, block in zip(names, blocks)
        }

    # -- changing --

    def apply(self, plan: core.Plan) -> None:
        self.load_modules(plan.load_modules)
        self.set_sysctls(plan.set_sysctls)
        if plan.swap_off:
            rc, _out, err = self.run("swapoff", "--all")
            if rc != 0:
                self.fail(f"swapoff --all failed (rc {rc}): {err.strip()}. Free some memory, or turn swap off by hand.")
        self.remember(self.pending_path, plan.restarts)
        self.remember(self.pending_reload_path, plan.reloads)
        self.write_all(plan.writes)
        found = self.look_at_units(list(dict.fromkeys(plan.changed_units)))
        if plan.daemon_reload or any(unit.need_reload for unit in found.values()):
            self.systemctl("daemon-reload", [])
        for verb, names in plan.systemctl:
            self.systemctl(verb, names)
        if plan.restarts:
            self.systemctl("restart", plan.restarts)
        if plan.reloads:
            self.systemctl("try-reload-or-restart", plan.reloads)
        for path in (self.pending_path, self.pending_reload_path):
            path.unlink(missing_ok=True)

    def load_modules(self, names: list[str]) -> None:
        problems = []
        for name in names:
            rc, _out, err = self.run("modprobe", name)
            if rc != 0:
                problems.append(f"{name} ({err.strip()})")
        if problems:
            self.fail(
                f"kernel modules could not be loaded on kernel {platform.release()}: {'; '.join(problems)}. Install the "
                "package that holds this kernel's modules, or reboot if the kernel was upgraded since the last boot."
            )

    def keep_sysctls(self, keys: list[str]) -> None:
        """Remember what they were before us, for the day that the host leaves its cluster."""
        path = SYSCTLS_BEFORE
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        before = core.sysctls_before(kept, {key: self.sysctl(key) for key in keys}, keys)
        if before != kept:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(before, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            new.replace(path)

    def set_sysctls(self, values: list[tuple[str, str]]) -> None:
        self.keep_sysctls([key for key, _value in values])
        problems = []
        for key, value in values:
            try:
                (SYSCTLS / core.sysctl_path(key)).write_text(f"{value}\n", encoding="utf-8")
            except FileNotFoundError:
                problems.append(f"{key} does not exist (is a kernel module missing?)")
            except OSError as exc:
                problems.append(f"{key} = {value} was refused: {exc.strerror}")
        if problems:
            self.fail(f"sysctls could not be set: {'; '.join(problems)}")

    def remember(self, path: Path, units: list[str]) -> None:
        if not units:
            return
        PENDING_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(units), encoding="utf-8")
        new.replace(path)

    def write_all(self, writes: list[core.Write]) -> None:
        for write in writes:
            if write.action == "directory":
                Path(write.path).mkdir(parents=True, exist_ok=True)
                self.module.set_default_selinux_context(write.path, False)
                self.set_attributes(Path(write.path), write)
        staged: dict[int, Path] = {}
        for index, write in enumerate(writes):
            if write.action == "file":
                staged[index] = self.stage(write)
                if write.validate:
                    self.validate(write, staged[index])
        for index, write in enumerate(writes):
            if write.action == "save":
                self.save(Path(write.path), Path(write.target))
            elif write.action == "file":
                self.put(staged[index], Path(write.path))
            elif write.action == "link":
                self.link(write)
            elif write.action == "remove":
                Path(write.path).unlink()
            elif write.action == "attributes":
                self.set_attributes(Path(write.path), write)
        for folder in dict.fromkeys(Path(write.path).parent for write in writes):
            self.settle(folder)

    @staticmethod
    def settle(folder: Path) -> None:
        """A name is on the disk only when its folder is."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def save(self, path: Path, saved: Path) -> None:
        """The old file itself gets a second name, so it keeps owner, mode and times; its first name is given anew."""
        try:
            os.link(path, saved, follow_symlinks=False)
        except OSError:
            shutil.copy2(path, saved)

    def stage(self, write: core.Write) -> Path:
        """The new file, complete, beside its place; hidden by its leading dot from whoever reads the folder."""
        path = Path(write.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".multinic-*-{path.name}"):
            leftover.unlink()  # of a run that was killed
        handle, name = tempfile.mkstemp(prefix=".multinic-", suffix=f"-{path.name}", dir=path.parent)
        new = Path(name)
        self.staged.append(new)
        with os.fdopen(handle, "wb") as stream:
            if write.hard_link and self.hard_link(write.source, new):
                pass
            elif write.source:
                with Path(write.source).open("rb") as origin:
                    shutil.copyfileobj(origin, stream, 1024 * 1024)
            else:
                stream.write(write.content or b"")
            stream.flush()
            os.fsync(stream.fileno())
        if write.keep_attributes:
            old = path.stat()
            os.chown(new, old.st_uid, old.st_gid)
            new.chmod(stat.S_IMODE(old.st_mode))
        else:
            self.set_attributes(new, write)
        return new

    def hard_link(self, source: str, new: Path) -> bool:
        """Put a hard link in the place of the empty temporary file; false where the file system does not allow it."""
        link = Path(f"{new}.link")
        try:
            os.link(source, link)
        except OSError:
            return False
        link.replace(new)
        return True

    def validate(self, write: core.Write, new: Path) -> None:
        command = [part.replace("%s", str(new)) for part in shlex.split(write.validate)]
        rc, out, err = self.run(*command)
        if rc != 0:
            self.fail(f"{write.path} was not written: '{write.validate}' refused it (rc {rc}): {(err or out).strip()}")

    def put(self, new: Path, path: Path) -> None:
        self.module.set_default_selinux_context(str(new), False)
        try:
            new.replace(path)
        except OSError as exc:
            if exc.errno != errno.EBUSY:  # a mount point, such as a container's /etc/hosts, can only be written into
                raise
            shutil.copyfile(new, path)
            new.unlink()
        self.staged.remove(new)

    def link(self, write: core.Write) -> None:
        path = Path(write.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".multinic-{os.getpid()}-{path.name}")
        new.unlink(missing_ok=True)
        new.symlink_to(write.target)
        new.replace(path)

    def set_attributes(self, path: Path, write: core.Write) -> None:
        uid = -1 if write.owner is None else self.account(write.owner)
        gid = -1 if write.group is None else self.group(write.group)
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid)
        if write.mode is not None:
            path.chmod(write.mode)

    def account(self, name: str) -> int:
        if name.isdigit():
            return int(name)
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            self.fail(f"there is no user {name} on this host")

    def group(self, name: str) -> int:
        if name.isdigit():
            return int(name)
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            self.fail(f"there is no group {name} on this host")

    def systemctl(self, verb: str, names: list[str]) -> None:
        # What enable and disable change is read at boot. Without this option each would reload all of systemd.
        options = ["--no-reload"] if verb in ("enable", "disable") else []
        rc, out, err = self.run("systemctl", *options, verb, *names)
        if rc == 0:
            return
        message = f"systemctl {verb} {' '.join(names)} failed (rc {rc}): {(err or out).strip()}"
        for name in names:
            log = self.run("journalctl", "--no-pager", "--output", "cat", "--lines", "15", "--unit", name)[1]
            if log.strip():
                message += f"\nthe last lines of {name}:\n{log.rstrip()}"
        self.fail(message)

    def discard(self) -> None:
        for path in self.staged:
            with contextlib.suppress(OSError):
                path.unlink()
        self.staged = []


def with_digest(path: str, found: core.FoundPath) -> core.FoundPath:
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        for chunk in iter(lambda: stream.read(1024 * 1024), b""):
            digest.update(chunk)
    return dataclasses.replace(found, digest=digest.hexdigest())


def account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def main() -> None:
    # no_log keeps the parameters, some of which may be sensitive, out of the host's own log.
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, no_log=True)
    host = Host(module)
    try:
        plan = core.plan(host.params, host.observe(), module.check_mode)
        if plan.changes and not module.check_mode:
            host.apply(plan)
    except (core.StateError, OSError) as exc:
        host.fail(str(exc))
    module.exit_json(
        changed=bool(plan.changes),
        changes=plan.changes,
        restarted=plan.restarts,
        reloaded=plan.reloads,
        diff=plan.diff if module._diff else [],
        invocation={"module_args": core.redacted(host.params)},
    )


if __name__ == "__main__":
    main()
