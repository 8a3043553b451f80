# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page that needs nothing else: no script, no font, no image, no network.

``page()`` takes what the preflight has at hand, and later the doctor:

=========  ============================================================================================================
plan       the fact cluster_plan, or nothing if it could not be made
facts      network_facts of each host, by its name
probes     network_probe's result of each host, by its name
findings   the findings, as they are or as dictionaries
when       the time of the report, as text to show
kind       preflight (the default) or doctor
status     cluster_status' result of each host, by its name; optional
cluster    cluster_status' view of the whole cluster; optional
components the doctor's: of each host the addresses that its components use; optional
versions   the doctor's: the versions of Kubernetes that the cluster has; optional
foreign    the doctor's: hosts that something else made members, which have no VIP; optional
=========  ============================================================================================================

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import SEVERITIES, Finding, count, headline
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import in_url
from ansible_collections.multinic.kubernetes.plugins.module_utils._page_drawing import (
    FEW,
    KINDS,
    MOST,
    NAME_CHARS,
    TWO_LINES,
    drawing,
    esc,
    middle_cut,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._page_model import (
    COMPONENTS,
    GOOD,
    NARROW,
    SILENT,
    SLOW,
    TCP,
    UNKNOWN,
    Card,
    Host,
    Model,
    Pair,
    Pairs,
    Seen,
    dig,
    labels_of,
    mapping,
    milliseconds,
    model_of,
    sequence,
    short_names,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._page_style import STYLE, icon
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import api_addresses, virtual_servers

BLEED = 80  # hosts from which on the matrix may be wider than the text
WIDE = 16  # hosts up to which a pair has room for words
TITLED = 128  # hosts up to which every pair has a title; beyond, only those in trouble
SQUARE = 250  # hosts up to which all pairs are shown
NARROW_LABEL = 16  # characters above which the matrix leaves out what all names share
LONGEST = 64  # characters of a name at the head of a row
CHIPS, LINES, GROUPS = 12, 8, 24  # hosts and lines of a finding, groups of pairs in trouble, that are told at once

# class, symbol, what it means
CELLS = {
    GOOD: ("y", "✓", "answers, also full packets"),
    SLOW: ("l", "s", "slow"),
    NARROW: ("m", "m", "only smaller packets pass"),
    TCP: ("t", "t", "ICMP filtered, TCP answers"),
    SILENT: ("x", "✕", "no answer"),
    UNKNOWN: ("q", "?", "not measured"),
}
HEADS = {"error": "Errors", "warning": "Warnings", "info": "Good to know"}
NAMES = {"error": "Error", "warning": "Warning", "info": "Good to know"}


def page(report: Mapping[str, Any]) -> str:
    """The whole page. The same report gives the same page."""
    model = model_of(report)
    sections = [section for section in _sections(model) if section[3]]
    links = "".join(
        f'<li><a href="#{name}">{title}{f"<span class=n>{number}</span>" if number else ""}</a></li>'
        for name, title, number, _content in sections
    )
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-head"><h2 id="{name}-head">{title}</h2>{content}</section>'
        for name, title, _number, content in sections
    )
    title = f"{headline(model.findings).capitalize()}: {model.kind} of {_plural(len(model.hosts), 'host')}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline';"
        "img-src data:;base-uri 'none';form-action 'none'\">\n"
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f'<link rel="icon" href="data:,">\n<title>{esc(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        '<a class="skip" href="#findings">To the findings</a>\n'
        f"{_header(model)}\n"
        f'<nav aria-label="Sections"><div class="wrap"><ul>{links}</ul></div></nav>\n'
        f'<main class="wrap">\n{body}\n</main>\n{_footer(model)}\n</body>\n</html>\n'
    )


def _sections(model: Model) -> list[tuple[str, str, str, str]]:
    """Name, title, number and content; those without content are left out."""
    hosts = str(len(model.hosts) or "")
    return [
        ("findings", "Findings", str(len(model.findings) or ""), _findings(model)),
        ("networks", "Hosts, cards and networks", "", _networks(model)),
        ("hosts", "Hosts", hosts, _hosts(model)),
        ("pairs", "Ways between the hosts", "", _pairs(model.pairs)),
        ("components", "Addresses of the components", "", _components(model)),
        ("decisions", "Decisions and reasons", "", _decisions(model)),
    ]


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _few(items: Sequence[str], most: int) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


