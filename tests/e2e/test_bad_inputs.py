# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every bad input against real hosts: the installation refuses each with its one message, and has changed nothing.

``make test-all`` runs it, ``make test`` does not: the same table is planned by the unit tests in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bad_inputs import BAD_INPUTS, BadInput, write_inventory
from harness import Lab, Run, difference

pytestmark = pytest.mark.slow

# Runs that only read may go side by side.
AT_ONCE = 2
# ansible-playbook's status when hosts failed, or when some could not be reached.
REFUSED = (2, 4)


class Outcome(NamedTuple):
    """What one run of the installation gave, and the findings that it wrote as data."""

    run: Run
    findings: list[dict[str, Any]]


@pytest.fixture(scope="module")
def untouched(seed_lab: Lab) -> dict[str, str]:
    """What the hosts look like before anything ran on them."""
    # The first ssh and sudo of a user leave their own traces; they must not count.
    seed_lab.snapshot()
    return seed_lab.snapshot()


@pytest.fixture(scope="module")
def outcomes(
    seed_lab: Lab,
    untouched: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[dict[str, Future[Outcome]]]:
    """The runs of all selected rows, in the tests' order, two at a time."""
    folder = tmp_path_factory.mktemp("bad-inputs")

    def install(position: int, row: BadInput) -> Outcome:
        lab = Lab(seed_lab.inventory.name, seed_lab.name)
        lab.inventory = write_inventory(row, seed_lab.inventory, folder / row.id / "inventory")
        lab.runs = 100 + position  # its log has a name of its own
        report = folder / row.id / "report.json"
        run = lab.play("cluster", "-e", f"preflight_report_path={report}", expect=None)
        return Outcome(run, _findings(report))

    selected = [row for item in request.session.items if (row := _row_of(item))]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield {row.id: pool.submit(install, position, row) for position, row in enumerate(selected)}
    finally:
        pool.shutdown(cancel_futures=True)


def _row_of(item: Any) -> BadInput | None:
    """The row of a test of this file that is to run."""
    return item.callspec.params.get("row") if item.path == Path(__file__) and hasattr(item, "callspec") else None


def _findings(report: Path) -> list[dict[str, Any]]:
    if not report.exists():
        return []
    found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["findings"]
    return found


@pytest.mark.parametrize("row", BAD_INPUTS, ids=lambda row: row.id)
def test_one_message_and_no_change(row: BadInput, outcomes: dict[str, Future[Outcome]]) -> None:
    run, findings = outcomes[row.id].result()
    assert run.returncode in REFUSED, run.tail()
    assert not run.changed(), f"hosts changed: {run.changed()}"
    told = [item for item in findings if item["severity"] == "error" and item["variable"] == row.variable]
    assert {item["host"] for item in told} == set(row.where), run.tail()
    assert all(row.found in item["found"] and row.remedy in item["remedy"] for item in told), run.tail()
    # The report on the screen is wrapped, so words are looked for as they stand between any white space.
    screen = " ".join(run.output.split())
    words = [row.variable, row.remedy, *(host for host in row.where if host)]
    missing = [word for word in words if " ".join(word.split()) not in screen]
    assert not missing, f"the report lacks {missing}:\n{run.tail()}"


def test_nothing_so_far_has_changed_a_host(seed_lab: Lab, untouched: dict[str, str], outcomes: Any) -> None:
    for outcome in outcomes.values():
        outcome.result()
    changes = difference(untouched, seed_lab.snapshot())
    assert not changes, json.dumps(changes, indent=1)[:8000]
