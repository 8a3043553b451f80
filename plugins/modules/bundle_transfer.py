#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is an action plugin; what it does lies in plugins/action/bundle_transfer.py.

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_transfer
short_description: Brings a large file from the controller to all hosts in about the time of one
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - The controller sends each chunk of the file once, to one of the hosts, by Ansible's own connection. The hosts pass the
    chunks on to each other over the cluster network, while they are still receiving.
  - Only chunks that no host has travel from the controller, and only those that a host lacks travel to it. An interrupted
    run goes on where it was, and of another version of the file that lies at O(dest) the common chunks are kept.
  - A host that can't be reached by the others is sent all by the controller; one that can't take part at all gets the file by
    M(ansible.builtin.copy). Both are announced.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: multinic.kubernetes.bundle_deploy
  - module: multinic.kubernetes.bundle_peer
options:
  src:
    description: A file on the controller, as a path or a URL. A URL is downloaded once to the controller's cache.
    type: str
    required: true
  sha256:
    description: The sha256 of the file. Empty takes it from the file O(src) with C(.sha256) added, which a URL has not.
    type: str
    default: ""
  dest:
    description: Where the file shall be on the hosts. Its folder is there.
    type: path
    required: true
  addresses:
    description:
      - The address of each host in the cluster network, by its name in the inventory. The same for all hosts of the play.
      - By default those of the fact C(cluster_plan) for the hosts of the play.
    type: dict
    default: {}
  port:
    description: The TCP port on which the hosts listen for each other, at these addresses only, while the file is passed around.
    type: int
    default: 8475
"""

EXAMPLES = r"""
- name: The bundle is on all hosts
  multinic.kubernetes.bundle_transfer:
    src: /root/kubernetes-v1.20.2-debian12-amd64.tar.gz
    dest: /var/tmp/kubernetes.tar.gz
"""

RETURN = r"""
complete:
  description: Whether the file was there already.
  returned: success, unless it was copied plainly
  type: bool
  sample: false
fed:
  description: Bytes that the controller sent to this host.
  returned: success, unless it was copied plainly
  type: int
  sample: 32505856
fed_again:
  description: Those of them that the host had got from another one in the meantime.
  returned: when it was not there already
  type: int
  sample: 0
received:
  description: Bytes that came from other hosts.
  returned: success, unless it was copied plainly
  type: int
  sample: 491782144
served:
  description: Bytes that it had sent to other hosts when it was complete itself.
  returned: when it was not there already
  type: int
  sample: 468713472
damaged:
  description: Chunks that came with a wrong sha256 and were thrown away.
  returned: when it was not there already
  type: int
  sample: 0
"""