# --- head and foot ----------------------------------------------------------------------------------------------------


def _verdict(model: Model) -> tuple[str, str]:
    """How bad it is, and what that means."""
    numbers = count(model.findings)
    if model.kind == "doctor":
        if numbers["error"]:
            return "error", "The cluster is not what was planned. What to do is told below."
        return (
            "warning" if numbers["warning"] else "ok"
        ), "Every component uses its planned address, as far as was seen."
    if numbers["error"]:
        return "error", "Nothing has been changed on any host. Errors have to be mended first."
    if numbers["warning"]:
        return "warning", "The cluster can be installed. The warnings are worth a look before."
    return "ok", "The hosts are ready: the cluster can be installed as planned."


def _header(model: Model) -> str:
    severity, meaning = _verdict(model)
    told = headline(model.findings)
    when = f"<time>{esc(model.when)}</time>" if model.when else ""
    tiles = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{esc(value)}{f'<small>{esc(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in _tiles(model)
    )
    return (
        f'<header><div class="wrap"><p class="brand"><span><b>multinic.kubernetes</b> {esc(model.kind)}</span>{when}</p>'
        f'<div class="verdict {severity}">{icon(severity)}<div><h1>{esc(told[:1].upper() + told[1:])}</h1>'
        f'<p>{meaning}</p></div></div><dl class="tiles">{tiles}</dl></div></header>'
    )


def _tiles(model: Model) -> list[tuple[str, str, str]]:
    plan = model.plan
    masters = sum(host.control_plane for host in model.hosts)
    roles = f"{_plural(masters, 'control plane')}, {_plural(len(model.hosts) - masters, 'worker')}" if masters else ""
    planned = [host for host in model.hosts if host.planned]
    tiles = [
        ("Kubernetes", _few(model.versions, 3) or "not known", ""),
        ("Hosts", f"{len(model.hosts):,}", roles),
    ]
    if planned:
        networks = list(dict.fromkeys(_cluster_networks(host) for host in planned))
        told = networks[0] if len(networks) == 1 else f"{len(networks)} networks"
        cards = list(dict.fromkeys(str(host.node.get("interface")) for host in planned))
        tiles.append(("Cluster network", told, f"on {_few(cards, 3)}"))
        server = mapping(plan.get("apiserver"))
        ends = " and ".join(f"{in_url(address)}:{server.get('port')}" for address in api_addresses(plan))
        kind = KINDS["vip"] if server.get("balancer") in (None, "", "ipvs") else "API address"
        tiles.append((kind, ends, str(server.get("name") or "")))
        cni = mapping(plan.get("cni"))
        wrapped = "" if cni.get("encapsulation") in (None, "", "none") else f", {cni['encapsulation']}"
        tiles.append(("Pods", f"MTU {cni.get('mtu')}", f"{cni.get('name')}{wrapped}"))
    if model.pairs.found:
        numbers = model.pairs.states()
        good, all_of = numbers[GOOD] + numbers[SLOW], len(model.pairs.found)
        middle = f"median {milliseconds(model.pairs.middle)}" if model.pairs.middle is not None else ""
        tiles.append(("Ways proved", f"{good:,} of {all_of:,}", middle))
    return tiles


def _cluster_networks(host: Host) -> str:
    """A host's cluster networks, one of each family."""
    return " and ".join(map(str, sequence(host.node.get("networks")) or [host.node.get("network")]))


def _footer(model: Model) -> str:
    when = f" Made {esc(model.when)}." if model.when else ""
    return (
        '<footer><div class="wrap"><p>This file needs nothing else: it holds no script and loads nothing. '
        f"It names hosts and addresses, so treat it as you treat those.{when}</p></div></footer>"
    )


# --- findings ---------------------------------------------------------------------------------------------------------


def _findings(model: Model) -> str:
    if not model.findings:
        return f'<p class="card list nothing">{icon("ok")}Nothing was found: every check passed.</p>'
    groups: dict[tuple[str, str, str, str], list[Finding]] = {}
    for item in model.findings:
        groups.setdefault((item.severity, item.variable, item.why, item.remedy), []).append(item)
    parts = []
    for severity in SEVERITIES:
        mine = [items for key, items in groups.items() if key[0] == severity]
        if mine:
            cards = "".join(f"<li>{_finding(items)}</li>" for items in mine)
            parts.append(
                f'<h3 class="severity {severity}">{icon(severity)}{HEADS[severity]}'
                f' <span class="soft">{_count(mine)}</span></h3><ul class="list">{cards}</ul>'
            )
    return "".join(parts)


