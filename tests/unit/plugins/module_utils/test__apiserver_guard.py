# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard decides. That it does it is for the layers of namespaces and of molecule to show."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_guard as guard
from ansible_collections.multinic.kubernetes.plugins.module_utils import _balancer as balancer
from ansible_collections.multinic.kubernetes.plugins.module_utils._apiserver_guard import (
    Action,
    Memory,
    Route,
    Seen,
    Service,
    Settings,
)

PLANS = {
    "IPv4": ("10.103.97.2", "192.168.253.131", ("192.168.253.129", "192.168.253.128", "192.168.253.130")),
    "IPv6": ("fd00:103::2", "fd00:253::131", ("fd00:253::129", "fd00:253::128", "fd00:253::130")),
}
NODEST, QUIESCENT = "net.ipv4.vs.expire_nodest_conn", "net.ipv4.vs.expire_quiescent_template"
GOOD = (guard.MASQUERADE, guard.WEIGHT)


class Case:
    """A host of one family, as it should be."""

    def __init__(self, family: str) -> None:
        self.vip, self.source, self.masters = PLANS[family]
        self.settings = Settings(
            vip=self.vip,
            port=6443,
            source=self.source,
            interface="ens32",
            name="apiserver.cluster.local",
            last_resort=self.masters[0],
            sysctls={NODEST: "1", QUIESCENT: "1"},
            balancer_unit="balancer.service",
            route_unit="route.service",
            folder="/run/balancer",
            status="/run/guard/status.json",
            ca="/etc/kubernetes/pki/ca.crt",
            certificates="/usr/local/lib/certificates.py",
            config="/etc/multinic/apiserver-balancer.conf",
        )

    def at(self, server: str) -> str:
        return guard.where(server, 6443)

    def service(self, *servers: str, **more: Any) -> Service:
        return Service(**{"scheduler": "rr", "persistent": False, "servers": dict.fromkeys(servers, GOOD), **more})

    def seen(self, now: float = 100.0, **more: Any) -> Seen:
        right: dict[str, Any] = {
            "route": Route(True, self.source, "lo"),
            "card": "ens32",
            "process": 7,
            "healthy": frozenset(self.masters),
            "service": self.service(*self.masters),
            "sysctls": {NODEST: "1", QUIESCENT: "1"},
        }
        return Seen(now=now, **{**right, **more})


@pytest.fixture(params=list(PLANS))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def actions(decision: guard.Decision) -> list[Action]:
    return [action for fault in decision.faults for action in fault.actions]


def texts(decision: guard.Decision) -> list[str]:
    return [message.text for message in decision.messages]


