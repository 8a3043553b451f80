#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_guest
short_description: Starts, stops, freezes, reboots, kills and unplugs the guests of a lab
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - A guest is a real Linux (User Mode Linux) that runs as a group of ordinary processes on this machine.
  - All guests named in one call are handled at the same time.
  - The lab must have been described by M(multinic.kubernetes.lab_network), and its image built by
    M(multinic.kubernetes.lab_image).
  - Only processes of this lab's guests are ever touched. They are recognised by their root folder and command line.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  lab:
    description: Name of the lab.
    type: str
    required: true
  cache:
    description: The folder that holds all that the collection builds.
    type: path
    required: true
  guests:
    description: Names of the guests. Default is all of the lab.
    type: list
    elements: str
  state:
    description:
      - V(started) boots what is stopped, thaws what is frozen, and reboots what was described differently when it booted.
      - V(stopped) shuts down in order; V(killed) is a power loss.
      - V(frozen) stops the guest's processor in the middle of what it does, V(thawed) lets it go on.
      - V(rebooted) shuts down in order and boots; V(power_cycled) cuts the power of all guests at once and boots them.
        Both always change something.
      - V(absent) kills the guest and removes its disk, console and host key. Without O(guests) that includes guests which
        the lab's description no longer names.
    type: str
    choices: [started, stopped, killed, frozen, thawed, rebooted, power_cycled, absent]
  fresh:
    description: With O(state=started), throws the guest's disk away first, so that it boots as a new host.
    type: bool
    default: false
  prune:
    description:
      - Makes guests V(absent) that the lab's description no longer names. Does nothing if O(guests) is given.
    type: bool
    default: false
  cards:
    description:
      - Cards by name, each V(plugged) or V(unplugged), in every guest named.
      - An unplugged card sends and receives nothing. The guest is not told, since its driver knows no carrier.
    type: dict
  wait:
    description: Whether to wait until sshd of every guest that was started answers.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for a boot or an orderly shutdown.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: All guests are up
  multinic.kubernetes.lab_guest:
    lab: lab
    cache: /var/cache/multinic-kubernetes
    state: started

- name: All guests are up, and those that are described no more are gone
  multinic.kubernetes.lab_guest:
    lab: lab
    cache: /var/cache/multinic-kubernetes
    state: started
    prune: true

- name: The cluster network of node01 is cut
  multinic.kubernetes.lab_guest:
    lab: lab
    cache: /var/cache/multinic-kubernetes
    guests: [node01]
    cards: {ens32: unplugged}

- name: All hosts lose power at once and come back
  multinic.kubernetes.lab_guest:
    lab: lab
    cache: /var/cache/multinic-kubernetes
    state: power_cycled
"""

RETURN = r"""
guests:
  description: What each guest named is like afterwards.
  returned: success
  type: dict
  contains:
    state:
      description: V(running), V(frozen), V(stopped) or V(absent).
      type: str
    address:
      description: Where this machine reaches it.
      type: str
    seconds:
      description: Time from the start of the boot until sshd answered. Only for guests that this call booted.
      type: float
    ssh:
      description: A command for a person to get in with.
      type: str
    processor:
      description: The processor it is pinned to.
      type: int
    console:
      description: The file that the guest's console is written to.
      type: str
  sample:
    master1:
      state: running
      address: 192.168.160.243
      seconds: 7.4
      ssh: ssh -F /var/cache/multinic-kubernetes/labs/lab/ssh_config master1
      processor: 0
      console: /var/cache/multinic-kubernetes/labs/lab/guests/master1/console.log
