# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documented examples of the network's filters are run as they stand, and give what their comments say.

Their hosts are the seed's master1 and node01, once with the facts of network_facts and once with those of setup.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.multinic.kubernetes.plugins.filter.network import FilterModule
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import seed_facts
from ansible_collections.multinic.kubernetes.tests.unit.playbooks.test_playbooks import play

ROOT = Path(__file__).resolve().parents[3]
FIRST = "master1"
HOSTS = {FIRST: 129, "node01": 131}
FACTS_MODULE = "multinic.kubernetes.network_facts"

# Stands in for the module that reads the facts of a real host.
KNOWN_FACTS = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"facts": {"type": "dict", "required": True}}, supports_check_mode=True)
module.exit_json(changed=False, ansible_facts=module.params["facts"])
"""


def of_setup(name: str, last: int) -> dict[str, Any]:
    """What ansible.builtin.setup tells of such a host."""
    found = seed_facts(name, last)
    cards: dict[str, Any] = {}
    for link in found["links"]:
        (held,) = link["addresses"]
        network = ip_interface(f"{held['address']}/{held['prefix']}").network
        cards[link["name"]] = {
            "device": link["name"],
            "type": "ether",
            "active": True,
            "mtu": link["mtu"],
            "ipv4": {
                "address": held["address"],
                "netmask": str(network.netmask),
                "network": str(network.network_address),
                "prefix": str(network.prefixlen),
            },
        }
    return {
        "interfaces": ["lo", *cards],
        "lo": {"device": "lo", "type": "loopback", "ipv4": {"address": "127.0.0.1", "netmask": "255.0.0.0"}},
        **cards,
        "default_ipv4": {
            "interface": "ens33",
            "gateway": "192.168.160.1",
            "address": cards["ens33"]["ipv4"]["address"],
        },
    }


def examples() -> dict[str, str]:
    """Where each example stands, and its text: the filters' own, and that of the how-to."""
    texts = {}
    for name in FilterModule().filters():
        path = ROOT / "plugins" / "filter" / f"{name}.yml"
        texts[name] = str(yaml.safe_load(path.read_text(encoding="utf-8"))["EXAMPLES"])
    guide = (ROOT / "docs" / "network.md").read_text(encoding="utf-8").partition("## In your own playbooks")[2]
    texts["docs/network.md"] = guide.partition("```yaml\n")[2].partition("```")[0]
    return texts


def tasks_of(text: str) -> list[dict[str, Any]]:
    """The tasks of an example, which may be a play or a list of tasks."""
    (*items,) = yaml.safe_load(text)
    return list(items[0]["tasks"]) if "hosts" in items[0] else items


def expected(text: str) -> list[str]:
    return re.findall(r"^\s*# => (.+)$", text, re.MULTILINE)


def runnable(where: str, tasks: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The example's tasks, each told text kept in a file, with facts that are known."""
    facts = {"name": "The facts are known", "known_facts": {"facts": "{{ known }}"}}
    if not any(FACTS_MODULE in task for task in tasks):
        tasks = [{FACTS_MODULE: None}, *tasks]
    made: list[dict[str, Any]] = []
    for number, task in enumerate(tasks):
        if FACTS_MODULE in task:
            made.append(facts)
            continue
        made.append({**task, "register": "told"})
        path = folder / f"{where.replace('/', '-')}-{number}.json"
        made.append(
            {
                "name": "What was told is kept",
                "ansible.builtin.copy": {
                    "dest": str(path),
                    "content": "{{ [told.msg] | flatten | to_json }}",
                    "mode": "0644",
                },
                "when": f"inventory_hostname == '{FIRST}'",
            }
        )
    return made


@pytest.fixture(scope="module", params=["network_facts", "setup"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each example told on the first host, all run by one playbook."""
    folder = tmp_path_factory.mktemp(request.param)
    ours = request.param == "network_facts"
    known = {
        name: {"multinic": seed_facts(name, last)} if ours else of_setup(name, last) for name, last in HOSTS.items()
    }
    (folder / "library").mkdir()
    (folder / "library" / "known_facts.py").write_text(KNOWN_FACTS, encoding="utf-8")
    inventory = folder / "hosts.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {name: {"known": facts, **local} for name, facts in known.items()}}}),
        encoding="utf-8",
    )
    plays = [
        {"name": where, "hosts": "all", "gather_facts": False, "tasks": runnable(where, tasks_of(text), folder)}
        for where, text in examples().items()
    ]
    playbook = folder / "examples.yml"
    playbook.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    run = play(str(playbook), inventory)
    assert run.returncode == 0, run.stdout + run.stderr
    results: dict[str, list[str]] = {}
    for where in examples():
        files = sorted(folder.glob(f"{where.replace('/', '-')}-*.json"))
        results[where] = [item for path in files for item in json.loads(path.read_text(encoding="utf-8"))]
    return results


@pytest.mark.parametrize("where", examples())
def test_an_example_gives_what_its_comments_say(where: str, told: dict[str, list[str]]) -> None:
    wanted = expected(examples()[where])
    assert wanted
    assert told[where] == wanted


def test_the_guide_shows_every_filter() -> None:
    for name in FilterModule().filters():
        assert f"multinic.kubernetes.{name}(" in examples()["docs/network.md"]


REAL = """
- hosts: all
  gather_facts: false
  tasks:
    - multinic.kubernetes.network_facts:
      register: ours
    - ansible.builtin.setup:
        gather_subset: ["!all", "!min", network]
      register: plain
    - ansible.builtin.copy:
        dest: "{{ inventory_dir }}/told.json"
        mode: "0644"
        content: >-
          {{ [ours.ansible_facts | multinic.kubernetes.cluster_address, ours.ansible_facts | multinic.kubernetes.cluster_interface,
              bare | multinic.kubernetes.cluster_address, bare | multinic.kubernetes.cluster_interface] | to_json }}
      vars:
        names: "{{ plain.ansible_facts.keys() | map('regex_replace', '^ansible_', '') }}"
        bare: "{{ dict(names | zip(plain.ansible_facts.values())) }}"
"""


def test_both_kinds_of_facts_of_a_real_host_give_the_same(tmp_path: Path) -> None:
    """This machine's own."""
    inventory = tmp_path / "hosts.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"here": local}}}), encoding="utf-8")
    playbook = tmp_path / "real.yml"
    playbook.write_text(REAL, encoding="utf-8")
    run = play(str(playbook), inventory)
    if "no network is common to all hosts" in run.stdout:
        pytest.skip("this machine has no network")
    assert run.returncode == 0, run.stdout + run.stderr
    address, name, *others = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert others == [address, name]