class Clock:
    """Looks at the same thing again and again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.memory = Memory()
        self.said: list[str] = []
        self.repairs: list[float] = []

    def look(self, seen: Seen) -> guard.Decision:
        decision = guard.decide(self.settings, seen, self.memory)
        self.memory = decision.memory
        self.said += texts(decision)
        self.repairs += [seen.now] * len(decision.faults)
        return decision


def test_nothing_is_done_while_all_is_well(case: Case) -> None:
    decision = guard.decide(case.settings, case.seen(), Memory())
    assert (decision.faults, decision.messages, decision.doubtful) == ((), (), False)


@pytest.mark.parametrize(
    ("change", "thing", "kinds"),
    [
        ({"route": None}, "route", ["set_route"]),
        ({"route": Route(False, "", "ens33")}, "route", ["set_route"]),
        ({"route": Route(True, "192.0.2.9", "lo")}, "route source", ["set_route"]),
        ({"route": Route(True, "", "lo")}, "route source", ["set_route"]),
        ({"sysctls": {NODEST: "0", QUIESCENT: "1"}}, f"sysctl {NODEST}", ["set_sysctl"]),
        ({"sysctls": {QUIESCENT: "0"}}, f"sysctl {QUIESCENT}", ["set_sysctl"]),
        ({"process": 0, "units": {"balancer.service": "failed"}}, "keepalived", ["start_unit"]),
    ],
)
def test_what_can_be_only_wrong_is_put_right_at_once(
    case: Case, change: dict[str, Any], thing: str, kinds: list[str]
) -> None:
    decision = guard.decide(case.settings, case.seen(**change), Memory())
    assert [fault.thing for fault in decision.faults] == [thing]
    assert [action.kind for action in actions(decision)] == kinds
    assert len(decision.messages) == 1


def table_faults(case: Case) -> dict[str, tuple[dict[str, Any], list[Action]]]:
    first, second, third = case.masters
    stranger = case.source
    altered = dict.fromkeys(case.masters, GOOD)
    return {
        "virtual server": (
            {"service": None},
            [Action("add_service"), *(Action("add_server", (server, 1)) for server in sorted(case.masters))],
        ),
        "virtual server settings": (
            {"service": case.service(*case.masters, scheduler="sh")},
            [Action("set_service")],
        ),
        "servers missing": ({"service": case.service(first, second)}, [Action("add_server", (third, 1))]),
        "servers foreign": (
            {"service": case.service(*case.masters, stranger)},
            [Action("remove_server", (stranger,))],
        ),
        "servers altered": (
            {"service": case.service(servers={**altered, second: (3, 1), third: (0, 0)})},
            [Action("set_server", (server, 1)) for server in sorted((second, third))],
        ),
        "keepalived halted": ({"halted": (7, 8)}, [Action("go_on", (7, 8))]),
    }


@pytest.mark.parametrize(
    "thing",
    [
        "virtual server",
        "virtual server settings",
        "servers missing",
        "servers foreign",
        "servers altered",
        "keepalived halted",
    ],
)
def test_the_table_is_put_right_when_the_difference_lasts(case: Case, thing: str) -> None:
    change, expected = table_faults(case)[thing]
    clock = Clock(case.settings)
    first = clock.look(case.seen(100.0, **change))
    assert (first.faults, first.doubtful) == ((), True)
    second = clock.look(case.seen(100.0 + guard.DOUBT, **change))
    assert [fault.thing for fault in second.faults] == [thing]
    assert actions(second) == expected
    assert len(clock.said) == 1


def test_a_difference_that_keepalived_is_just_making_is_not_touched(case: Case) -> None:
    """At each look another one: it is at work."""
    first, second, _third = case.masters
    clock = Clock(case.settings)
    looks: list[dict[str, Any]] = [
        {"service": case.service(first)},
        {"service": case.service(first, second)},
        {},
        {"service": None},
        {"service": None, "process": 9},
        {},
    ]
    for number, change in enumerate(looks):
        assert clock.look(case.seen(100.0 + number, **change)).faults == ()


def test_a_dead_server_that_keepalived_took_out_is_not_put_back(case: Case) -> None:
    first, second, third = case.masters
    seen = case.seen(healthy=frozenset((first, second)), service=case.service(first, second))
    assert guard.find_faults(case.settings, seen) == ([], {})
    stays = case.seen(healthy=frozenset((first, second)))
    assert [fault.actions for fault in guard.find_faults(case.settings, stays)[0]] == [
        (Action("remove_server", (third,)),)
    ]


def test_a_drained_server_keeps_the_weight_0_and_gets_it_back(case: Case) -> None:
    first, second, third = case.masters
    drained = frozenset((third,))
    table = {**dict.fromkeys((first, second), GOOD), third: (0, 0)}
    assert guard.find_faults(case.settings, case.seen(drained=drained, service=case.service(servers=table))) == ([], {})
    (altered,) = guard.find_faults(case.settings, case.seen(drained=drained))[0]
    assert altered.actions == (Action("set_server", (third, 0)),)
    (flushed,) = guard.find_faults(case.settings, case.seen(drained=drained, service=None))[0]
    assert Action("add_server", (third, 0)) in flushed.actions


def test_weights_are_read_from_the_configuration_that_keepalived_gets(case: Case) -> None:
    first, second, third = case.masters
    way = balancer.Balanced(case.settings.vip, case.settings.source, (first, second), first, drained=(second, third))
    config = balancer.keepalived_config([way], "apiserver.cluster.local", 6443)
    assert guard.weights_of(config) == {first: 1, second: 0, third: 0}
    assert guard.weights_of("") == {}
    # Somebody's own hand in the file is no reason to end.
    assert guard.weights_of("real_server\nweight 1\nreal_server 192.0.2.1 6443 {\nweight\nweight x\nweight 3\n") == {
        "192.0.2.1": 3
    }


def test_the_file_of_a_server_that_is_no_longer_balanced_does_not_count(case: Case, tmp_path: Path) -> None:
    config = tmp_path / "keepalived.conf"
    settings = case.settings._replace(folder=str(tmp_path), config=str(config), status=str(tmp_path / "status.json"))
    program = guard.Guard(settings, str(config))
    try:
        for server in case.masters:
            (tmp_path / f"{guard.UP}{server}").touch()
        assert program.healthy() == frozenset(case.masters)
        for servers in (case.masters[:2], case.masters[:1]):
            way = balancer.Balanced(settings.vip, settings.source, tuple(servers), servers[0])
            new = tmp_path / "new"
            new.write_text(balancer.keepalived_config([way], settings.name, settings.port), encoding="utf-8")
            new.rename(config)
            assert program.healthy() == frozenset(servers)
    finally:
        program.events.close()


def test_a_server_at_another_port_is_another_server(case: Case) -> None:
    stranger = f"{case.masters[0]} 9999"
    seen = case.seen(service=case.service(*case.masters, stranger))
    (fault,) = guard.find_faults(case.settings, seen)[0]
    assert fault.actions == (Action("remove_server", (stranger,)),)
    assert f"took {guard.where(case.masters[0], 9999)} out of" in fault.told


def test_the_last_resort_belongs_there_while_no_server_is_healthy(case: Case) -> None:
    resort = case.masters[0]
    fine = case.seen(healthy=frozenset(), service=case.service(resort))
    assert guard.find_faults(case.settings, fine) == ([], {})
    flushed, _notes = guard.find_faults(case.settings, case.seen(healthy=frozenset(), service=None))
    assert flushed[0].actions == (Action("add_service"), Action("add_server", (resort, 1)))


def test_servers_are_never_taken_out_because_keepalived_tells_nothing(case: Case) -> None:
    """It may have lost the means to tell. The table is left as it is then, and that is said."""
    clock = Clock(case.settings)
    for second in range(10):
        assert clock.look(case.seen(100.0 + second, healthy=frozenset())).faults == ()
    assert len(clock.said) == 1
    assert "keepalived knows of no healthy server" in clock.said[0]


@pytest.mark.parametrize(
    ("change", "words", "over"),
    [
        (
            {"route": None, "units": {"route.service": "inactive"}},
            "route.service was stopped, so the route to",
            "route.service runs again",
        ),
        (
            {"process": 0, "service": None, "units": {"balancer.service": "inactive"}},
            "balancer.service was stopped, so nobody looks after",
            "balancer.service runs again",
        ),
        (
            {"process": 0, "service": None, "units": {"balancer.service": "masked"}},
            "balancer.service was stopped",
            "balancer.service runs again",
        ),
        ({"card": "", "route": None, "others": ("192.0.2.7",)}, "any more; ens32 has 192.0.2.7.", "is back"),
        ({"card": "ens9"}, "is on ens9 now, planned ens32", "is on ens32 again"),
        (
            {"route": Route(True, "192.0.2.7", "kube-ipvs0", True)},
            "is an address of kube-ipvs0 now, so its route is not touched",
            "is on no card any more",
        ),
        ({"certificates": {"m1": "certificate has expired"}}, "certificate has expired. Clients refuse it", "trouble"),
    ],
)
def test_what_is_somebodys_wish_or_beyond_repair_is_said_once_and_left(
    case: Case, change: dict[str, Any], words: str, over: str
) -> None:
    clock = Clock(case.settings)
    for second in range(20):
        assert clock.look(case.seen(100.0 + second, **change)).faults == ()
    assert len(clock.said) == 1
    assert words in clock.said[0]
    for second in range(20, 30):
        clock.look(case.seen(100.0 + second))
    assert len(clock.said) == 2 or "is on ens9" in clock.said[0]
    assert over in clock.said[1]


def test_a_flap_of_the_address_is_not_worth_a_word(case: Case) -> None:
    clock = Clock(case.settings)
    for now in (100.0, 101.0, 102.0):
        assert clock.look(case.seen(now, card="", route=None)).faults == ()
    decision = clock.look(case.seen(103.0, route=None))
    assert actions(decision) == [Action("set_route")]
    assert len(clock.said) == 1
    assert "put the route" in clock.said[0]


def test_keepalived_that_systemd_starts_again_is_systemds_business(case: Case) -> None:
    clock = Clock(case.settings)
    for second in range(9):
        decision = clock.look(
            case.seen(100.0 + second, process=0, service=None, units={"balancer.service": "activating"})
        )
        assert decision.faults == ()
    assert clock.said == []
    clock.look(case.seen(111.0, process=0, service=None, units={"balancer.service": "activating"}))
    assert "has not come up for 10 seconds" in clock.said[0]


def test_a_unit_that_is_being_stopped_is_waited_for(case: Case) -> None:
    """Its own ExecStop takes the route away, before systemd says that the unit is inactive."""
    decision = guard.decide(case.settings, case.seen(route=None, units={"route.service": "deactivating"}), Memory())
    assert (decision.faults, decision.messages, decision.doubtful) == ((), (), True)


def test_a_fight_is_said_once_and_given_up_more_and_more(case: Case) -> None:
    """Somebody deletes the route after each repair, for ten minutes."""
    clock = Clock(case.settings)
    for tenth in range(6000):
        clock.look(case.seen(100.0 + tenth / 10, route=None))
    assert [text for text in clock.said if "somebody else wants it otherwise" in text] == clock.said[-1:]
    assert len(clock.said) == guard.FIGHT
    pauses = [after - before for before, after in zip(clock.repairs[guard.FIGHT - 1 :], clock.repairs[guard.FIGHT :])]
    assert pauses[:4] == pytest.approx([2, 4, 8, 16], abs=0.2)
    assert max(pauses) == pytest.approx(guard.LONGEST_WAIT, abs=0.2)
    # It is over when it has been left alone for five minutes.
    for second in range(700, 1100):
        clock.look(case.seen(float(second)))
    assert clock.said[-1] == "route: it has stayed as planned for 5 minutes"
    assert guard.decide(case.settings, case.seen(1100.0, route=None), clock.memory).faults


def test_a_slow_one_is_repaired_each_time_but_not_told_each_time(case: Case) -> None:
    """A program that does it twice a minute, for two hours."""
    clock = Clock(case.settings)
    for half in range(240):
        clock.look(case.seen(100.0 + 30 * half, route=None))
    assert len(clock.repairs) == 240
    assert guard.LINES <= len(clock.said) <= 3 * guard.LINES
    assert "no more of it for an hour" in clock.said[guard.LINES - 1]


def test_faults_of_all_kinds_at_the_pace_of_a_test_are_no_fight(case: Case) -> None:
    """Seven kinds in turn, each a second after the one before."""
    clock = Clock(case.settings)
    changes: list[dict[str, Any]] = [
        {"route": None},
        {"route": Route(True, "192.0.2.9", "lo")},
        {"sysctls": {NODEST: "0", QUIESCENT: "1"}},
        {"sysctls": {NODEST: "1", QUIESCENT: "0"}},
        *(table_faults(case)[thing][0] for thing in ("virtual server", "servers missing", "servers foreign")),
    ]
    for number in range(105):
        change = changes[number % len(changes)]
        if not clock.look(case.seen(100.0 + 1.3 * number, **change)).faults:
            clock.look(case.seen(100.5 + 1.3 * number, **change))
        clock.look(case.seen(100.6 + 1.3 * number))
    assert len(clock.repairs) == 105
    assert not [text for text in clock.said if "somebody else wants it otherwise" in text]


def test_a_repair_that_fails_is_told_once_and_tried_again(case: Case) -> None:
    clock = Clock(case.settings)
    clock.look(case.seen(100.0, route=None))
    for tenth in range(1, 200):
        clock.look(case.seen(100.0 + tenth / 10, route=None, failures={"route": "Operation not permitted"}))
    assert len([text for text in clock.said if "could not do this" in text]) == 1
    assert 15 <= len(clock.repairs) <= 21, "once a second"
    assert not [text for text in clock.said if "somebody else" in text]


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(0, 1))
def test_memory_does_not_grow_and_lines_are_few(faults: list[int], family: int) -> None:
    case = Case(list(PLANS)[family])
    changes: list[dict[str, Any]] = [
        {},
        {"route": None},
        {"service": None},
        {"card": ""},
        {"healthy": frozenset()},
        {"process": 0, "units": {"balancer.service": "failed"}},
        {"sysctls": {NODEST: "0"}},
        {"certificates": {case.masters[0]: "self-signed certificate"}},
    ]
    clock = Clock(case.settings)
    for number, fault in enumerate(faults):
        clock.look(case.seen(100.0 + number, **changes[fault]))
    memory = clock.memory
    assert len(memory.histories) <= 12 and len(memory.said) <= 8
    assert all(len(history.times) <= guard.FIGHT for history in memory.histories.values())
    assert len(clock.said) <= 2 * len(faults)


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=6))
def test_attributes_are_read_as_they_are_written(values: dict[int, bytes]) -> None:
    data = b"".join(guard.attribute(kind, value) for kind, value in values.items())
    assert len(data) % 4 == 0
    assert guard.attributes(data) == values


def test_states_of_units() -> None:
    text = (
        "Id=a.service\nLoadState=loaded\nActiveState=active\n\n"
        "Id=b.service\nLoadState=masked\nActiveState=inactive\n\n"
        "Id=c.service\nLoadState=not-found\nActiveState=inactive\n\n"
        "Id=d.service\nLoadState=masked\nActiveState=active\n"
    )
    assert guard.unit_states(text) == {
        "a.service": "active",
        "b.service": "masked",
        "c.service": "not-found",
        "d.service": "active",
    }


@pytest.mark.parametrize(
    "trouble", [OSError(12, "no memory"), ValueError("x"), KeyError(2), IndexError("x"), struct.error("x")]
)
def test_a_look_that_fails_ends_neither_the_guard_nor_that_of_the_other_family(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched:
        def __init__(self, outcome: Any) -> None:
            self.outcome = outcome
            self.looks = 0
            self.child = None
            self.said: list[str] = []

        def write_status(self) -> None:
            pass

        def look(self) -> float:
            self.looks += 1
            if isinstance(self.outcome, Exception):
                raise self.outcome
            return float(self.outcome)

        def certificates_due(self) -> None:
            pass

        def say(self, message: guard.Message) -> None:
            self.said.append(message.text)

    pauses: list[float] = []

    def wait(_guards: Any, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(guard, "wait", wait)
    ill, well = Watched(trouble), Watched(guard.TICK)
    with pytest.raises(KeyboardInterrupt):
        guard.run_for_ever([ill, well])  # type: ignore[list-item]
    assert (ill.looks, well.looks, pauses) == (2, 2, [guard.TICK] * 2)
    assert ill.said == [f"could not look: {trouble!r}"] * 2 and well.said == []


def test_one_process_at_a_time_looks_at_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes some megabytes for a moment, and two of them, one for each family, were more than the unit may have."""

    class Looking:
        def __init__(self) -> None:
            self.child: object = None
            self.begun = 0

        def write_status(self) -> None:
            pass

        def look(self) -> float:
            return guard.TICK

        def certificates_due(self) -> None:
            if self.child is None and not self.begun:
                self.child = object()
                self.begun += 1

    four, six = Looking(), Looking()
    seen = []

    def wait(_guards: Any, _seconds: float) -> None:
        seen.append((four.child is not None, six.child is not None))
        four.child = None if len(seen) > 1 else four.child  # it takes two looks
        six.child = None
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(guard, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        guard.run_for_ever([four, six])  # type: ignore[list-item]
    assert seen == [(True, False), (True, False), (False, True)]


def test_program_imports_nothing_large() -> None:
    """Each of these would take megabytes on every host for ever."""
    large = ("ssl", "asyncio", "subprocess", "dataclasses", "inspect", "logging", "ansible", "ipaddress")
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='guard'); "
        f"print([name for name in {large!r} if name in sys.modules])"
    )
    # runpy is not counted: it is this test's.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", code, guard.__file__], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_child_that_fails_is_an_error_and_a_good_one_is_heard() -> None:
    assert guard.run("/bin/echo", "good") == "good\n"
    with pytest.raises(OSError, match="/bin/false ended with 1"):
        guard.run("/bin/false")


