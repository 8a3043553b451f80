# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the unit tests import the collection from a checkout, by the name it has when installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

REPOSITORY = Path(__file__).resolve().parents[2]
COLLECTIONS = REPOSITORY / ".collections"

# A namespace package: whatever other collections the environment holds stay reachable.
sys.path.insert(0, str(COLLECTIONS))

# Examples that failed are kept beside everything else that is made; make tells pytest and ruff the same.
if os.environ.get("MULTINIC_CACHE"):
    set_hypothesis_home_dir(Path(os.environ["MULTINIC_CACHE"]) / "hypothesis")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the checkout."""
    return REPOSITORY
