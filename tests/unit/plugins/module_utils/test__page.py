# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's structure: whole, escaped, alone in the world, and small enough."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _page_drawing as drawn
from ansible_collections.multinic.kubernetes.plugins.module_utils import _page_model as model
from ansible_collections.multinic.kubernetes.plugins.module_utils._page import page
from ansible_collections.multinic.kubernetes.plugins.module_utils._page_style import DARK, LIGHT, PAIRS
from ansible_collections.multinic.kubernetes.tests.unit import page_reports as reports

VOID = {"meta", "link", "br"}
REPORTS: dict[str, Callable[[], dict[str, Any]]] = {
    "four": reports.four,
    "four in trouble": reports.four_in_trouble,
    "typo": reports.typo,
    "shapes": reports.shapes,
    "dual stack": reports.dual_stack,
    "hundred": reports.many,
    "ten racks": lambda: reports.many(100, 10),
    "doctor": reports.doctor,
    "nothing": dict,
}
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\u202e\x00\ud800"


class Page(HTMLParser):
    """Parses strictly: every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.by_section: dict[str, list[str]] = {}
        self.section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, found))
        if tag == "section":
            self.section = found["id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)
            self.by_section.setdefault(self.section, []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, section: str = "") -> str:
        words = self.by_section.get(section, []) if section else self.words
        return " ".join(" ".join(words).split())


def svgs(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]  # noqa: S314


@pytest.fixture(params=REPORTS, scope="module")
def built(request: pytest.FixtureRequest) -> tuple[dict[str, Any], str]:
    report = REPORTS[request.param]()
    return report, page(report)


def test_it_is_well_formed_and_accessible(built: tuple[dict[str, Any], str]) -> None:
    _report, text = built
    found = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert found.all("html") == [{"lang": "en"}]
    assert text.index("<title>") < text.index("</head>")
    assert [len(found.all(tag)) for tag in ("h1", "main", "header", "nav", "footer")] == [1] * 5
    ids = [attributes["id"] for _tag, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {attributes["aria-labelledby"] for attributes in found.all("section")}
    links = {attributes["href"][1:] for attributes in found.all("a")}
    assert labels | links <= set(ids)
    assert all(attributes.get("scope") in {"row", "col"} for attributes in found.all("th"))
    assert len(found.all("table")) == len(found.all("caption"))
    levels = [int(tag[1]) for tag, _attributes in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    for svg in svgs(text):
        assert svg.get("aria-hidden") == "true"
        assert svg.get("viewBox")
    scrolling = [a for _tag, a in found.elements if {"scroll", "drawing"} & set(a.get("class", "").split())]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") and a.get("role") == "region" for a in scrolling)


def test_it_needs_nothing_else(built: tuple[dict[str, Any], str]) -> None:
    _report, text = built
    found = Page(text)
    assert not re.search(r"https?://|url\(|@import|javascript:", text)
    assert not {"script", "iframe", "object", "embed", "img", "base", "form"} & {tag for tag, _a in found.elements}
    assert not [name for _tag, attributes in found.elements for name in attributes if name.startswith("on")]
    for _tag, attributes in found.elements:
        assert attributes.get("href", "#").startswith(("#", "data:,"))
        assert "src" not in attributes
    (policy,) = [a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy


def test_every_host_and_card_is_there(built: tuple[dict[str, Any], str]) -> None:
    report, text = built
    if not report.get("facts"):
        return
    titles = [title.text or "" for svg in svgs(text) for title in svg.iter("title")]
    table = Page(text).text("hosts")
    for name, facts in report["facts"].items():
        assert any(title.startswith(f"{name}: ") for title in titles)
        for link in facts["links"]:
            assert any(title.startswith(f"{name}: ") and link["name"] in title for title in titles)
            for address in link["addresses"]:
                assert address["address"] in table
    short, domain = model.short_names([*report["plan"].get("hosts", {})])
    assert all(name in table for name in short.values())
    assert domain in table


def test_all_findings_are_told_first(built: tuple[dict[str, Any], str]) -> None:
    report, text = built
    found = Page(text)
    assert found.all("section")[0]["id"] == "findings"
    words = found.text("findings")
    for item in report.get("findings", ()):
        for part in (item.found, item.why, item.remedy, item.host, item.variable):
            assert " ".join(part.split()) in words


def test_the_same_report_gives_the_same_page(built: tuple[dict[str, Any], str]) -> None:
    report, text = built
    turned = dict(report)
    for key in ("probes", "status"):
        if key in report:
            turned[key] = dict(reversed(report[key].items()))
    assert page(report) == page(turned) == text


def test_hostile_names_are_only_text() -> None:
    report = reports.shapes()
    text = repr(report)
    assert "docker0" in text

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return f"{HOSTILE}{value}" if isinstance(value, str) and not re.fullmatch(r"[\da-f.:/]+", value) else value

    kept = {"role", "kind", "type", "table", "scope"}
    plan = {key: spoil(value) if key not in {"hosts", *kept} else value for key, value in report["plan"].items()}
    renamed = {f"{HOSTILE}{name}": node for name, node in report["plan"]["hosts"].items()}
    facts = {f"{HOSTILE}{name}": {**item, "links": spoil(item["links"])} for name, item in report["facts"].items()}
    nodes = {
        name: {**node, "interface": HOSTILE + node["interface"], "reasons": [HOSTILE]} for name, node in renamed.items()
    }
    findings = [dict.fromkeys(("host", "variable", "found", "why", "remedy"), HOSTILE) | {"severity": HOSTILE}]
    probes = {name: {"peers": [{"name": other, "tcp": HOSTILE} for other in nodes if other != name]} for name in nodes}
    status = {
        name: {"status": {"kubelet": {"running": True, "node_ip": HOSTILE}, "api": {"error": HOSTILE}}}
        for name in nodes
    }
    whole = page(
        {
            "plan": {**plan, "hosts": nodes},
            "facts": facts,
            "probes": probes,
            "findings": findings,
            "when": HOSTILE,
            "kind": HOSTILE,
            "status": status,
        }
    )
    whole.encode()
    found = Page(whole)
    assert "script" not in {tag for tag, _attributes in found.elements}
    assert "img" not in {tag for tag, _attributes in found.elements}
    assert not [name for _tag, attributes in found.elements for name in attributes if name.startswith("on")]
    assert not set("\x00\u202e\ud800") & set(whole)
    assert "<script>alert(1)</script>" in found.text("hosts")
    assert svgs(whole)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PEER = st.dictionaries(st.sampled_from(["name", "milliseconds", "full_milliseconds", "largest", "size", "tcp"]), JSON)
STATUS = st.dictionaries(
    st.sampled_from(["kubelet", "route", "api", "virtual_server", "static_pods", "etcd"]),
    JSON | st.dictionaries(st.sampled_from(["real_servers", "etcd", "node_ip", "source"]), JSON),
)


@settings(max_examples=200, deadline=None)
@given(facts=JSON, peers=st.lists(PEER, max_size=3), clock=JSON, status=STATUS, cluster=JSON)
def test_whatever_hosts_send_gives_a_page(facts: Any, peers: Any, clock: Any, status: Any, cluster: Any) -> None:
    report = reports.four()
    named = [{**peer, "name": name} for peer, name in zip(peers, ("master2", "master3", "node01"))]
    report["facts"]["node01"] = facts
    report["facts"]["master3"]["links"] = facts
    report["probes"]["master1"] = {"peers": named, "clock": clock}
    report["probes"]["node01"] = facts
    text = page({**report, "status": {"master1": {"status": status}, "node01": facts}, "cluster": {"nodes": cluster}})
    Page(text)
    svgs(text)


def test_a_hundred_hosts_are_quick_and_small() -> None:
    long = "storage-and-compute-{:03d}.rack-{:02d}.eu-central-1"
    report = reports.many(name=long)
    began = time.perf_counter()
    text = page(report)
    assert time.perf_counter() - began < 1
    assert len(text.encode()) < 2_000_000
    cells = Page(text).all("td")
    assert sum("title" in cell for cell in cells) == 100 * 99


def test_more_hosts_than_a_matrix_can_show() -> None:
    text = page(reports.many(260))
    assert "would not be legible" in text
    assert len(text.encode()) < 2_000_000


# --- what is told ----------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_enough(scheme: dict[str, str]) -> None:
    assert set(LIGHT) == set(DARK)
    for text, ground in PAIRS:
        dark, light = sorted((luminance(scheme[text]), luminance(scheme[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_pairs_are_told_by_sign_and_word() -> None:
    words = Page(page(reports.four_in_trouble())).text("pairs")
    for told in (
        "Answer full packets 8 of 12",
        "slow: above 1.86 ms",
        "only 1400 of 1500 bytes",
        "ICMP filtered, TCP answers",
        "✕ no answer",
        "s 7.30 ms 1500 bytes",
        "4 ways in trouble",
        "master2 → node01 no answer",
    ):
        assert told in words


def test_pairs_in_trouble_are_gathered() -> None:
    words = Page(page(reports.many())).text("pairs")
    assert "node078 → node001, node002, node003, node004 and 95 more no answer" in words
    assert "node006 → node021, node022, node023, node024 and 6 more only 1500 of 9000 bytes pass" in words


def test_the_drawing_marks_what_matters() -> None:
    report = reports.four_in_trouble()
    titles = [title.text or "" for svg in svgs(page(report)) for title in svg.iter("title")]
    assert "master1: ens32, 192.168.253.129/24, MTU 1500 · 10 Gbit/s, the cluster's card" in titles
    assert "master1: ens33, 192.168.160.244/23, MTU 1500 · 1 Gbit/s, default route by 192.168.160.1" in titles
    assert "node01: reaches 10.103.97.2 from 192.168.253.131" in titles
    assert any("docker0" in title for title in titles)
    drawing = Page(page(report)).text("networks")
    assert "▲ MTU 1500 · 1 Gbit/s" in drawing  # node01's card is slower than the others'


def test_both_families_are_drawn() -> None:
    report = reports.dual_stack()
    titles = [title.text or "" for svg in svgs(page(report)) for title in svg.iter("title")]
    way = "node01: reaches 10.103.97.2 and fd00:10:103:97::2 from 192.168.253.131 and fd00:253::131"
    assert way in titles
    found = Page(page(report))
    for told in ("10.103.97.2:6443", "[fd00:10:103:97::2]:6443"):
        assert found.text("networks").count(told) == 1
        assert told in found.text("")
    assert "192.168.253.0/24 and fd00:253::/64 on ens32" in found.text("")


def test_components_of_both_families_are_compared() -> None:
    report = reports.dual_stack()
    node = report["plan"]["hosts"]["node01"]
    first, second = (
        {
            "route": {"type": "local", "source": address},
            "api": {"ok": True, "source": address},
            "virtual_server": {"real_servers": [{"address": item, "weight": 1} for item in server["real_servers"]]},
        }
        for address, server in zip(node["addresses"], report["plan"]["apiserver"]["virtual_servers"])
    )

    def seen(*further: dict[str, Any]) -> dict[str, model.Seen]:
        status = {"node01": {"status": {**first, "further_vips": list(further)}}}
        return model.components_of(report["plan"], status, {})["node01"]

    assert all(seen(second)[key].right for key in ("route", "api", "real_servers"))
    assert not any(seen()[key].right for key in ("route", "api", "real_servers"))
    lost = seen({**second, "route": {"type": "unicast", "source": "2001:db8::7"}})["route"]
    assert lost.trouble == "unicast route"
    assert lost.seen == ("192.168.253.131", "2001:db8::7")


def test_hosts_without_a_plan_are_drawn() -> None:
    found = Page(page(reports.typo()))
    assert "192.168.253.129/24" in found.text("networks")
    assert found.text("networks").count("not planned") == 8  # in the box and in its title
    assert "components" not in {section["id"] for section in found.all("section")}


def test_a_host_that_was_not_reached_is_there() -> None:
    found = Page(page(reports.shapes()))
    assert "node-4" in found.text("networks")
    assert "node-4 ✕ 1 error not planned" in found.text("hosts")


def test_components_are_compared_with_the_plan() -> None:
    found = Page(page(reports.doctor()))
    words = found.text("components")
    for told in (
        "master2 ✕ 192.168.160.243 planned 192.168.253.128 ✓ 192.168.253.128",
        "✕ 192.168.160.246 unicast route planned 192.168.253.131",
        "✕ none timed out planned 192.168.253.131",
        "✕ 192.168.253.128, .130 planned 192.168.253.129, .128, .130",
        "INTERNAL-IP",
    ):
        assert told in words
    assert "The cluster is not what was planned" in found.text()
    titles = [title.text or "" for svg in svgs(page(reports.doctor())) for title in svg.iter("title")]
    way = "node01: should reach 10.103.97.2 from 192.168.253.131, seen 192.168.160.246, unicast route"
    assert way in titles
    assert "INTERNAL-IP" not in Page(page(reports.four())).text("components")


def test_the_version_is_the_clusters_where_the_doctor_has_seen_it() -> None:
    report = reports.doctor()
    assert "Kubernetes v1.20.2 Hosts" in Page(page(report)).text("")
    assert "Kubernetes v1.33.1, v1.33.2 Hosts" in Page(page({**report, "versions": ["v1.33.1", "v1.33.2"]})).text("")
    unplanned = {**report, "plan": {**report["plan"], "kubernetes_version": ""}}
    assert "Kubernetes not known Hosts" in Page(page(unplanned)).text("")


def test_what_the_doctor_saw_in_connections_is_shown() -> None:
    report = reports.doctor()
    asked = {
        "component": "kube-proxy",
        "uses": ["192.168.160.246"],
        "planned": ["192.168.253.131"],
        "as_planned": False,
    }
    right = {"component": "kube-scheduler", "uses": ["192.168.253.129"], "planned": ["192.168.253.129"] * 2}
    taken = {"component": "Calico", "uses": [], "planned": ["192.168.253.131"], "as_planned": None}
    uses = {
        "node01": [asked, taken, {"component": "kubelet", "uses": ["1.2.3.4"]}],
        "master1": [{**right, "as_planned": True}],
    }
    words = Page(page({**report, "components": uses})).text("components")
    assert "kube-proxy asks from" in words and "✕ 192.168.160.246 planned 192.168.253.131" in words
    assert "scheduler asks from" in words and "controller manager asks from" not in words
    assert "1.2.3.4" not in words
    others = Page(page({**report, "foreign": list(report["plan"]["hosts"])})).text("components")
    assert "VIP route's source" not in others and "INTERNAL-IP" in others


def test_networks_that_no_host_shares_have_one_rail() -> None:
    report = reports.many(100, 10)
    hosts = model.hosts_of(report["plan"], report["facts"], report["probes"], [])
    lanes, rest = model.lanes_of(hosts)
    assert [(lane.kind, len(lane.networks)) for lane in lanes] == [("cluster", 10), ("default", 1)]
    assert rest == {}


@pytest.mark.parametrize(
    ("names", "short", "domain"),
    [
        (["a.x.y", "b.x.y"], ["a", "b"], "x.y"),
        (["a.x.y", "b.z.y"], ["a.x", "b.z"], "y"),
        (["a.x", "b"], ["a.x", "b"], ""),
        (["a.x"], ["a.x"], ""),
        (["a.x", "x"], ["a.x", "x"], ""),
        (["10.0.0.1", "10.1.0.1"], ["10.0.0.1", "10.1.0.1"], ""),
    ],
)
def test_short_names(names: list[str], short: list[str], domain: str) -> None:
    assert model.short_names(names) == (dict(zip(names, short)), domain)


def test_labels_keep_what_tells_hosts_apart() -> None:
    names = [f"storage-and-compute-{number:03d}-rack-01.example.internal" for number in (1, 2, 30)]
    labels, left = model.labels_of(names, 16)
    assert list(labels.values()) == ["001", "002", "030"]
    assert left == "storage-and-compute- and -rack-01.example.internal"
    assert model.labels_of(["master1", "node-with-a-long-name-01"], 16)[1] == ""
    assert list(model.labels_of(["a-b-c", "a-b-b-c"], 2)[0].values()) == ["c", "b-c"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("master1", ["master1"]),
        ("ip-10-20-0-1.eu-central-1.internal", ["ip-10-20-0-1.eu-", "central-1.internal"]),
        ("a" * 30, ["a" * 22, "a" * 8]),
        ("b" * 60, ["b" * 20 + "…", "b" * 21]),
    ],
)
def test_name_lines(name: str, lines: list[str]) -> None:
    assert drawn.name_lines(name) == lines


@pytest.mark.parametrize(
    ("mbps", "told"), [(None, ""), (0, ""), (100, "100 Mbit/s"), (2500, "2.5 Gbit/s"), (100000, "100 Gbit/s")]
)
def test_speed(mbps: int | None, told: str) -> None:
    assert model.speed(mbps) == told
