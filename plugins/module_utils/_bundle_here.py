# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""The bundle that is unpacked on this host, for the modules that take something out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import MANIFEST_NAME, Manifest, parse_manifest


def read_manifest(folder: Path) -> Optional[Manifest]:
    """Its manifest, or nothing if no bundle lies there."""
    try:
        return parse_manifest(json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