def _count(groups: Sequence[Sequence[Finding]]) -> str:
    number = sum(len(items) for items in groups)
    return f"{number}" if number == len(groups) else f"{number}, of {_plural(len(groups), 'kind')}"


def _finding(items: Sequence[Finding]) -> str:
    """One kind of trouble, with all hosts that have it."""
    first = items[0]
    hosts = list(dict.fromkeys(item.host for item in items if item.host))
    listed = len(hosts) > LINES // 2 and len({item.found for item in items}) > 1
    chips = (
        "".join(f'<span class="chip">{esc(name)}</span>' for name in hosts[:CHIPS])
        or '<span class="chip">the cluster</span>'
    )
    if listed:
        chips = f'<span class="chip">{len(hosts)} hosts</span>'
    elif len(hosts) > CHIPS:
        chips += f'<span class="soft">and {len(hosts) - CHIPS} more</span>'
    variable = f'<code class="chip variable">{esc(first.variable)}</code>' if first.variable else ""
    why = f"<dt>Why</dt><dd>{esc(first.why)}</dd>" if first.why else ""
    remedy = f"<dt>Do</dt><dd>{esc(first.remedy)}</dd>" if first.remedy else ""
    return (
        f'<article class="card finding {first.severity}"><p class="where">{icon(first.severity)}'
        f'<span class="hidden">{NAMES[first.severity]}:</span>{chips}{variable}</p>{_found(items, hosts)}'
        f"{f'<dl>{why}{remedy}</dl>' if why or remedy else ''}</article>"
    )


def _found(items: Sequence[Finding], hosts: Sequence[str]) -> str:
    if len({item.found for item in items}) == 1:
        rest = (
            f'<details><summary>All {len(hosts)} hosts</summary><p class="mono">{esc(", ".join(hosts))}</p></details>'
        )
        return f'<p class="found">{esc(items[0].found)}</p>' + (rest if len(hosts) > CHIPS else "")
    if len(items) <= LINES + 2:
        return f'<ul class="found">{_lines(items)}</ul>'
    return (
        f'<ul class="found">{_lines(items[:LINES])}</ul><details><summary>{len(items) - LINES} more</summary>'
        f'<ul class="found">{_lines(items[LINES:])}</ul></details>'
    )


def _lines(items: Iterable[Finding]) -> str:
    return "".join(
        f'<li><span class="mono">{esc(item.host or "the cluster")}</span><span>{esc(item.found)}</span></li>'
        for item in items
    )


# --- drawing ----------------------------------------------------------------------------------------------------------

LEGEND = (
    (
        'class="plug cluster own',
        "plug cluster own",
        '<path class="rail cluster" d="M7 0V24"/><path class="stem" d="M7 12H28"/><circle class="dot" cx="7" cy="12" r="6"/>',
        "the cluster's card (filled)",
    ),
    (
        'class="plug other',
        "plug other",
        '<path class="rail other" d="M7 0V24"/><path class="stem" d="M7 12H28"/><circle class="dot" cx="7" cy="12" r="5"/>',
        "another card",
    ),
    (
        'class="plug default',
        "plug default",
        '<path class="rail default" d="M7 0V24"/><path class="stem" d="M7 12H28m-5-4l5 4l-5 4"/>'
        '<circle class="dot" cx="7" cy="12" r="5"/>',
        "→ the default route's card",
    ),
    (
        'class="plug vip',
        "plug vip",
        '<path class="rail vip" d="M7 0V24"/><path class="stem" d="M7 12H28"/><path class="dot" d="M7 6l6 6l-6 6l-6-6z"/>',
        "the way to the API's VIP, with its source",
    ),
)


