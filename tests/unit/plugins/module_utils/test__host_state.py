# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _host_state as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._host_state import (
    Found,
    FoundPath,
    FoundUnit,
    StateError,
)


def file(content: str, mode: int = 0o644, **more: Any) -> FoundPath:
    return FoundPath("file", mode=mode, owner="root", group="root", uid=0, gid=0, content=content.encode(), **more)


def params(**more: Any) -> dict[str, Any]:
    return {"name": "t", "swap": True, **more}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/bond0.100/rp_filter", "net/ipv4/conf/bond0.100/rp_filter"),
        ("net.ipv4.conf.bond0/100.rp_filter", "net/ipv4/conf/bond0.100/rp_filter"),
    ],
)
def test_sysctl_path(key: str, path: str) -> None:
    assert core.sysctl_path(key) == path


@pytest.mark.parametrize(
    ("value", "text"), [(True, "1"), (False, "0"), (1, "1"), ("4\t4  1\n", "4 4 1"), ("1024 65535", "1024 65535")]
)
def test_sysctl_value(value: Any, text: str) -> None:
    assert core.sysctl_value(value) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/dev/sda2 none swap sw 0 0\n", "# multinic: /dev/sda2 none swap sw 0 0\n"),
        ("# /dev/sda2 none swap sw 0 0\n", "# /dev/sda2 none swap sw 0 0\n"),
        ("/dev/sda1 /swap ext4 defaults 0 1\n", "/dev/sda1 /swap ext4 defaults 0 1\n"),
        ("/swap.img\tnone\tswap\tsw\t0\t0", "# multinic: /swap.img\tnone\tswap\tsw\t0\t0"),
    ],
)
def test_swap_lines_are_commented_out(before: str, after: str) -> None:
    assert core.without_swap(before) == after
    assert core.without_swap(after) == after


HOSTS = "127.0.0.1 localhost\n127.0.1.1 node01\n"


def test_a_block_is_added_replaced_and_removed() -> None:
    added = core.with_block(HOSTS, "10.0.0.1 a\n", "multinic", "node")
    assert added == HOSTS + "# BEGIN multinic node\n10.0.0.1 a\n# END multinic node\n"
    replaced = core.with_block(added, "10.0.0.2 b", "multinic", "node")
    assert replaced == added.replace("10.0.0.1 a", "10.0.0.2 b")
    assert core.with_block(replaced, "", "multinic", "node") == HOSTS


def test_a_block_of_another_part_is_left_alone() -> None:
    first = core.with_block(HOSTS, "10.0.0.1 a", "multinic", "node")
    both = core.with_block(first, "10.0.0.2 b", "multinic", "other")
    assert core.with_block(both, "", "multinic", "other") == first


def test_a_last_line_without_a_newline_is_not_glued_to_the_block() -> None:
    assert core.with_block("x", "y", "multinic", "node") == "x\n# BEGIN multinic node\ny\n# END multinic node\n"


@pytest.mark.parametrize(
    "text",
    [
        "# BEGIN multinic node\nx\n",
        "x\n# END multinic node\n",
        "# END multinic node\n# BEGIN multinic node\n",
        "# BEGIN multinic node\n# BEGIN multinic node\n# END multinic node\n# END multinic node\n",
    ],
)
def test_a_damaged_block_is_an_error_that_names_the_file(text: str) -> None:
    with pytest.raises(StateError, match=r"/etc/hosts: the managed block .* is damaged"):
        core.with_block(text, "x", "multinic", "node", "/etc/hosts")


lines = st.lists(st.text(alphabet="abc .#1", max_size=8), max_size=6).map(
    lambda parts: "".join(f"{p}\n" for p in parts)
)


@given(lines, lines)
def test_a_block_is_idempotent_and_its_removal_restores_the_text(text: str, content: str) -> None:
    once = core.with_block(text, content, "multinic", "node")
    assert core.with_block(once, content, "multinic", "node") == once
    assert core.with_block(once, "", "multinic", "node") == text


def test_absent_lines_spare_managed_blocks() -> None:
    text = core.with_block(HOSTS, "127.0.1.1 node01", "multinic", "node")
    kept = core.without_lines(text, r"^127\.0\.1\.1\s+(.*\s)?node01(\s|$)")
    assert kept == text.replace(HOSTS, "127.0.0.1 localhost\n")


def test_absent_lines_need_a_regular_expression() -> None:
    with pytest.raises(StateError, match="not a regular expression"):
        core.without_lines("x\n", "(")


