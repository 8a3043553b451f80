# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outside address on a host: configuration, units, who tells of the API server, proof and comparison."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_outside as check
from ansible_collections.multinic.kubernetes.plugins.module_utils import _claims as claims
from ansible_collections.multinic.kubernetes.plugins.module_utils import _outside as outside
from ansible_collections.multinic.kubernetes.plugins.module_utils._apiserver_outside import Answer
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._packets import Neighbour, checksum
from ansible_collections.multinic.kubernetes.plugins.module_utils._proof_outside import judge_outside, outside_claims
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import Seen
from ansible_collections.multinic.kubernetes.plugins.module_utils._verify_outside import compare_outside

ADDRESS, SIX = "192.168.160.250", "fd00:160::250"
CARDS = {
    "master1": {"interface": "ens33", "address": "192.168.160.243"},
    "master2": {"interface": "eno1", "address": "192.168.160.244"},
}
PLAN: dict[str, Any] = {
    "apiserver": {
        "port": 6443,
        "outside": [{"address": ADDRESS, "router_id": 250, "network": "192.168.160.0/23", "cards": CARDS}],
    },
    "hosts": {"master1": {"address": "192.168.253.129"}, "master2": {"address": "192.168.253.128"}},
}


def state(host: str = "master1", plan: dict[str, Any] | None = None, drained: Sequence[str] = ()) -> dict[str, Any]:
    return outside.outside_state(plan or PLAN, host, "# program\n", "/readyz", drained)


def content(path: str, **more: Any) -> str:
    return next(str(item["content"]) for item in state(**more)["files"] if item["path"] == path)


# --- what is put on a host --------------------------------------------------------------------------------------------


def test_each_control_plane_speaks_from_its_card_to_the_others() -> None:
    for host, other in (("master1", "master2"), ("master2", "master1")):
        config = content(outside.OUTSIDE_CONFIG, host=host)
        assert f"interface {CARDS[host]['interface']}\n" in config
        assert f"unicast_src_ip {CARDS[host]['address']}\n" in config
        assert f"unicast_peer {{\n        {CARDS[other]['address']}\n    }}" in config
        assert f"virtual_ipaddress {{\n        {ADDRESS}/32 dev {CARDS[host]['interface']}\n" in config
        assert "virtual_router_id 250\n" in config
        assert "virtual_server" not in config, "the balancer's table is another keepalived's"
        assert outside.configured_addresses(config) == [ADDRESS]


def test_a_host_without_a_card_gets_nothing() -> None:
    assert state("node01")["files"] == state("node01")["units"] == []


def test_both_families_have_an_instance() -> None:
    six = {"address": SIX, "router_id": 80, "network": "fd00:160::/64", "cards": {"master1": {**CARDS["master1"]}}}
    plan = {**PLAN, "apiserver": {**PLAN["apiserver"], "outside": [*PLAN["apiserver"]["outside"], six]}}
    config = content(outside.OUTSIDE_CONFIG, plan=plan)
    assert config.count("vrrp_instance ") == 2
    assert f"{SIX}/128 dev ens33" in config
    assert config.count("unicast_peer") == 1, "who has no peers sends multicast"
    assert outside.configured_addresses(config) == [ADDRESS, SIX]
    unit = content(f"{outside.UNIT_FOLDER}/{outside.OUTSIDE_UNIT}", plan=plan)
    assert unit.count("ExecStopPost=-/sbin/ip address del") == 2


def test_a_drained_one_is_below_those_that_are_ready_and_above_those_that_are_not() -> None:
    drained = content(outside.OUTSIDE_CONFIG, drained=["192.168.253.129"])
    assert f"priority {outside.PRIORITY_DRAINED}\n" in drained
    assert f"priority {outside.PRIORITY}\n" in content(outside.OUTSIDE_CONFIG, drained=["192.168.253.128"])
    assert outside.PRIORITY + check.UNREADY < outside.PRIORITY_DRAINED < outside.PRIORITY
    assert check.NEVER <= -254, "keepalived's own limit for taking no part"


def test_other_peers_are_a_reload_and_no_restart() -> None:
    item = PLAN["apiserver"]["outside"][0]
    more = {**item, "cards": {**CARDS, "master3": {"interface": "ens33", "address": "192.168.160.245"}}}
    before, after = state(), state(plan={**PLAN, "apiserver": {**PLAN["apiserver"], "outside": [more]}})
    changed = [new for old, new in zip(before["files"], after["files"], strict=True) if old != new]
    assert [(file["path"], file.get("restart"), file["reload"]) for file in changed] == [
        (outside.OUTSIDE_CONFIG, None, [outside.OUTSIDE_UNIT])
    ]


def test_it_leaves_with_all_its_files_and_the_last_started_first() -> None:
    removal = outside.outside_removal()
    assert [unit["name"] for unit in removal["units"]] == [outside.CHECK_UNIT, outside.OUTSIDE_UNIT]
    assert {file["path"] for file in removal["files"]} == {file["path"] for file in state()["files"]}
    assert removal["files"][-1]["path"] == outside.OUTSIDE_CONFIG, "by it facts tell that there is something"