def test_process_state() -> None:
    assert guard.process_state("self") == ""
    assert guard.process_state("1") in ("S", "R", "D", "I")
    assert guard.process_state("99999999") == ""


def test_addresses_are_packed_as_the_kernel_wants_them(case: Case) -> None:
    kernel = guard.Kernel.__new__(guard.Kernel)
    kernel.settings = case.settings
    kernel.family = socket.AF_INET6 if ":" in case.vip else socket.AF_INET
    kernel.vip = kernel.packed(case.vip)
    named = guard.attributes(kernel.name_of_service())
    assert len(named[guard.ADDR]) == 16
    assert kernel.text(named[guard.ADDR]) == case.vip
    assert named[guard.PORT] == (6443).to_bytes(2, "big")


def resting_table(case: Case) -> dict[str, Any]:
    """keepalived holds the third for unhealthy, and has given it the weight 0."""
    first, second, third = case.masters
    table = {**dict.fromkeys((first, second), GOOD), third: (guard.MASQUERADE, 0)}
    return {
        "healthy": frozenset((first, second)),
        "known": frozenset(case.masters),
        "service": case.service(servers=table),
    }


def test_a_server_that_is_not_ready_keeps_the_requests_it_has(case: Case) -> None:
    assert guard.find_faults(case.settings, case.seen(**resting_table(case))) == ([], {})
    awaited = guard.decide(case.settings, case.seen(**resting_table(case), probing=True), Memory())
    assert (awaited.faults, awaited.doubtful) == ((), True)


