# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This doc fragment is **PRIVATE** to the collection.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  root:
    description: Folder on the host that holds the unpacked bundles. What is missing of it is made, and may be passed through.
    type: path
    default: /var/lib/multinic/bundle
  roles:
    description: Roles of the host. Images that no role of the host needs are not written. Empty means all images.
    type: list
    elements: str
    choices: [control_plane, worker]
    default: []
  keep:
    description: How many older versions stay on the host.
    type: int
    default: 1
"""
