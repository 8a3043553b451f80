#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_network
short_description: Describes a lab and lays its networks
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - A lab is a network namespace on this machine with one bridge per network and one tap per card of each guest.
  - Nothing leaves the namespace. A network's gateway is the bridge's own address; it routes nowhere.
  - Makes the lab's SSH key, password, host keys and C(known_hosts), and keeps the lab's description in its folder,
    where M(multinic.kubernetes.lab_guest) finds it.
  - Cards that were unplugged are plugged in again, since that is how the lab is described.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  lab:
    description: Name of the lab. Labs with different names do not meet.
    type: str
    required: true
  cache:
    description: The folder that holds all that the collection builds.
    type: path
    required: true
  state:
    description: V(absent) removes the namespace and the lab's folder. No guest may be running then.
    type: str
    choices: [present, absent]
    default: present
  networks:
    description:
      - The networks by name.
      - Each is a dictionary with C(cidr), and optionally C(gateway) (address of the bridge), C(default_route) (whether
        guests have their default route there), C(speed) (such as V(10gbit)), C(mtu) (default 1500), and C(path_mtu)
        (packets larger than this are lost without a word, though the cards' MTU lets them out).
    type: dict
    default: {}
  guests:
    description: The hosts of the lab.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Host name.
        type: str
        required: true
      memory:
        description: Memory, as a number with M or G.
        type: str
        default: 2G
      login:
        description: Whether the user C(lab) comes in by key, with sudo that asks nothing, or by password for both.
        type: str
        choices: [key, password]
        default: key
      cards:
        description: The host's network cards, in the order of the bus.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the card in the host.
            type: str
            required: true
          network:
            description: The network it is plugged into.
            type: str
            required: true
          addresses:
            description: Addresses, each with or without prefix. Without, the network's own is taken.
            type: list
            elements: str
            default: []
          mtu:
            description: MTU of the card, at most that of the network. Default is that of the network.
            type: int
          speed:
            description: Speed of the card, such as V(100mbit). Default is that of the network.
            type: str
          unit:
            description:
              - Lines that are added to the card's systemd-networkd file, such as C(Bond=), C(VLAN=), or sections with routes
                and rules. They are taken as they are.
            type: str
            default: ""
      units:
        description:
          - More systemd-networkd files of the guest by name, such as C(bond0.netdev) and C(bond0.network).
          - The lab knows nothing of what is in them. Addresses there are not among those that must be unique.
        type: dict
        default: {}
      sysctls:
        description: Kernel settings of the guest by name. Strict C(rp_filter) is there already.
        type: dict
        default: {}
"""

EXAMPLES = r"""
- name: Two hosts with two cards each are described and cabled
  multinic.kubernetes.lab_network:
    lab: small
    cache: /var/cache/multinic-kubernetes
    networks:
      external: {cidr: 192.168.160.0/23, gateway: 192.168.160.1, default_route: true, speed: 1gbit}
      internal: {cidr: 192.168.253.0/24, speed: 10gbit}
    guests:
      - name: master1
        cards:
          - {name: ens33, network: external, addresses: [192.168.160.243]}
          - {name: ens32, network: internal, addresses: [192.168.253.129]}
      - name: node01
        login: password
        cards:
          - {name: ens33, network: external, addresses: [192.168.160.246]}
          - {name: ens32, network: internal, addresses: [192.168.253.131]}
"""

RETURN = r"""
namespace:
  description: The lab's network namespace.
  returned: success
  type: str
  sample: multinic-small
folder:
  description: The lab's folder, with its key, password, known_hosts and the guests' disks and consoles.
  returned: success
  type: str
  sample: /var/cache/multinic-kubernetes/labs/small
guests:
  description: The address at which this machine reaches each guest.
  returned: when O(state=present)
  type: dict
  sample: {master1: 192.168.160.243, node01: 192.168.160.246}
"""

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab, _lab_run


def _describe(devices: list[_lab.Device]) -> str:
    """One line per device, for the diff."""
    lines = []
    for device in sorted(devices, key=lambda device: device.name):
        words = [device.name, device.kind, "up" if device.up else "down", f"mtu {device.mtu}"]
        words += [f"master {device.master}"] if device.master else []
        words += [f"address {device.address}"] if device.address else []
        words += [f"speed {device.speed}"] if device.speed else []
        lines.append(" ".join(words) + "\n")
    return "".join(lines)


def present(paths: _lab_run.Paths, lab: _lab.Lab, check_mode: bool) -> dict[str, Any]:
    """Brings namespace, devices and secrets to the plan."""
    there = _lab_run.namespace_exists(lab.name)
    found = _lab_run.observe(lab.name) if there else []
    wanted = _lab.devices(lab)
    commands = _lab.network_commands(wanted, found)
    changed = not there or bool(commands) or _lab_run.load_plan(paths) != lab
    if not check_mode:
        paths.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not there:
            _lab_run.make_namespace(lab.name)
        changed = _lab_run.set_sysctls(lab.name) or changed
        _lab_run.in_namespace(lab.name, commands)
        changed = _lab_run.make_secrets(paths, lab) or changed
        _lab_run.write(paths.plan, _lab.dump(lab))
    return {
        "changed": changed,
        "diff": {"before": _describe(found), "after": _describe(wanted)},
        "guests": {guest.name: guest.ssh_address for guest in lab.guests},
    }


def absent(paths: _lab_run.Paths, check_mode: bool) -> dict[str, Any]:
    """Removes namespace and folder."""
    running = sorted(_lab_run.processes(paths))
    if running and not check_mode:
        raise _lab_run.RunError(
            f"guests are still running: {', '.join(running)}; make them absent with lab_guest first"
        )
    there = _lab_run.namespace_exists(paths.lab)
    found = _lab_run.observe(paths.lab) if there else []
    changed = there or paths.folder.exists()
    if not check_mode:
        changed = _lab_run.remove_namespace(paths.lab) or paths.folder.exists()
        if paths.folder.exists():
            shutil.rmtree(paths.folder)
    return {"changed": changed, "diff": {"before": _describe(found), "after": ""}}


def main() -> None:
    card = {
        "name": {"type": "str", "required": True},
        "network": {"type": "str", "required": True},
        "addresses": {"type": "list", "elements": "str", "default": []},
        "mtu": {"type": "int"},
        "speed": {"type": "str"},
        "unit": {"type": "str", "default": ""},
    }
    guest = {
        "name": {"type": "str", "required": True},
        "memory": {"type": "str", "default": "2G"},
        "login": {"type": "str", "choices": ["key", "password"], "default": "key", "no_log": False},
        "cards": {"type": "list", "elements": "dict", "required": True, "options": card},
        "units": {"type": "dict", "default": {}},
        "sysctls": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "str", "required": True},
            "cache": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "networks": {"type": "dict", "default": {}},
            "guests": {"type": "list", "elements": "dict", "default": [], "options": guest},
        },
        required_if=[("state", "present", ["networks", "guests"])],
        supports_check_mode=True,
    )
    params = module.params
    paths = _lab_run.Paths(Path(params["cache"]), params["lab"])
    try:
        lab = _lab.plan(params["lab"], params["networks"], params["guests"])
        with _lab_run.lock(paths):
            if params["state"] == "present":
                result = present(paths, lab, module.check_mode)
            else:
                result = absent(paths, module.check_mode)
    except (_lab.LabError, _lab_run.RunError, OSError) as exc:
        problems = exc.problems if isinstance(exc, _lab.LabError) else [str(exc)]
        module.fail_json(msg=f"Lab {params['lab']}: {'; '.join(problems)}", problems=problems)
    module.exit_json(namespace=_lab.namespace(params["lab"]), folder=str(paths.folder), **result)


if __name__ == "__main__":
    main()
