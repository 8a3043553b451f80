# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines that `make prove-red` breaks are there, so that it ends with a proof and not with a search."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prove_red", ROOT / "tests/prove_red.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prove_red"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


BREAKS = load().BREAKS


def test_each_line_to_break_is_there_once() -> None:
    found = {
        (change.path, change.right): (ROOT / change.path).read_text(encoding="utf-8").count(change.right)
        for change in BREAKS
    }
    assert found == dict.fromkeys(found, 1)


def test_each_break_changes_its_line() -> None:
    assert not [change for change in BREAKS if change.wrong == change.right]


def test_each_layer_has_a_break() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [layers] = re.findall(r"^LAYERS := (.*)$", makefile, re.MULTILINE)
    assert {change.layer for change in BREAKS} == set(layers.split())


def test_an_unknown_layer_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/prove_red.py"), "untested"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "untested" in done.stderr and "molecule" in done.stderr