@pytest.mark.parametrize("text", ["", "# holds \n", "# holds nobody\n", "x # holds 192.0.2.1\n"])
def test_a_configuration_that_tells_no_address(text: str) -> None:
    assert outside.configured_addresses(text) == []


# --- who tells of the API server --------------------------------------------------------------------------------------

OK, NO, SILENT = Answer(ready=True), Answer(ready=False), Answer(ready=False, silent=True)


@pytest.mark.parametrize(
    ("start", "answers", "value"),
    [
        (check.NEVER, [], check.NEVER),
        (check.NEVER, [NO, SILENT, NO], check.NEVER),
        (check.NEVER, [OK], check.NEVER),
        (check.NEVER, [OK, OK], check.READY),
        (check.NEVER, [OK, NO, OK], check.NEVER),
        (check.READY, [NO], check.READY),
        (check.READY, [NO, OK, NO], check.READY),
        (check.READY, [NO, NO], check.UNREADY),
        (check.READY, [SILENT], check.UNREADY),
        (check.UNREADY, [OK], check.UNREADY),
        (check.UNREADY, [OK, NO, OK, OK], check.READY),
    ],
)
def test_verdict(start: int, answers: Sequence[Answer], value: int) -> None:
    verdict = check.Verdict(start)
    for answer in answers:
        verdict.hear(answer)
    assert verdict.value == value


def test_the_api_server_is_given_up_within_three_seconds() -> None:
    takeover = 3 * 0.5 + 0.5  # keepalived's master down interval, and a skew of less than one advert
    assert check.INTERVAL + check.RETRY * (check.BAD - 1) + takeover <= 3
    assert check.INTERVAL + check.PATIENCE + takeover <= 4, "a silent one"
    assert outside.ADVERT_INTERVAL == 0.5


def test_what_is_written_is_what_keepalived_reads(tmp_path: Path) -> None:
    file = tmp_path / "priority"
    answers = iter([OK, OK, NO, NO, NO])
    seen = []

    def look() -> Answer:
        seen.append(file.read_text(encoding="ascii").strip() if file.exists() else "")
        return next(answers)

    check.watch(look, str(file), rounds=5)
    assert seen == ["", "", "0", "0", "-150"]
    file.write_text("0\n", encoding="ascii")  # by somebody else
    check.watch(lambda: NO, str(file), rounds=1)
    assert check.read(str(file)) == check.READY, "what another run found holds until the verdict changes"
    check.watch(lambda: OK, str(tmp_path / "none" / "priority"), rounds=1)


def test_who_accepts_and_says_nothing_is_silent_and_who_refuses_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        answer = check.ask("127.0.0.1", port, "/readyz", patience=0.3)
        assert (answer.ready, answer.silent) == (False, True)

        def hang_up() -> None:
            for _turn in range(2):
                door.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        answer = check.ask("127.0.0.1", port, "/readyz")
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        assert (answer.ready, answer.silent) == (False, False)
    answer = check.ask("127.0.0.1", port, "/readyz")
    assert (answer.ready, answer.silent) == (False, False)
    assert "refused" in answer.told


# --- packets ----------------------------------------------------------------------------------------------------------

MAC = "52:54:00:00:00:99"


def test_a_probe_for_an_ipv6_address_is_the_standards() -> None:
    frame = claims.neighbour_probe(MAC, SIX)
    assert frame[:14].hex() == "3333ff000250" + MAC.replace(":", "") + "86dd"
    assert frame[14:22].hex() == "60000000" + "0018" + "3a" + "ff"
    assert frame[22:38] == bytes(16), "from nobody, so that nobody learns anything from it"
    assert frame[38:54].hex() == "ff0200000000000000000001ff000250"
    message = frame[54:]
    assert message[0] == 135
    pseudo = frame[22:54] + bytes((0, 0, 0, len(message))) + bytes((0, 0, 0, 58))
    assert checksum(pseudo + message) == 0


def answer_frame(option: bytes = b"", kind: int = 136, hops: int = 255) -> bytes:
    message = bytes((kind, 0, 0, 0, 0x20, 0, 0, 0)) + socket.inet_pton(socket.AF_INET6, SIX) + option
    header = bytes((0x60, 0, 0, 0, 0, len(message), 58, hops)) + bytes(32)
    return bytes.fromhex("333300000001" + "525400000001" + "86dd") + header + message


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (answer_frame(), Neighbour(SIX, "52:54:00:00:00:01")),
        (answer_frame(b"\x02\x01" + bytes.fromhex(MAC.replace(":", ""))), Neighbour(SIX, MAC)),
        (answer_frame(kind=135), None),
        (answer_frame(hops=64), None),
        (answer_frame()[:70], None),
        (b"", None),
    ],
)
def test_answers_of_neighbours(frame: bytes, expected: Neighbour | None) -> None:
    assert claims.neighbour_answer(frame) == expected