def test_a_fresh_host_gets_everything_in_order() -> None:
    wish = params(
        kernel_modules=["br-netfilter"],
        sysctls={"net.bridge.bridge-nf-call-iptables": "1"},
        swap=False,
        directories=[{"path": "/etc/x", "mode": "0750"}],
        files=[{"path": "/etc/x/a", "content": "a\n", "restart": ["chrony"]}],
        links=[{"path": "/etc/x/l", "target": "a"}],
        units=[{"name": "chrony", "enabled": True, "state": "started"}],
    )
    found = Found(
        sysctls={"net.bridge.bridge-nf-call-iptables": None},
        swaps=("/dev/sda2",),
        paths={core.FSTAB: file("/dev/sda2 none swap sw 0 0\n")},
        units={"chrony.service": FoundUnit("loaded", "inactive", "disabled")},
    )
    plan = core.plan(wish, found)
    assert plan.changes == [
        "load kernel module br_netfilter",
        "set sysctl net.bridge.bridge-nf-call-iptables = 1 (was absent)",
        "turn swap off on /dev/sda2",
        "create directory /etc/x",
        "create /etc/modules-load.d/multinic-t.conf",
        "create /etc/sysctl.d/99-zz-multinic-t.conf",
        "create /etc/x/a",
        "link /etc/x/l to a",
        "edit /etc/fstab",
        "mask swap.target",
        "enable chrony.service",
        "start chrony.service",
    ]
    # A unit that is only now started needs no restart; fstab is read by systemd, so it has to be told.
    assert (plan.restarts, plan.daemon_reload, plan.swap_off) == ([], True, True)
    assert plan.systemctl == [
        ("mask", ["swap.target"]),
        ("enable", ["chrony.service"]),
        ("start", ["chrony.service"]),
    ]


def test_a_host_as_desired_has_no_changes() -> None:
    wish = params(
        kernel_modules=["overlay"],
        sysctls={"net.ipv4.ip_forward": 1},
        swap=False,
        directories=[{"path": "/etc/x", "mode": "0755", "owner": "root"}],
        files=[
            {"path": "/etc/x/a", "content": "a\n", "mode": "0600", "owner": "0", "group": "root"},
            {"path": "/usr/local/bin/b", "source": "/s/b", "mode": "0755", "hard_link": True},
            {"path": "/etc/x/gone", "state": "absent"},
        ],
        links=[{"path": "/etc/x/l", "target": "a"}],
        blocks=[{"path": "/etc/hosts", "content": "10.0.0.1 a"}],
        units=[{"name": "chrony", "enabled": True, "state": "started"}],
    )
    binary = FoundPath("file", mode=0o755, size=9, identity=(1, 2))
    found = Found(
        modules=frozenset({"overlay"}),
        sysctls={"net.ipv4.ip_forward": "1\n"},
        paths={
            "/etc/x": FoundPath("directory", mode=0o755, owner="root", uid=0),
            "/etc/x/a": file("a\n", 0o600),
            "/s/b": binary,
            "/usr/local/bin/b": binary,
            "/etc/x/l": FoundPath("link", target="a"),
            "/etc/hosts": file(core.with_block(HOSTS, "10.0.0.1 a", "multinic", "t")),
            core.FSTAB: file("# multinic: /dev/sda2 none swap sw 0 0\n"),
            "/etc/modules-load.d/multinic-t.conf": file(core.modules_file(["overlay"])),
            "/etc/sysctl.d/99-zz-multinic-t.conf": file(core.sysctls_file({"net.ipv4.ip_forward": 1})),
        },
        units={
            "chrony.service": FoundUnit("loaded", "active", "enabled"),
            "swap.target": FoundUnit("masked", "inactive", "masked"),
        },
    )
    plan = core.plan(wish, found)
    assert plan.changes == []
    assert (plan.diff, plan.writes, plan.restarts, plan.daemon_reload) == ([], [], [], False)


RUNNING = {"a.service": FoundUnit("loaded", "active", "enabled")}


def test_a_running_unit_is_restarted_once_for_two_changed_files() -> None:
    files = [{"path": f"/etc/{name}", "content": "new\n", "restart": ["a"]} for name in ("x", "y")]
    plan = core.plan(params(files=files), Found(units=RUNNING))
    assert plan.restarts == ["a.service"]