def _networks(model: Model) -> str:
    ways = {name: row["route"] for name, row in model.components.items()} if model.looked else {}
    drawn = drawing(model.hosts, model.plan, ways)
    if not drawn:
        return ""
    legend = "".join(
        f'<li><svg class="{style}" width="28" height="24" viewBox="0 0 28 24" aria-hidden="true">{shape}</svg>{text}</li>'
        for sign, style, shape, text in LEGEND
        if sign in drawn
    )
    _labels, left = labels_of([host.name for host in model.hosts], TWO_LINES)
    limit = f" Only the first {MOST} hosts are drawn." if len(model.hosts) > MOST else ""
    few = "" if len(model.hosts) <= FEW else " Only what is unusual is told beside a card; point at it for the rest."
    return (
        '<p class="lead">A rail is a network, a box is a host, a plug is a card. Rails run behind the hosts that are not on '
        f'them.{few}{limit} The table below holds the same in words.</p>{_without(left)}{drawn}<ul class="legend">{legend}</ul>'
    )


# --- hosts ------------------------------------------------------------------------------------------------------------


def _hosts(model: Model) -> str:
    if not model.hosts:
        return ""
    reached = model.pairs.reached()
    short, domain = short_names([host.name for host in model.hosts])
    rows = "".join(
        _host(host, _row_head(host.name, short[host.name]), _reaches(*reached.get(host.name, (0, 0))))
        for host in model.hosts
    )
    heads = (
        "Host",
        "Role",
        "Node name",
        "Cluster card",
        "Cluster address",
        "MTU",
        "Link",
        "Reaches",
        "Clock",
        "Other cards",
    )
    cells = "".join(f'<th scope="col"{" class=num" if name == "MTU" else ""}>{name}</th>' for name in heads)
    return _without(f".{domain}" if domain else "") + _table(
        "All hosts", f"<thead><tr>{cells}</tr></thead><tbody>{rows}</tbody>", len(model.hosts)
    )


def _table(caption: str, content: str, rows: int) -> str:
    tall = " tall" if rows > 2 * FEW else ""
    return (
        f'<div class="scroll{tall}" role="region" aria-label="{caption}" tabindex="0"><table class="data">'
        f'<caption class="hidden">{caption}</caption>{content}</table></div>'
    )


def _host(host: Host, name: str, reaches: str) -> str:
    told, _comma, first = host.role.partition(", ")
    role = esc(told) + (f"<small>{esc(first)}</small>" if first else "")
    card = host.cluster_card
    marks = f'<small class="bad">✕ {_plural(host.errors, "error")}</small>' if host.errors else ""
    marks += f'<small class="warn">▲ {_plural(host.warnings, "warning")}</small>' if host.warnings else ""
    others = "".join(f"<small>{esc(_card_words(other))}</small>" for other in host.cards if not other.cluster)
    others += f"<small>{esc(', '.join(host.minor))}</small>" if host.minor else ""
    if not host.planned or card is None:
        nothing = '<td class="warn" colspan="7">not planned</td>'
        return f'<tr>{name}<td>{role}{marks}</td>{nothing}<td class="cards">{others}</td></tr>'
    prefix = host.node.get("prefix")
    addresses = "<br>".join(
        f"{esc(address)}/{esc(prefix)}" if n == 0 else esc(address) for n, address in enumerate(host.addresses)
    )
    also = ", ".join(item for item in card.more if item.partition("/")[0] not in host.addresses)
    addresses += f"<small>also {esc(also)}</small>" if also else ""
    kind = "".join(f"<small>{esc(text)}</small>" for text in (card.kind, _default(card)) if text)
    fault = f'<small class="bad">✕ {esc(card.fault)}</small>' if card.fault else ""
    return (
        f'<tr>{name}<td>{role}{marks}</td><td class="mono">{_node_name(host)}</td>'
        f'<td><span class="mono">{esc(card.name)}</span>{kind}{fault}</td><td class="mono">{addresses}</td>'
        f'<td class="num">{esc(card.mtu or "")}</td><td>{esc(card.speed) or "<span class=soft>not told</span>"}</td>'
        f"<td>{reaches}</td><td>{_clock(host.clock)}</td>"
        f'<td class="cards">{others}</td></tr>'
    )


def _row_head(name: str, short: str) -> str:
    """The head of a host's row: its name without the domain that all hosts share; the whole one when pointed at."""
    cut = middle_cut(short, LONGEST)
    title = f' title="{esc(name)}"' if cut != name else ""
    title += ' class="long"' if len(cut) > NAME_CHARS else ""
    return f'<th scope="row"{title}>{esc(cut)}</th>'


