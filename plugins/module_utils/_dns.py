# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Whether a cluster can have a DNS of its own: a bundle without CoreDNS is still a bundle, and its manifest says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def missing_dns(manifest: Mapping[str, Any]) -> str:
    """Why a bundle holds no CoreDNS, by its manifest; "" where it holds one, or does not say that it lacks it."""
    images = [str(image) for part in manifest.get("parts") or () for image in part.get("images") or ()]
    if any(_image_name(image) == "coredns" for image in images):
        return ""
    return next(
        (
            str(item.get("reason") or "no reason is told")
            for item in manifest.get("missing") or ()
            if _image_name(str(item.get("name") or "")) == "coredns"
        ),
        "",
    )


def _image_name(reference: str) -> str:
    return reference.rsplit("/", 1)[-1].partition("@")[0].partition(":")[0]