def test_a_unit_that_fails_again_and_again_is_restarted_with_its_new_file_and_not_started_as_well() -> None:
    units = {"a.service": FoundUnit("loaded", "activating", "enabled", sub="auto-restart")}
    wish = params(
        files=[{"path": "/etc/x", "content": "x", "restart": ["a"]}], units=[{"name": "a", "state": "started"}]
    )
    plan = core.plan(wish, Found(units=units))
    assert (plan.systemctl, plan.restarts) == ([], ["a.service"])


def test_a_unit_is_not_restarted_for_an_unchanged_file() -> None:
    wish = params(files=[{"path": "/etc/x", "content": "x", "restart": ["a"]}])
    assert core.plan(wish, Found(paths={"/etc/x": file("x")}, units=RUNNING)).changes == []


def test_a_restart_that_an_earlier_run_owed_is_made_up_for() -> None:
    plan = core.plan(params(), Found(units=RUNNING, pending_restarts=("a.service",)))
    assert plan.restarts == ["a.service"]
    assert "an earlier run" in plan.changes[0]


def test_a_changed_file_is_read_again_without_a_restart() -> None:
    wish = params(files=[{"path": "/etc/x", "content": "x", "reload": ["a"]}])
    plan = core.plan(wish, Found(units=RUNNING))
    assert (plan.restarts, plan.reloads) == ([], ["a.service"])
    assert plan.changes == ["create /etc/x", "reload a.service (/etc/x changed)"]
    assert core.plan(wish, Found(units={"a.service": FoundUnit("loaded", "inactive")})).reloads == []


def test_a_unit_that_is_restarted_is_not_reloaded_as_well() -> None:
    files = [{"path": "/etc/x", "content": "x", "reload": ["a"]}, {"path": "/etc/y", "content": "y", "restart": ["a"]}]
    plan = core.plan(params(files=files), Found(units=RUNNING))
    assert (plan.restarts, plan.reloads) == (["a.service"], [])


def test_a_reload_that_an_earlier_run_owed_is_made_up_for() -> None:
    plan = core.plan(params(), Found(units=RUNNING, pending_reloads=("a.service",)))
    assert (plan.restarts, plan.reloads) == ([], ["a.service"])
    assert "stopped" in plan.changes[0]


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_a_unit_that_does_not_run_is_not_restarted(active: str) -> None:
    wish = params(files=[{"path": "/etc/systemd/system/a.service", "content": "new\n", "restart": ["a"]}])
    plan = core.plan(wish, Found(units={"a.service": FoundUnit("loaded", active, "disabled")}))
    assert (plan.restarts, plan.changes) == ([], ["create /etc/systemd/system/a.service"])


def test_restarts_follow_the_order_of_units() -> None:
    wish = params(
        files=[{"path": "/etc/x", "content": "x", "restart": ["b", "a", "c"]}],
        units=[{"name": "a", "state": "started"}, {"name": "b", "state": "started"}],
    )
    units = {f"{name}.service": FoundUnit("loaded", "active", "enabled") for name in "abc"}
    assert core.plan(wish, Found(units=units)).restarts == ["a.service", "b.service", "c.service"]


@pytest.mark.parametrize(
    ("path", "units", "reload"),
    [
        ("/etc/systemd/system/a.service", ["a.service"], False),
        ("/etc/systemd/system/a.service.d/10-x.conf", ["a.service"], False),
        ("/etc/systemd/system/a@.service", [], True),
        ("/etc/systemd/system/service.d/x.conf", [], True),
        ("/etc/systemd/system.conf.d/x.conf", [], True),
        ("/etc/other/system/a.service", [], False),
    ],
)
def test_systemd_is_asked_about_changed_units_and_reloads_for_all_else_of_its_files(
    path: str, units: list[str], reload: bool
) -> None:
    plan = core.plan(params(files=[{"path": path, "content": "[Unit]\n"}]), Found())
    assert (plan.changed_units, plan.daemon_reload) == (units, reload)


def test_a_unit_newer_than_systemd_knows_means_a_reload_after_an_interrupted_run() -> None:
    wish = params(units=[{"name": "a", "state": "started"}])
    plan = core.plan(wish, Found(units={"a.service": FoundUnit("loaded", "active", "enabled", need_reload=True)}))
    assert plan.daemon_reload
    assert plan.changes == ["reload systemd: the files of a.service are newer than what it has read"]