def _without(left: str) -> str:
    return f'<p class="lead">Names are told without {esc(left)}</p>' if left else ""


def _node_name(host: Host) -> str:
    name = str(host.node.get("node_name") or "")
    return '<span class="soft">the same</span>' if name == host.name and len(name) > FEW else esc(name)


def _clock(text: str) -> str:
    told, _sign, doubt = text.partition(" ± ")
    return esc(told) + (f"<small>± {esc(doubt)}</small>" if doubt else "") or '<span class="soft">not measured</span>'


def _card_words(card: Card) -> str:
    """'ens33 192.168.160.244/23 · MTU 1500 · 1 Gbit/s · default route by 192.168.160.1'."""
    told = [f"{card.name} {', '.join((card.address, *card.more))}", card.kind]
    told += [f"MTU {card.mtu}" if card.mtu else "", card.speed, _default(card), card.fault]
    return " · ".join(part for part in told if part)


def _default(card: Card) -> str:
    return f"default route by {', '.join(card.gateways)}" if card.gateways else ""


def _reaches(good: int, tried: int) -> str:
    if not tried:
        return '<span class="soft">not measured</span>'
    style, sign = ("good", "✓") if good == tried else ("bad", "✕")
    return f'<span class="{style}">{sign} {good} of {tried}</span>'


# --- pairs ------------------------------------------------------------------------------------------------------------


def _pairs(pairs: Pairs) -> str:
    if not pairs.found:
        return ""
    numbers = pairs.states()
    short, _left = labels_of(pairs.names, NAME_CHARS)
    bad = [(ends, pair) for ends, pair in pairs.found.items() if pair.state in (NARROW, TCP, SILENT)]
    answers = [(pair.milliseconds, ends) for ends, pair in pairs.found.items() if pair.milliseconds is not None]
    largest = [pair.largest for pair in pairs.found.values() if pair.largest]
    told = [("Answer full packets", f"{numbers[GOOD] + numbers[SLOW]:,} of {len(pairs.found):,}")]
    if answers:
        slowest = max(answers)
        told.append(("Median", milliseconds(pairs.middle)))
        told.append(("Slowest", f"{milliseconds(slowest[0])}, {short[slowest[1][0]]} → {short[slowest[1][1]]}"))
    if largest:
        least = f"{min(largest)}" + (f" to {max(largest)}" if min(largest) != max(largest) else "")
        told.append(("Largest packet that passes", f"{least} bytes"))
    summary = "".join(f"<div><dt>{name}</dt><dd>{esc(value)}</dd></div>" for name, value in told)
    return (
        '<p class="lead">Each host sent packets from its planned address on its planned card to each other host: small ones, '
        "and ones that fill the planned MTU and must not be fragmented. Rows send, columns receive.</p>"
        f'<dl class="sum">{summary}</dl>{_matrix(pairs)}{_in_trouble(bad, short)}'
    )


def _in_trouble(bad: Sequence[tuple[tuple[str, str], Pair]], short: Mapping[str, str]) -> str:
    """The pairs in trouble in words, those of one sender or receiver together."""
    if not bad:
        return ""
    items: list[str] = []
    left = {(*ends, _trouble(pair)) for ends, pair in bad}
    while left and len(items) < GROUPS:
        groups: dict[tuple[int, str, str], set[tuple[str, str, str]]] = {}
        for way in left:
            for end in (0, 1):
                groups.setdefault((end, way[end], way[2]), set()).add(way)
        end, name, words = min(groups, key=lambda key: (-len(groups[key]), key))
        ways = groups[end, name, words]
        having = {way[1 - end] for way in ways}
        others = [short[other] for other in short if other in having]
        told = _few(others, 4)
        ends = (short[name], told) if end == 0 else (told, short[name])
        items.append(f'<li><span class="mono">{esc(" → ".join(ends))}</span><span>{esc(words)}</span></li>')
        left -= ways
    rest = f'<p class="soft">and {_plural(len(left), "more way")}, see above</p>' if left else ""
    return (
        f'<div class="card inset"><h3>{_plural(len(bad), "way")} in trouble</h3>'
        f'<ul class="found ways">{"".join(items)}</ul>{rest}</div>'
    )