"""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab, _lab_image, _lab_run


class Guests:
    """The guests that one call names, and what this machine says about them."""

    def __init__(self, paths: _lab_run.Paths, names: Optional[list[str]], timeout: float) -> None:
        self.paths = paths
        self.timeout = timeout
        plan = _lab_run.load_plan(paths)
        self.lab = plan or _lab.Lab(paths.lab, (), ())
        self.there = plan is not None
        running = _lab_run.processes(paths)
        left = {entry.name for entry in (paths.folder / "guests").glob("*")} | set(running)
        known = [guest.name for guest in self.lab.guests]
        # Guests that were described once. Whoever speaks of all guests may mean these too.
        self.left = sorted(left - set(known)) if names is None else []
        self.names = list(names) if names is not None else known
        self.before = {name: self.state(running, name) for name in [*self.names, *self.left]}
        self.processors = _lab.processors(self.lab.guests, sorted(os.sched_getaffinity(0)))
        self.seconds: dict[str, float] = {}

    def state(self, running: dict[str, list[_lab_run.Process]], name: str) -> str:
        state = _lab_run.guest_state(running.get(name, []))
        return "absent" if state == "stopped" and not self.paths.guest(name).exists() else state

    def base_image(self, name: str) -> str:
        """A guest keeps the image that its disk began with."""
        record = self.paths.guest(name) / "base"
        if (self.paths.guest(name) / "disk.cow").exists() and record.exists():
            base = record.read_text(encoding="utf-8").strip()
            if (self.paths.base_folder / base).exists():
                return base
            raise _lab_run.RunError(f"guest {name} began with image {base}, which is gone; start it with fresh=true")
        modules = self.paths.kernel_root / "usr/lib/uml/modules"
        version = next((entry.name for entry in sorted(modules.glob("[0-9]*"))), "")
        base = _lab_image.base_name(version)
        if not version or not (self.paths.base_folder / base).exists():
            raise _lab_run.RunError("the base image is not built; call lab_image first")
        return base

    def differs(self, name: str) -> bool:
        """Whether a running guest was booted from another description than the lab's present one."""
        guest = self.lab.guest(name)
        words = _lab.kernel_arguments(
            self.lab.name, guest, self.base_image(name), _lab_run.guest_identity(self.paths, guest)
        )
        return not _lab_run.runs_with(self.paths, name, words)

    def connections(self, names: list[str]) -> None:
        addresses = [
            address.partition("/")[0]
            for guest in self.lab.guests
            if guest.name in names
            for card in guest.cards
            for address in card.addresses
        ]
        if _lab_run.namespace_exists(self.lab.name):
            _lab_run.drop_connections(self.lab.name, addresses)

    def thaw(self, names: list[str]) -> None:
        for name in names:
            _lab_run.send(self.paths, name, signal.SIGCONT)

    def freeze(self, names: list[str]) -> None:
        for name in names:
            _lab_run.send(self.paths, name, signal.SIGSTOP)

    def kill(self, names: list[str]) -> None:
        for name in names:
            _lab_run.send(self.paths, name, signal.SIGKILL)
        for name in names:
            _lab_run.kill(self.paths, name)
        self.connections(names)

    def shut_down(self, names: list[str]) -> None:
        self.thaw([name for name in names if self.before[name] == "frozen"])
        for name in names:
            _lab_run.press_power_button(self.paths, name)
        late = _lab_run.wait_stopped(self.paths, names, self.timeout)
        if late:
            raise _lab_run.RunError(
                f"{', '.join(late)} did not shut down within {self.timeout:.0f} s; use state=killed.\n"
                + "\n".join(_lab_run.console_tail(self.paths, name) for name in late)
            )
        self.connections(names)

    def boot(self, names: list[str], wait: bool) -> None:
        began = time.monotonic()
        started = {}
        for name in names:
            guest = self.lab.guest(name)
            base = self.base_image(name)
            _lab_run.write(self.paths.guest(name) / "base", f"{base}\n")
            started[name] = _lab_run.start(self.paths, self.lab, guest, self.processors[name], base)
        _lab_run.wait_launched(self.paths, started)
        if wait and names:
            offset = time.monotonic() - began
            ready = _lab_run.wait_ssh(self.paths, [self.lab.guest(name) for name in names], self.timeout)
            self.seconds = {name: round(seconds + offset, 1) for name, seconds in ready.items()}

    def forget(self, names: list[str]) -> None:
        for name in names:
            shutil.rmtree(self.paths.guest(name), ignore_errors=True)
            shutil.rmtree(self.paths.folder / "umid" / name, ignore_errors=True)

    def perform(self, actions: dict[str, str], wait: bool) -> None:
        """Carries out what was decided; guests with the same action are handled together."""

        def having(*wanted: str) -> list[str]:
            return [name for name, action in actions.items() if action in wanted]

        self.freeze(having("freeze"))
        self.thaw(having("thaw"))
        self.shut_down(having("shut down", "reboot"))
        self.kill(having("cut the power", "cut the power and boot", "boot with a new disk", "remove"))
        for name in having("boot with a new disk"):
            _lab_run.remove_disk(self.paths, name)
        self.forget(having("remove"))
        self.boot(having("boot", "reboot", "cut the power and boot", "boot with a new disk"), wait)

    def report(self, after: dict[str, str]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name in after:
            entry: dict[str, Any] = {"state": after[name], "console": str(self.paths.console(name))}
            if name in self.processors:
                guest = self.lab.guest(name)
                entry.update(address=guest.ssh_address, processor=self.processors[name])
                entry["ssh"] = _lab.ssh_command(guest, str(self.paths.folder))
            if name in self.seconds:
                entry["seconds"] = self.seconds[name]
            result[name] = entry
        return result


def refuse(guests: Guests, state: Optional[str], cards: dict[str, str]) -> None:
    """Raises an error for what cannot be done, before anything is."""
    if state == "absent":
        return
    if not guests.there:
        raise _lab_run.RunError("there is no such lab; describe it with lab_network first")
    for name in guests.names:
        mine = [card.name for card in guests.lab.guest(name).cards]
        for card in cards:
            if card not in mine:
                raise _lab_run.RunError(f"guest {name} has no card {card}; it has {', '.join(mine)}")


def change_state(guests: Guests, state: str, fresh: bool, prune: bool, wait: bool, check_mode: bool) -> dict[str, str]:
    """Brings the guests to a state; returns by guest what was or would be done."""
    names = guests.names
    otherwise = []
    if state == "started" and not fresh:
        otherwise = [name for name in names if guests.before[name] in ("running", "frozen") and guests.differs(name)]
    actions = _lab.actions(state, fresh, {name: guests.before[name] for name in names}, otherwise)
    if state == "absent" or prune:
        actions |= _lab.actions("absent", False, {name: guests.before[name] for name in guests.left}, [])
    if not check_mode:
        guests.perform(actions, wait)
    return actions


def change_cards(guests: Guests, cards: dict[str, str], check_mode: bool) -> dict[str, str]:
    """Plugs and unplugs cards; returns by guest what was or would be done."""
    found = _lab_run.observe(guests.lab.name)
    commands: list[list[str]] = []
    done: dict[str, str] = {}
    for name in guests.names:
        changes = _lab.cabling(guests.lab, guests.lab.guest(name), cards, found)
        commands += changes.values()
        if changes:
            done[name] = "; ".join(f"{card} {cards[card]}" for card in changes)
    if not check_mode:
        _lab_run.in_namespace(guests.lab.name, commands)
    return done


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "str", "required": True},
            "cache": {"type": "path", "required": True},
            "guests": {"type": "list", "elements": "str"},
            "state": {"type": "str", "choices": list(_lab.OUTCOME)},
            "fresh": {"type": "bool", "default": False},
            "prune": {"type": "bool", "default": False},
            "cards": {"type": "dict"},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 120},
        },
        required_one_of=[("state", "cards")],
        supports_check_mode=True,
    )
    params = module.params
    paths = _lab_run.Paths(Path(params["cache"]), params["lab"])
    state, cards = params["state"], params["cards"] or {}
    wrong = sorted(str(value) for value in cards.values() if value not in ("plugged", "unplugged"))
    if wrong:
        module.fail_json(msg=f"cards: {', '.join(wrong)} is neither plugged nor unplugged")
    try:
        with _lab_run.lock(paths):
            guests = Guests(paths, params["guests"], params["timeout"])
            refuse(guests, state, cards)
            done: dict[str, str] = {}
            if state:
                done = change_state(guests, state, params["fresh"], params["prune"], params["wait"], module.check_mode)
            for name, text in (change_cards(guests, cards, module.check_mode) if cards else {}).items():
                done[name] = "; ".join(filter(None, [done.get(name, ""), text]))
            processes = _lab_run.processes(paths)
            after = {name: guests.state(processes, name) for name in guests.before if name in [*guests.names, *done]}
            if module.check_mode and state:
                after.update({name: _lab.OUTCOME["absent" if name in guests.left else state] for name in done})
    except (_lab.LabError, _lab_run.RunError, OSError) as exc:
        module.fail_json(msg=f"Lab {params['lab']}: {exc}")
    module.exit_json(
        changed=bool(done),
        guests=guests.report(after),
        diff={
            "before": "".join(f"{name}: {guests.before[name]}\n" for name in sorted(done)),
            "after": "".join(f"{name}: {after[name]} ({done[name]})\n" for name in sorted(done)),
        },
    )


if __name__ == "__main__":
    main()