@pytest.mark.parametrize(
    ("unit", "found", "verbs"),
    [
        ({"masked": True, "state": "stopped"}, FoundUnit("loaded", "active", "enabled"), ["mask", "stop"]),
        ({"masked": False, "enabled": True}, FoundUnit("masked", "inactive", "masked"), ["unmask", "enable"]),
        ({"enabled": True}, FoundUnit("loaded", "inactive", "static"), []),
        ({"enabled": False}, FoundUnit("loaded", "inactive", "enabled"), ["disable"]),
        ({"enabled": False}, FoundUnit(), []),
        ({"state": "started"}, FoundUnit("loaded", "failed", "enabled"), ["start"]),
        ({"state": "stopped"}, FoundUnit("loaded", "failed", "enabled"), []),
        ({}, FoundUnit("loaded", "active", "disabled"), []),
        ({"state": "started"}, FoundUnit("loaded", "activating", "enabled", sub="start"), []),
        ({"state": "started"}, FoundUnit("loaded", "activating", "enabled", sub="auto-restart"), ["start"]),
        ({"state": "stopped"}, FoundUnit("loaded", "activating", "enabled", sub="auto-restart"), ["stop"]),
    ],
)
def test_units(unit: dict[str, Any], found: FoundUnit, verbs: list[str]) -> None:
    plan = core.plan(params(units=[{"name": "a", **unit}]), Found(units={"a.service": found}))
    assert [verb for verb, _names in plan.systemctl] == verbs


def test_sensitive_content_is_in_no_result() -> None:
    secret = "hunter2-hunter2"
    wish = params(files=[{"path": "/etc/x", "content": secret, "sensitive": True}])
    plan = core.plan(wish, Found(paths={"/etc/x": file(f"old {secret}")}))
    assert secret not in repr((plan.diff, plan.changes, core.redacted(wish)))
    assert plan.writes[0].content == secret.encode()


def test_a_wrong_mode_is_changed_and_told() -> None:
    plan = core.plan(
        params(files=[{"path": "/etc/x", "content": "x", "mode": "0600"}]), Found(paths={"/etc/x": file("x")})
    )
    assert plan.changes == ["change mode 0644 to 0600 of /etc/x"]
    assert [write.action for write in plan.writes] == ["attributes"]


def test_equal_copies_are_told_by_their_digest_and_different_ones_too() -> None:
    wish = params(files=[{"path": "/b", "source": "/s", "mode": "0755", "hard_link": True}])
    source = FoundPath("file", mode=0o755, size=3, identity=(1, 1), digest="aa")
    same = FoundPath("file", mode=0o755, size=3, identity=(2, 5), digest="aa")
    other = FoundPath("file", mode=0o755, size=3, identity=(2, 5), digest="bb")
    assert core.plan(wish, Found(paths={"/s": source, "/b": same})).changes == []
    assert core.plan(wish, Found(paths={"/s": source, "/b": other})).changes == ["change /b"]
    assert core.needs_digests(same, source)
    assert not core.needs_digests(source, source)


def test_a_source_that_is_missing_is_an_error_and_in_check_mode_a_prediction() -> None:
    wish = params(files=[{"path": "/b", "source": "/s"}])
    with pytest.raises(StateError, match="its source /s is absent"):
        core.plan(wish, Found())
    assert core.plan(wish, Found(), check_mode=True).changes == ["create /b"]


def test_a_link_may_leave_what_others_put_there() -> None:
    wish = params(links=[{"path": "/l", "target": "t", "keep_existing": True}])
    assert core.plan(wish, Found(paths={"/l": file("x")})).changes == []
    wish["links"][0]["keep_existing"] = False
    assert core.plan(wish, Found(paths={"/l": file("x")})).changes == ["link /l to t"]


def test_a_link_leads_to_the_first_target_that_is_there() -> None:
    wish = params(links=[{"path": "/l", "targets": ["/a/t", "/b/t"], "keep_existing": True}])
    binary = FoundPath("file", mode=0o755)
    assert core.plan(wish, Found(paths={"/a/t": binary, "/b/t": binary})).changes == ["link /l to /a/t"]
    assert core.plan(wish, Found(paths={"/b/t": binary})).changes == ["link /l to /b/t"]
    assert core.plan(wish, Found()).changes == []
    # In check mode an earlier task may have to bring it yet.
    assert core.plan(wish, Found(), check_mode=True).changes == ["link /l to /a/t"]
    assert {"/a/t", "/b/t"} <= set(core.other_paths(wish))