def advert_frame(version: int = 3, router_id: int = 250, protocol: int = 112, kind: int = 1, options: int = 0) -> bytes:
    header = bytes((0x45 + options, 0, 0, 0, 0, 0, 0, 0, 255, protocol, 0, 0, 192, 168, 160, 2, 224, 0, 0, 18))
    message = bytes((version << 4 | kind, router_id, 100, 1, 0, 100, 0, 0, 192, 168, 160, 250))
    return bytes.fromhex("01005e000012" + "00005e0001fa" + "0800") + header + bytes(4 * options) + message


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (advert_frame(), claims.Advert("192.168.160.2", 250, 3)),
        (advert_frame(version=2, router_id=7), claims.Advert("192.168.160.2", 7, 2)),
        (advert_frame(options=2), claims.Advert("192.168.160.2", 250, 3)),
        (advert_frame(protocol=6), None),
        (advert_frame(kind=2), None),
        (advert_frame()[:40], None),
        (b"", None),
        (
            bytes.fromhex("333300000012" + "00005e0002fa" + "86dd" + "6000000000187" + "0ff")
            + socket.inet_pton(socket.AF_INET6, "fe80::2")
            + bytes(16)
            + bytes((0x31, 80, 100, 1, 0, 100, 0, 0)),
            claims.Advert("fe80::2", 80, 3),
        ),
    ],
)
def test_adverts(frame: bytes, expected: claims.Advert | None) -> None:
    assert claims.advert(frame) == expected


# --- the proof --------------------------------------------------------------------------------------------------------


def judged(claim: dict[str, Any], **facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = Findings()
    told = {"address": ADDRESS, "interface": "ens33", "macs": [], "adverts": [], **claim}
    judge_outside(Seen("master1", {}, {}, {"outside": [told]}), facts, PLAN, found)
    return [(item.host, item.variable, item.found) for item in found.items]


def test_who_has_a_part_asks_on_its_own_card() -> None:
    assert outside_claims(PLAN, "master2") == [{"address": ADDRESS, "interface": "eno1"}]
    assert outside_claims(PLAN, "node01") == []


HOLDS = {"links": [{"mac": MAC}], "kubernetes": {"outside": [ADDRESS]}}


def test_somebody_who_has_the_address_is_told_and_the_holder_is_not() -> None:
    expected = [("master1", "apiserver_outside_address", f"{MAC} answers for {ADDRESS} on ens33")]
    assert judged({}) == []
    assert judged({"macs": [MAC]}) == expected
    assert judged({"macs": [MAC]}, master2=HOLDS) == []
    assert judged({"macs": [MAC]}, master2={**HOLDS, "kubernetes": {}}) == expected
    assert judged({"macs": [MAC]}, node01=HOLDS) == expected, "it has no part in the address"


def test_a_host_that_has_the_address_on_a_card_is_told_by_the_plan_alone() -> None:
    has = {"links": [{"name": "ens33", "mac": MAC, "addresses": [{"address": ADDRESS, "prefix": 23}]}]}
    assert judged({"macs": [MAC]}, node01=has) == []


def test_another_virtual_router_of_the_same_id_is_told_and_our_own_is_not() -> None:
    def advert(source: str, router_id: int = 250) -> dict[str, Any]:
        return {"adverts": [{"source": source, "router_id": router_id, "version": 3}]}

    expected = "192.168.160.2 speaks VRRP on ens33 with the virtual router id 250"
    assert judged(advert("192.168.160.2")) == [("master1", "apiserver_outside_router_id", expected)]
    assert judged(advert("192.168.160.2", 7)) == []
    assert judged(advert("192.168.160.244")) == [], "a peer's unicast"


# --- what is seen afterwards ------------------------------------------------------------------------------------------


def compared(**hosts: Any) -> tuple[list[str], list[str], list[str]]:
    """hosts: whether each has the address, or all that is told of it."""
    found = Findings()
    told = {
        name: {"outside": [{"address": ADDRESS, "held": False, "error": "", "certificate": "", **entry}]}
        for name, entry in hosts.items()
    }
    tested, untested = compare_outside(PLAN, told, found)
    return [f"{item.host}: {item.found}" for item in found.items], tested, untested


def test_one_holder_is_as_planned() -> None:
    seen = f"{ADDRESS} is on master2 (eno1), and the API answers there"
    assert compared(master1={}, master2={"held": True}) == ([], [seen], [])
    assert compared(master2={"held": True}) == ([], [seen], [])


def test_no_holder_and_two_are_errors() -> None:
    assert compared(master1={}, master2={})[0] == [f": {ADDRESS} is on no control plane"]
    both = f"{ADDRESS} is on master1 and master2 at once"
    assert compared(master1={"held": True}, master2={"held": True})[0] == [f"master1: {both}", f"master2: {both}"]


def test_a_limited_run_does_not_miss_the_holder() -> None:
    assert compared(master1={}) == ([], [], [f"{ADDRESS}: not on master1; master2 was not looked at"])


def test_a_certificate_without_the_address_is_told_with_what_to_do() -> None:
    error = "certificate is not valid for '192.168.160.250'"
    found, _tested, _untested = compared(master1={"held": True, "certificate": error}, master2={"error": error})
    assert found == [
        f"master1: its API server's certificate is not good for {ADDRESS}: {error}",
        f"master2: the API at {ADDRESS}, which is on master1: {error}",
    ]
