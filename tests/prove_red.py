# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves that each test layer can fail: breaks one line in a copy of the repository and expects ``make LAYER`` to fail.

``python tests/prove_red.py [LAYER ...]``, all layers by default; ``make prove-red LAYERS='lint unit'`` calls it. The copy
is a clone of what is committed, made anew for each break and thrown away. A layer must be green before its line is
broken, which ``make test`` shows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Break:
    """One line that is made wrong, the command that must notice, and a word its complaint must hold."""

    layer: str
    path: str
    right: str
    wrong: str
    command: tuple[str, ...]
    complaint: str


BREAKS = (
    Break(
        "lint",
        "plugins/module_utils/_plan.py",
        "import Any, Optional",
        "import Any, Never, Optional",
        ("make", "lint"),
        "F401",
    ),
    Break(
        "lint",
        "roles/node/tasks/main.yml",
        "multinic.kubernetes.host_state:",
        "host_state:",
        ("make", "lint"),
        "syntax-check",
    ),
    Break(
        "types",
        "plugins/module_utils/_findings.py",
        "titles: Optional[Mapping[str, str]] = None) -> str:",
        "titles: Optional[Mapping[str, str]] = None) -> int:",
        ("make", "types"),
        "error:",
    ),
    Break(
        "sanity",
        "plugins/modules/network_facts.py",
        "short_description:",
        "shrt_description:",
        ("make", "sanity"),
        "network_facts",
    ),
    Break("unit", "plugins/module_utils/_balancer.py", "table local", "table main", ("make", "unit"), "FAILED"),
    # Without the closer look nobody knows which packet would pass.
    Break(
        "netns",
        "plugins/module_utils/_wire.py",
        "passes[packet.address] = max(passes[packet.address], packet.size)",
        "pass",
        ("make", "netns"),
        "test_a_black_hole",
    ),
    Break(
        "page", "plugins/module_utils/_page_style.py", ".scroll{overflow:auto;", ".scroll{", ("make", "page"), "FAILED"
    ),
    # No API server answers so, and none is offered. What is wrong with the route or the table the guard would put right.
    Break(
        "molecule",
        "plugins/module_utils/_balancer.py",
        "status_code 200 500",
        "status_code 204",
        ("make", "molecule", "MOLECULE_SCENARIOS=-s default -s apiserver_balancer"),
        "apiserver_balancer",
    ),
    # Accepted, v1.18.3 is refused only for the bundle's sake, and the report does not say what the oldest release is.
    Break(
        "e2e",
        "plugins/module_utils/_versions.py",
        "OLDEST = (1, 19)",
        "OLDEST = (1, 17)",
        ("make", "e2e", "E2E=-x -k unknown"),
        "FAILED",
    ),
)


def prove(change: Break, folder: Path) -> str:
    """Break the line in a fresh clone of what is committed; returns '' or what is wrong with the proof."""
    copy = folder / f"{change.layer}-{abs(hash(change)) % 10000}"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(REPOSITORY), str(copy)], check=True)
    broken = copy / change.path
    text = broken.read_text(encoding="utf-8")
    if change.right not in text:
        return f"{change.path} has no {change.right!r} to break"
    broken.write_text(text.replace(change.right, change.wrong, 1), encoding="utf-8")
    started = time.monotonic()
    done = subprocess.run(
        change.command, check=False, cwd=copy, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    seconds = time.monotonic() - started
    output = done.stdout + done.stderr
    if done.returncode == 0:
        return f"{' '.join(change.command)} stayed green with {change.wrong!r} in {change.path}"
    if change.complaint not in output:
        return f"{' '.join(change.command)} failed without {change.complaint!r}:\n" + "\n".join(
            output.splitlines()[-30:]
        )
    print(
        f"red as it should be: {change.layer:9} {change.path}: {change.right!r} -> {change.wrong!r} ({seconds:.0f} s)",
        flush=True,
    )
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("layers", nargs="*", metavar="LAYER", help="only these layers")
    layers = parser.parse_args().layers
    known = list(dict.fromkeys(change.layer for change in BREAKS))
    unknown = [layer for layer in layers if layer not in known]
    if unknown:
        parser.error(f"no line is broken for {', '.join(unknown)}: the layers are {', '.join(known)}")
    faults = []
    with tempfile.TemporaryDirectory(prefix="multinic-red-") as folder:
        for change in BREAKS:
            if not layers or change.layer in layers:
                faults.append(prove(change, Path(folder)))
    for fault in filter(None, faults):
        print(f"NOT PROVED: {fault}")
    return 1 if any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
