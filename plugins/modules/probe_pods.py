#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe_pods
short_description: Starts or removes one tiny pod a node, so that the pod network can be tried for real
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Starts a pause container on each node, in kube-system, and waits until all have an address. The image is the one that
    every node needs anyway, so nothing is pulled.
  - M(multinic.kubernetes.cluster_status) pings from the network of one pod to the others.
  - Runs on a control plane. Where there is no cluster yet it does nothing.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
    details: No pod is started, so none is returned.
  diff_mode:
    support: none
options:
  state:
    description: V(present) starts the pods and waits for them; V(absent) removes them.
    type: str
    choices: [present, absent]
    default: present
  nodes:
    description: The nodes that should have a pod.
    type: list
    elements: str
    default: []
  image:
    description: Image of the pods. The bundle's pause image unless given.
    type: str
    default: ""
  wait:
    description: Seconds to wait for the pods at most. Those that are not there then are missing in RV(pods).
    type: int
    default: 60
  kubeconfig:
    description: Access to the cluster.
    type: path
    default: /etc/kubernetes/admin.conf
  bundle_manifest:
    description: The manifest of the unpacked bundle, which names the pause image.
    type: path
    default: /var/lib/multinic/bundle/current/manifest.json
  bin_dir:
    description: Where kubectl is, before the usual folders are searched.
    type: path
    default: /usr/local/bin
seealso:
  - module: multinic.kubernetes.cluster_status
"""

EXAMPLES = r"""
- name: Each node has a pod to ping
  multinic.kubernetes.probe_pods:
    nodes: [master1, node01]
  register: probe

- name: No probe pod is left
  multinic.kubernetes.probe_pods:
    state: absent
"""

RETURN = r"""
pods:
  description: The pods that run and have an address.
  type: list
  elements: dict
  returned: always
  sample:
    - {node: node01, address: 100.64.3.2, uid: 3f6f1c5e-6a5e-4d0e-9f8e-0a3f6f8f0a55}
trouble:
  description: Why pods are missing, one sentence a node or one for all.
  type: list
  elements: str
  returned: always
  sample: ["node01: pod multinic-probe-18d0c2-node01 is Pending"]
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils._kubectl import (
    BIN_DIR,
    Answer,
    Kubectl,
    NoKubectlError,
    find_kubectl,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._verify import PROBE_LABEL, pod_of, probe_pods

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "image": {"type": "str", "default": ""},
    "wait": {"type": "int", "default": 60},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "bundle_manifest": {"type": "path", "default": "/var/lib/multinic/bundle/current/manifest.json"},
    "bin_dir": {"type": "path", "default": BIN_DIR},
}
PATIENCE = 30


class ProbeError(Exception):
    """What could not be done, for the person who has to mend it."""


class Probe:
    def __init__(self, module: AnsibleModule) -> None:
        self.params: dict[str, Any] = module.params

    def ask(self, *words: str, stdin: str = "") -> Answer:
        bin_dir = self.params["bin_dir"]
        kubectl = Kubectl(find_kubectl(bin_dir), self.params["kubeconfig"], bin_dir)
        return kubectl.ask("--namespace=kube-system", *words, stdin=stdin, patience=PATIENCE)

    def image(self) -> str:
        if self.params["image"]:
            return str(self.params["image"])
        try:
            manifest = json.loads(Path(self.params["bundle_manifest"]).read_text(encoding="utf-8"))
            return str(manifest["pause_image"])
        except (OSError, ValueError, KeyError):
            return ""

    def start(self) -> tuple[list[dict[str, Any]], list[str]]:
        if not self.params["nodes"]:
            return [], []
        image = self.image()
        if not image:
            return [], [f"no image for probe pods: {self.params['bundle_manifest']} names none, and none was given"]
        pods = probe_pods(self.params["nodes"], image, format(time.time_ns(), "x"))
        answer = self.ask("apply", "-f", "-", stdin=json.dumps(pods))
        if not answer.good:
            return [], [f"probe pods could not be started: {answer.complaint}"]
        deadline = time.monotonic() + self.params["wait"]
        while True:
            running, trouble = self.look()
            if not trouble or time.monotonic() > deadline:
                return running, trouble
            time.sleep(0.5)

    def look(self) -> tuple[list[dict[str, Any]], list[str]]:
        answer = self.ask("get", "pods", "-l", f"app={PROBE_LABEL}", "-o", "json")
        if not answer.good:
            return [], [f"probe pods could not be listed: {answer.complaint}"]
        try:
            items = json.loads(answer.out)["items"]
        except (ValueError, KeyError, TypeError) as error:
            return [], [f"probe pods could not be listed: kubectl's answer is no list ({error})"]
        live = [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]
        found = [pod_of(item) for item in live]
        running = [pod for pod in found if pod["phase"] == "Running" and pod["address"]]
        told = [{key: pod[key] for key in ("node", "address", "addresses", "uid")} for pod in running]
        return told, self.missing(found, [str(pod["node"]) for pod in running])

    def missing(self, found: Sequence[dict[str, Any]], having: Sequence[str]) -> list[str]:
        pods = {pod["node"]: pod for pod in found}
        trouble = []
        for node in self.params["nodes"]:
            if node not in having:
                pod = pods.get(node)
                why = f"pod {pod['name']} is {pod['phase']} {pod['reason']}".rstrip() if pod else "no probe pod"
                trouble.append(f"{node}: {why}")
        return trouble

    def stop(self) -> None:
        label = f"--selector=app={PROBE_LABEL}"
        answer = self.ask("delete", "pods", label, "--ignore-not-found", "--wait=false", "--grace-period=0")
        if not answer.good:
            raise ProbeError(f"The pods {PROBE_LABEL}-… of kube-system could not be removed: {answer.complaint}")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    probe = Probe(module)
    if module.check_mode or not Path(module.params["kubeconfig"]).exists():
        module.exit_json(changed=False, pods=[], trouble=[])
    pods: list[dict[str, Any]] = []
    trouble: list[str] = []
    try:
        if module.params["state"] == "absent":
            probe.stop()
        else:
            pods, trouble = probe.start()
    except (ProbeError, NoKubectlError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, pods=pods, trouble=trouble)


if __name__ == "__main__":
    main()
