#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_apply
short_description: Applies a set of documents to a cluster, once for each content
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Applies documents with kubectl, stage by stage, each stage after the custom resources it needs are known.
  - The digest of what was applied, and the settings a person cares about, are kept in the ConfigMap C(multinic-applied-NAME)
    of kube-system. While they are the same nothing is applied, so what an administrator changed by hand stays.
  - While the API server does not answer it is asked again, for two minutes.
  - Runs on a control plane. Where there is no cluster yet, as in check mode on a fresh host, it only says what it would do.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The difference is that of O(settings).
options:
  name:
    description: Names the set, as in V(calico).
    type: str
    required: true
  stages:
    description: What to apply, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      documents:
        description: Kubernetes objects.
        type: list
        elements: dict
        required: true
      definitions:
        description: Names of CustomResourceDefinitions that must be established before this stage.
        type: list
        elements: str
        default: []
  settings:
    description: What a person wants to read of the set, for the diff and for the record in the cluster.
    type: dict
    default: {}
  wait:
    description: Seconds to wait for the definitions of a stage.
    type: int
    default: 60
  kubeconfig:
    description: Access to the cluster.
    type: path
    default: /etc/kubernetes/admin.conf
  bin_dir:
    description: Where kubectl is, before the usual folders are searched.
    type: path
    default: /usr/local/bin
"""

EXAMPLES = r"""
- name: A namespace of ours is there
  multinic.kubernetes.kube_apply:
    name: example
    stages:
      - documents:
          - apiVersion: v1
            kind: Namespace
            metadata: {name: example}
"""

RETURN = r"""
digest:
  description: The digest of the documents.
  type: str
  returned: success
  sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
settings:
  description: The settings of the set.
  type: dict
  returned: success
  sample: {MTU of pods: "1480"}
"""

import hashlib
import json
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

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "stages": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "documents": {"type": "list", "elements": "dict", "required": True},
            "definitions": {"type": "list", "elements": "str", "default": []},
        },
    },
    "settings": {"type": "dict", "default": {}},
    "wait": {"type": "int", "default": 60},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "bin_dir": {"type": "path", "default": BIN_DIR},
}
PATIENCE = 120
NAMESPACE = "kube-system"


class ApplyError(Exception):
    """What could not be applied or read, for the person who has to mend it."""


class Cluster:
    def __init__(self, module: AnsibleModule) -> None:
        self.params: dict[str, Any] = module.params
        self.record = f"multinic-applied-{self.params['name']}"

    def ask(self, *words: str, **more: Any) -> Answer:
        bin_dir = self.params["bin_dir"]
        return Kubectl(find_kubectl(bin_dir), self.params["kubeconfig"], bin_dir).ask(*words, patience=PATIENCE, **more)

    def applied(self) -> dict[str, str]:
        """The record of what was applied before."""
        answer = self.ask("--namespace", NAMESPACE, "get", "configmap", self.record, "--ignore-not-found", "-o", "json")
        if not answer.good:
            raise ApplyError(f"The cluster's record of {self.params['name']} could not be read: {answer.complaint}")
        try:
            found: dict[str, str] = (json.loads(answer.out).get("data") or {}) if answer.out.strip() else {}
        except (ValueError, AttributeError) as error:
            raise ApplyError(f"The cluster's record of {self.params['name']} is no JSON object: {error}") from error
        return found

    def apply(self, documents: list[dict[str, Any]]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        # On the server's side, since definitions are larger than the annotation that the client's side would write.
        options = ("--server-side", "--force-conflicts", "--field-manager=multinic")
        answer = self.ask("apply", *options, "-f", "-", stdin=text, seconds=300)
        if not answer.good:
            raise ApplyError(f"{self.params['name']} could not be applied: {answer.complaint}")

    def run(self, data: dict[str, str]) -> None:
        for stage in self.params["stages"]:
            if stage["definitions"]:
                names = [f"crd/{name}" for name in stage["definitions"]]
                waited = f"--timeout={self.params['wait']}s"
                # A watch is one long request.
                longest = self.params["wait"] * len(names) + 30
                answer = self.ask(
                    "wait", "--for=condition=Established", waited, *names, request_seconds=0, seconds=longest
                )
                if not answer.good:
                    raise ApplyError(f"The custom resources of {self.params['name']} are not known: {answer.complaint}")
            self.apply(stage["documents"])
        metadata = {"name": self.record, "namespace": NAMESPACE}
        self.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}])


def told(settings: dict[str, Any]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in sorted(settings.items()))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    content = json.dumps(params["stages"], sort_keys=True).encode()
    data = {"digest": hashlib.sha256(content).hexdigest(), "settings": told(params["settings"])}
    cluster = Cluster(module)
    exists = Path(params["kubeconfig"]).exists()
    if not exists and not module.check_mode:
        module.fail_json(msg=f"{params['kubeconfig']} is not on this host: run this on a control plane of the cluster")
    try:
        before = cluster.applied() if exists else {}
        changed = before.get("digest") != data["digest"]
        if changed and not module.check_mode:
            cluster.run(data)
    except (ApplyError, NoKubectlError, OSError) as error:
        module.fail_json(msg=str(error))
    header = f"{params['name']}, as applied"
    diff = {
        "before_header": header,
        "after_header": header,
        "before": before.get("settings", ""),
        "after": data["settings"],
    }
    module.exit_json(changed=changed, digest=data["digest"], settings=params["settings"], diff=diff if changed else [])


if __name__ == "__main__":
    main()