def test_a_wish_with_a_condition_holds_only_where_the_path_is_there() -> None:
    wish = params(
        files=[{"path": "/etc/cloud/c.cfg", "content": "x", "if_exists": "/etc/cloud"}],
        blocks=[{"path": "/etc/cloud/hosts", "content": "y", "if_exists": "/etc/cloud/hosts"}],
    )
    assert core.plan(wish, Found()).changes == []
    there = {"/etc/cloud": FoundPath("directory"), "/etc/cloud/hosts": file("")}
    assert core.plan(wish, Found(paths=there)).changes == ["create /etc/cloud/c.cfg", "edit /etc/cloud/hosts"]
    assert {"/etc/cloud", "/etc/cloud/hosts"} <= {*core.other_paths(wish), *core.text_paths(wish)}


def test_a_file_of_somebody_else_is_saved_once_and_ours_never() -> None:
    wish = params(files=[{"path": "/etc/x", "content": f"# {core.OURS}\nnew\n", "backup": True}])
    saved = "/etc/x.multinic-saved"
    assert saved in core.other_paths(wish)
    plan = core.plan(wish, Found(paths={"/etc/x": file("theirs\n", 0o640)}))
    assert plan.changes == [f"keep the file found at /etc/x as {saved}", "change /etc/x"]
    assert [(write.action, write.path) for write in plan.writes] == [("save", "/etc/x"), ("file", "/etc/x")]
    assert plan.writes[0].target == saved
    for paths in (
        {},
        {"/etc/x": file("theirs\n"), saved: file("older\n")},
        {"/etc/x": file(f"# {core.OURS}: changes are lost\nold\n")},
    ):
        assert not [write for write in core.plan(wish, Found(paths=paths)).writes if write.action == "save"]


def test_a_block_that_changed_restarts_who_reads_it() -> None:
    wish = params(blocks=[{"path": "/etc/x", "content": "y", "restart": ["a"]}])
    assert core.plan(wish, Found(units=RUNNING)).restarts == ["a.service"]
    assert core.watched_units(wish) == ["a.service"]


def test_the_file_of_the_old_name_goes() -> None:
    """90-… came before 99-sysctl.conf, which is Debian's link to /etc/sysctl.conf."""
    wish = params(sysctls={"net.ipv4.ip_forward": 1})
    new, old = core.sysctls_paths("t")
    assert new > "/etc/sysctl.d/99-sysctl.conf" > old
    found = Found(sysctls={"net.ipv4.ip_forward": "1"}, paths={old: file("x")})
    assert core.plan(wish, found).changes == [f"create {new}", f"remove {old}"]
    assert core.plan(params(sysctls={}), Found(paths={new: file("x")})).changes == [f"remove {new}"]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (params(links=[{"path": "/l"}]), "exactly one of target and targets"),
        (params(links=[{"path": "/l", "target": "a", "targets": ["b"]}]), "exactly one of target and targets"),
        (params(name="a/b"), "name 'a/b' may hold only"),
        (params(files=[{"path": "/x"}]), "exactly one of content and source"),
        (params(files=[{"path": "/x", "content": "", "source": "/y"}]), "exactly one of content and source"),
        (params(files=[{"path": "x", "content": ""}]), "must be absolute"),
        (params(files=[{"path": "/x", "content": "", "validate": "true"}]), "validate must hold %s"),
        (params(files=[{"path": "/x", "content": "", "mode": "rw"}]), "not an octal number"),
        (params(files=[{"path": "/x", "content": "", "hard_link": True}]), "hard_link needs source"),
        (
            params(files=[{"path": "/x", "content": ""}], links=[{"path": "/x", "target": "y"}]),
            "already named by files",
        ),
        (
            params(files=[{"path": "/x", "content": ""}], blocks=[{"path": "/x", "content": "y"}]),
            "owns the whole file",
        ),
    ],
)
def test_contradictions_are_errors(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(StateError, match=message):
        core.plan(wish, Found())


@pytest.mark.parametrize("key", ["files", "directories", "links", "blocks"])
def test_what_is_of_another_kind_is_never_overwritten(key: str) -> None:
    wish = params(**{key: [{"path": "/x", "content": "x", "target": "y"}]})
    kind = "file" if key == "directories" else "directory"
    with pytest.raises(StateError, match=f"/x is a {kind}"):
        core.plan(wish, Found(paths={"/x": FoundPath(kind)}))
