#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is an action plugin; what it does lies in plugins/action/bundle_deploy.py.

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_deploy
short_description: Brings a bundle from the controller to a host and unpacks it there
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Asks the host first. If it has the bundle already, nothing is sent and one round trip is all it costs.
  - Otherwise the space on the host is checked, the archive is sent, its sha256 is checked on the host, and it is
    unpacked by M(multinic.kubernetes.bundle_unpack). All hosts of a play do so at the same time.
  - With O(distribution=peers) the controller sends each chunk of the archive to one host only, and the hosts pass the chunks
    on to each other at their planned addresses, as M(multinic.kubernetes.bundle_transfer) does. A host that can't take
    part is sent the whole, which is announced.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
  - multinic.kubernetes._bundle
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
seealso:
  - module: multinic.kubernetes.bundle_transfer
  - module: multinic.kubernetes.bundle_unpack
options:
  bundle:
    description: A bundle on the controller, as a path or a URL. A URL is downloaded once to the controller's cache.
    type: str
    required: true
  sha256:
    description: The sha256 of the archive. Empty takes it from the file O(bundle) with C(.sha256) added, which a URL has not.
    type: str
    default: ""
  facts_only:
    description: Only tell what is in the bundle, which is read on the controller. Nothing is brought to the host.
    type: bool
    default: false
  distribution:
    description: Whether the hosts pass the archive on to each other (V(peers)) or each gets a copy of its own from the controller (V(copy)).
    type: str
    choices: [peers, copy]
    default: peers
  port:
    description: With O(distribution=peers), the TCP port on which the hosts listen for each other in the meantime.
    type: int
    default: 8475
"""

EXAMPLES = r"""
- name: The bundle is on the host
  multinic.kubernetes.bundle_deploy:
    bundle: /root/kubernetes-v1.20.2-debian12-amd64.tar.gz
    roles: [control_plane]
"""

RETURN = r"""
ansible_facts:
  description: What later roles need to know of the bundle. Told in check mode too.
  returned: success
  type: dict
  contains:
    multinic_bundle:
      description: The bundle of this host.
      type: dict
      sample:
        sha256: 0f343b0931126a20f133d67c2b018a3b5e0a7c1f2a7d6b8f8a7a5c1d3b2e4f60
        path: /var/lib/multinic/bundle/current
        kubernetes_version: v1.20.2
        pause_image: k8s.gcr.io/pause:3.2
        binaries: [/var/lib/multinic/bundle/current/bin/kubeadm, /var/lib/multinic/bundle/current/bin/kubelet]
        distributions: [debian-12]
path:
  description: The folder of the unpacked bundle.
  returned: success
  type: str
  sample: /var/lib/multinic/bundle/0f343b0931126a20f133d67c2b018a3b5e0a7c1f2a7d6b8f8a7a5c1d3b2e4f60
fed:
  description: Bytes of the archive that the controller sent to this host.
  returned: when it was sent, but not by plain copy
  type: int
  sample: 32505856
received:
  description: Bytes of it that came from other hosts.
  returned: when it was sent, but not by plain copy
  type: int
  sample: 491782144
kubernetes_version:
  description: The version of Kubernetes in the bundle.
  returned: when it was unpacked
  type: str
  sample: v1.20.2
removed:
  description: Folders of older bundles that were removed.
  returned: success
  type: list
  elements: str
  sample: []
"""