def test_a_server_that_is_dead_is_taken_out_so_that_its_connections_end(case: Case) -> None:
    third = case.masters[2]
    seen = case.seen(**resting_table(case), dead=frozenset((third,)))
    (fault,) = guard.decide(case.settings, seen, Memory()).faults
    assert fault.actions == (Action("remove_server", (third,)),)
    assert "it answers no connection" in fault.told


def test_no_server_is_taken_out_for_dead_while_none_is_healthy(case: Case) -> None:
    resort, second, third = case.masters
    table = {resort: GOOD, **dict.fromkeys((second, third), (guard.MASQUERADE, 0))}
    seen = case.seen(
        healthy=frozenset(),
        known=frozenset(case.masters),
        dead=frozenset((second, third)),
        service=case.service(servers=table),
    )
    assert guard.find_faults(case.settings, seen) == ([], {})


def test_a_server_of_the_weight_0_that_keepalived_does_not_know_is_foreign(case: Case) -> None:
    seen = case.seen(**{**resting_table(case), "known": frozenset(case.masters[:2])})
    (fault,) = guard.find_faults(case.settings, seen)[0]
    assert fault.thing == "servers foreign"


def test_probes_tell_who_is_dead_without_waiting() -> None:
    """On loopback addresses: one that listens, one that refuses. That silence counts too is for real networks to show."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        probes = guard.Probes("127.0.0.1", listening.getsockname()[1])
        servers = ("127.0.0.1", "127.0.0.2")
        found: set[str] = set()
        for look in range(4):
            found |= probes.dead(servers, 100.0 + look / 10)
        assert found == {"127.0.0.2"}
        assert probes.dead((), 101.0) == frozenset()
        assert not probes.open
