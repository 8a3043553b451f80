# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's variables: what may be in them, and that they are one for the whole cluster."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import (
    RULES,
    Settings,
    merge_settings,
    read_settings,
)


def test_every_setting_has_a_rule_and_each_rule_a_setting() -> None:
    assert {item.name for item in fields(Settings)} == set(RULES)


def test_defaults_are_good_values() -> None:
    settings, findings = read_settings({})
    assert findings == []
    assert settings == Settings()


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("kubernetes_version", "1.20.2", "v1.20.2"),
        ("kubernetes_version", "", ""),
        ("apiserver_port", "6443", 6443),
        ("apiserver_extra_sans", "a.example, *.b.example,10.0.0.1", ("a.example", "*.b.example", "10.0.0.1")),
        ("bundle_sha256", "A" * 64, "a" * 64),
        ("etcd_extra_args", {"v": 2, "x": True}, {"v": "2", "x": "true"}),
        ("clock_tolerance_seconds", "0.5", 0.5),
        ("time_servers", ["NTP.example.org"], ("NTP.example.org",)),
        ("pod_cidr", None, Settings().pod_cidr),
    ],
)
def test_values_are_read(name: str, value: Any, read: Any) -> None:
    settings, findings = read_settings({name: value})
    assert findings == []
    assert getattr(settings, name) == read


def test_hosts_must_agree() -> None:
    merged, findings = merge_settings(
        {"a": {"cni": "calico"}, "b": {"cni": "calico"}, "c": {"cni": "none"}, "d": {"cni": None}, "e": {}}
    )
    assert merged["cni"] == "calico"
    assert [(item.host, item.variable) for item in findings] == [("c", "cni"), ("d", "cni")]
    assert [item.found for item in findings] == ["'none' here, but 'calico' on a", "not set here, but 'calico' on a"]


def test_the_one_that_disagrees_is_told_also_if_it_is_the_first() -> None:
    merged, findings = merge_settings({"a": {"cni": "none"}, "b": {"cni": "bridge"}, "c": {"cni": "bridge"}})
    assert merged["cni"] == "bridge"
    assert [(item.host, item.found) for item in findings] == [("a", "'none' here, but 'bridge' on b")]


def test_no_hosts_have_no_settings() -> None:
    merged, findings = merge_settings({})
    assert set(merged.values()) == {None}
    assert findings == []