def _trouble(pair: Pair) -> str:
    return f"only {pair.largest or 64} of {pair.size} bytes pass" if pair.state == NARROW else pair.words()


def _matrix(pairs: Pairs) -> str:
    names = pairs.names
    if len(names) > SQUARE:
        return f'<p class="lead">All pairs of {len(names)} hosts would not be legible; the hosts\' table tells whom each reaches.</p>'
    wide = len(names) <= WIDE
    short, left = labels_of(names, NAME_CHARS if wide else NARROW_LABEL)
    short = {name: middle_cut(label, NAME_CHARS) for name, label in short.items()}
    numbers = pairs.states()
    used = [
        state
        for state in CELLS
        if numbers[state] or (state == UNKNOWN and len(pairs.found) < len(names) * (len(names) - 1))
    ]
    slow = f": above {milliseconds(pairs.slow)}"
    legend = "".join(
        f'<li><span class="key {CELLS[state][0]}">{CELLS[state][1]}</span>{CELLS[state][2]}{slow if state == SLOW else ""}</li>'
        for state in used
    )
    heads = "".join(
        f'<th scope="col">{esc(short[name])}</th>' if wide else f'<th scope="col"><span>{esc(short[name])}</span></th>'
        for name in names
    )
    rows = "".join(
        f'<tr><th scope="row">{esc(short[sender])}</th>{"".join(_cells(pairs, sender, short, wide))}</tr>'
        for sender in names
    )
    tall = "" if wide else " tall bleed" if len(names) > BLEED else " tall"
    return (
        f'<ul class="legend">{legend}</ul>{_without(left)}<div class="scroll fit{tall}" role="region" aria-label="All pairs of hosts" tabindex="0">'
        f'<table class="matrix {"wide" if wide else "dense"}"><caption class="hidden">All pairs: rows send, columns receive'
        f"</caption><thead><tr><td>from ↓ to →</td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(pairs: Pairs, sender: str, short: Mapping[str, str], wide: bool) -> Iterable[str]:
    untold = len(pairs.names) > TITLED
    for receiver in pairs.names:
        if sender == receiver:
            yield '<td class="o"></td>'
            continue
        pair = pairs.get(sender, receiver)
        style, symbol, meaning = CELLS[pair.state]
        if wide:
            yield f'<td class="{style}">{_words(pair, symbol, meaning)}</td>'
        elif untold and pair.state in (GOOD, UNKNOWN):
            yield f"<td class={style}>{symbol}</td>"
        else:
            title = f"{esc(short[sender])} → {esc(short[receiver])}: {esc(pair.words())}"
            yield f'<td class={style} title="{title}">{symbol}</td>'


def _words(pair: Pair, symbol: str, meaning: str) -> str:
    if pair.milliseconds is None:
        return f"<b>{symbol}</b><small>{meaning}</small>"
    size = (
        f"only {pair.largest or 64} of {pair.size} bytes"
        if pair.state == NARROW and pair.size
        else f"{pair.largest or 0} bytes"
    )
    return f"<b>{symbol}</b>{pair.time}<small>{size}</small>"


# --- components -------------------------------------------------------------------------------------------------------


def _components(model: Model) -> str:
    if not model.components:
        return ""
    used = [
        (key, title)
        for key, title in COMPONENTS
        if any(row.get(key, Seen()).applies for row in model.components.values())
    ]
    heads = "".join(f'<th scope="col">{title}</th>' for _key, title in used)
    short, domain = short_names(list(model.components))
    rows = "".join(
        f"<tr>{_row_head(name, short[name])}{''.join(_seen(row.get(key, Seen()), model.looked) for key, _title in used)}</tr>"
        for name, row in model.components.items()
    )
    lead = (
        "What each component really uses: ✓ where it is the planned address, ✕ where it is not."
        if model.looked
        else "What each component will use. Nothing was looked up on a running cluster."
    )
    table = _table(
        "Addresses of the components",
        f'<thead><tr><th scope="col">Host</th>{heads}</tr></thead><tbody>{rows}</tbody>',
        len(model.components),
    )
    return f'<p class="lead">{lead}</p>{_without(f".{domain}" if domain else "")}{table}'


def _seen(item: Seen, looked: bool) -> str:
    if not item.applies:
        return '<td class="na">&ndash;</td>'
    planned = esc(_together(item.planned))
    several = ' class="several"' if len(item.planned) > 1 else ""
    if item.seen is None and not item.trouble:
        more = "<small>planned, not seen</small>" if looked else ""
        return f'<td{several}><span class="mono">{planned}</span>{more}</td>'
    if item.right:
        return f'<td{several}><span class="good">✓</span> <span class="mono">{planned}</span></td>'
    seen = esc(_together(item.seen or ()) or "none")
    trouble = f'<small class="bad">{esc(item.trouble)}</small>' if item.trouble else ""
    wrong = sorted(item.seen or ()) != sorted(item.planned)
    planned = f"<small>planned {planned}</small>" if wrong else ""
    return f'<td{several}><span class="bad">✕</span> <span class="mono bad">{seen}</span>{trouble}{planned}</td>'


def _together(addresses: Sequence[str]) -> str:
    """Addresses of which only the first of a /24 is told in full: 192.168.253.129, .128, .130."""
    told: list[str] = []
    before = ""
    for address in addresses:
        head, dot, tail = address.rpartition(".")
        told.append(f".{tail}" if dot and head == before else address)
        before = head
    return ", ".join(told)


# --- decisions --------------------------------------------------------------------------------------------------------


def _decisions(model: Model) -> str:
    plan = model.plan
    if not mapping(plan.get("hosts")):
        return ""
    facts = "".join(f"<div><dt>{name}</dt><dd>{esc(value)}</dd></div>" for name, value in _decided(plan) if value)
    reasons = "".join(f"<li>{esc(reason)}</li>" for reason in sequence(plan.get("reasons")))
    per_host = "".join(
        f"<dt>{esc(host.name)}</dt><dd>{esc(' '.join(str(reason) for reason in sequence(host.node.get('reasons'))))}</dd>"
        for host in model.hosts
        if host.planned
    )
    each = f'<dl class="reasons">{per_host}</dl>'
    if len(model.hosts) > FEW:
        each = f'<details class="inset"><summary>Reasons of all {len(model.hosts)} hosts</summary>{each}</details>'
    return (
        f'<dl class="card facts">{facts}</dl>'
        + (f'<h3 class="severity">Why, for the cluster</h3><ul class="card why">{reasons}</ul>' if reasons else "")
        + f'<h3 class="severity">Why, for each host</h3><div class="card list">{each}</div>'
    )


def _decided(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    server, cni, clock, bundle = (mapping(plan.get(name)) for name in ("apiserver", "cni", "time", "bundle"))

    def joined(value: Any) -> str:
        return ", ".join(str(item) for item in sequence(value))

    wrapped = cni.get("encapsulation") not in (None, "", "none")
    balanced = f"{server.get('endpoint')} is {', '.join(api_addresses(plan))} on every node ({server.get('balancer')})"
    network = f"{cni.get('name')}, MTU {cni.get('mtu')}" + (f", {cni.get('encapsulation')}" if wrapped else "")
    offline = " (hosts of the cluster)" if clock.get("offline") else ""
    proxy = f"{dig(plan, 'kube_proxy', 'mode')} mode; leaves {joined(dig(plan, 'kube_proxy', 'exclude_cidrs'))} alone"
    return [
        ("API", balanced),
        ("Balanced to", "; ".join(dict.fromkeys(joined(each["real_servers"]) for each in virtual_servers(plan)))),
        ("Names in the API's certificate", joined(server.get("sans"))),
        ("First control plane", str(plan.get("first_control_plane") or "")),
        ("Pods", str(plan.get("pod_cidr") or "")),
        ("Services", str(plan.get("service_cidr") or "")),
        (
            "Cluster DNS",
            f"{plan.get('dns_address')}, domain {plan.get('dns_domain')}" if plan.get("dns_address") else "",
        ),
        ("Pod network", network),
        ("Calico finds its address by", str(cni.get("autodetection_method") or "")),
        ("kube-proxy", proxy),
        ("Time", (joined(clock.get("servers")) or "no server") + offline),
        ("Kernel modules", joined(plan.get("kernel_modules"))),
        ("Bundle", str(bundle.get("path") or "")),
    ]
