# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This doc fragment is **PRIVATE** to the collection.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description:
      - The folder in which the bundle is built. What is built stays there under the digest of its inputs,
        so that it is built once.
    type: path
    required: true
  progress_log:
    description:
      - A file to which one line is added when a step begins and when it ends.
    type: path
  extras:
    description:
      - The folder that holds C(crictl/main.go), the source of the small CRI client which is built where the Go module
        proxy does not serve crictl. The role's C(files).
    type: path
    required: true
  host_packages:
    description:
      - The Debian packages that a host needs. All that they depend on and a bare Debian lacks is added.
      - Empty means all that the roles of this collection use.
    type: list
    elements: str
    default: []
  kubernetes_version:
    description:
      - Which Kubernetes is built, such as C(v1.34.4).
      - Empty, or V(v1.20.2), is what Debian 12 has as a source package. From C(v1.31.0) on a version is built of the
        modules that the Go module proxy serves, with the newest Go of this machine. Others have no recipe.
      - Each version needs a O(directory) of its own.
    type: str
    default: ""
requirements:
  - Debian 12 on the machine that builds
notes:
  - Programs are built at low priority; everything that was run, with its output, is in C(build.log) in O(directory).
"""
