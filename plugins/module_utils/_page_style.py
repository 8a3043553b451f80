# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's style and icons. Each meaning has a colour in both schemes, and never a colour alone.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

LIGHT = {
    "bg": "#f4f6f9",
    "surface": "#ffffff",
    "raised": "#f7f9fc",
    "text": "#18202c",
    "muted": "#556173",
    "line": "#dbe1ea",
    "strong": "#b9c3d1",
    "accent": "#1d5bd0",
    "accent-bg": "#e6eefc",
    "vip": "#7338b8",
    "vip-bg": "#f3ebfc",
    "route": "#0b6a68",
    "rail": "#8592a5",
    "ok": "#14683a",
    "ok-bg": "#e2f4e8",
    "slow": "#3f6212",
    "slow-bg": "#e9f2c8",
    "warning": "#845000",
    "warning-bg": "#fdf0d2",
    "error": "#b01c22",
    "error-bg": "#fde7e7",
    "info": "#1b5694",
    "info-bg": "#e5f0fb",
}
DARK = {
    "bg": "#0e1319",
    "surface": "#161d26",
    "raised": "#1b2430",
    "text": "#e7ecf3",
    "muted": "#a3b0c1",
    "line": "#2a3543",
    "strong": "#47566a",
    "accent": "#84b4ff",
    "accent-bg": "#172c4d",
    "vip": "#cfacff",
    "vip-bg": "#2b1f42",
    "route": "#63d0c8",
    "rail": "#738297",
    "ok": "#7bdca2",
    "ok-bg": "#12311f",
    "slow": "#c5dd7c",
    "slow-bg": "#2b3413",
    "warning": "#f3c566",
    "warning-bg": "#362a0e",
    "error": "#ff9f9a",
    "error-bg": "#41191b",
    "info": "#93c5ff",
    "info-bg": "#14293f",
}
# Text of the first colour stands on the second; the tests measure the contrast of each pair.
PAIRS = (
    *((text, ground) for text in ("text", "muted") for ground in ("bg", "surface", "raised")),
    *(
        (name, ground)
        for name in ("accent", "route", "vip", "warning", "error")
        for ground in ("surface", "raised", "bg")
    ),
    *((name, f"{name}-bg") for name in ("accent", "vip", "ok", "slow", "warning", "error", "info")),
    *((text, f"{name}-bg") for text in ("text", "muted") for name in ("accent", "ok", "warning", "error", "info")),
    *((name, "surface") for name in ("ok", "info")),
)


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


_RULES = """
:root{--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","DejaVu Sans",sans-serif;
--mono:ui-monospace,"SF Mono",Menlo,"Cascadia Mono",Consolas,"Liberation Mono","DejaVu Sans Mono",monospace}
*{box-sizing:border-box}
html{scroll-padding-top:4rem;-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.55 var(--sans);overflow-wrap:break-word}
.wrap{max-width:86rem;margin:0 auto;padding:0 1.5rem}
h1,h2,h3,p,dl,dd,ul,ol,figure{margin:0;padding:0}
h1{font-size:1.85rem;line-height:1.2;letter-spacing:-.02em;font-weight:650}
h2{font-size:1.3rem;line-height:1.3;letter-spacing:-.01em;font-weight:650}
h3{font-size:1rem;font-weight:650}
code,.mono{font-family:var(--mono);font-size:.87em}
a{color:var(--accent)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:-99rem;top:.5rem;background:var(--surface);padding:.5rem 1rem;z-index:9}
.skip:focus{left:1rem}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.icon{width:1em;height:1em;flex:none;fill:none;stroke:currentColor;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
header{padding:2rem 0 1.25rem}
.brand{color:var(--muted);font-size:.87rem;margin-bottom:.9rem;display:flex;flex-wrap:wrap;gap:.25rem 1rem;justify-content:space-between}
.brand b{color:var(--text);font-weight:600}
.verdict{display:flex;gap:1.1rem;align-items:center;border:1px solid;border-radius:14px;padding:1.25rem 1.5rem}
.verdict>.icon{width:2.75rem;height:2.75rem;stroke-width:1.7}
.verdict h1+p{margin-top:.3rem;color:var(--text)}
.verdict.error{background:var(--error-bg);color:var(--error)}
.verdict.warning{background:var(--warning-bg);color:var(--warning)}
.verdict.ok{background:var(--ok-bg);color:var(--ok)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:1px;margin-top:1rem;background:var(--surface);
border:1px solid var(--line);border-radius:14px;overflow:hidden}
.tiles div{box-shadow:0 0 0 1px var(--line);padding:.75rem .95rem;min-width:0}
dt{color:var(--muted);font-size:.8rem;font-weight:500}
.tiles dd{font-weight:600;line-height:1.4;letter-spacing:-.01em;overflow-wrap:anywhere}
.tiles dd small{display:block;font-weight:400;font-size:.8rem;letter-spacing:0;color:var(--muted)}
nav{position:sticky;top:0;z-index:5;background:var(--bg);border-bottom:1px solid var(--line)}
nav ul{display:flex;gap:.25rem;list-style:none;overflow-x:auto;padding:.45rem 0;scrollbar-width:none}
nav a{display:block;padding:.35rem .7rem;border-radius:8px;color:var(--text);text-decoration:none;white-space:nowrap;font-size:.9rem}
nav a:hover{background:var(--surface);text-decoration:underline}
nav li:first-child a{margin-left:-.7rem}
nav .n{color:var(--muted);margin-left:.3rem}
main>section{padding-top:2.25rem}
.lead{color:var(--muted);margin-top:.25rem;max-width:88ch}
.card{background:var(--surface);border:1px solid var(--line);border-radius:14px}
section>.card,section>.scroll,section>.drawing,.list{margin-top:.9rem}
.severity{margin-top:1.4rem;display:flex;align-items:center;gap:.45rem}
.severity.error{color:var(--error)}.severity.warning{color:var(--warning)}
.severity.info{color:var(--info)}
ul.list{list-style:none;display:grid;gap:.7rem}
.finding{border-left:5px solid;padding:.95rem 1.25rem 1.05rem 1.1rem;min-width:0}
.finding.error{border-left-color:var(--error)}.finding.warning{border-left-color:var(--warning)}
.finding.info{border-left-color:var(--info)}
.finding .where>.icon{width:1.15em;height:1.15em;margin-right:.15rem}
.finding.error .icon{color:var(--error)}.finding.warning .icon{color:var(--warning)}.finding.info .icon{color:var(--info)}
.finding .where{display:flex;flex-wrap:wrap;gap:.35rem;align-items:center;margin-bottom:.5rem}
.chip{font:.8rem/1.5 var(--mono);padding:.05rem .5rem;border-radius:6px;background:var(--raised);border:1px solid var(--line);
overflow-wrap:anywhere}
.chip.variable{border-style:dashed;color:var(--muted)}
.found{font-weight:600;max-width:92ch;overflow-wrap:anywhere}
ul.found{list-style:none;display:grid;grid-template-columns:fit-content(50%) 1fr;gap:.15rem 1rem}
ul.found li{display:contents}
ul.found .mono{color:var(--muted);font-weight:500;padding-top:.1em}
.finding dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem .9rem;margin-top:.5rem;max-width:92ch}
.finding dt{padding-top:.12rem;min-width:2.6rem}
.finding dd{overflow-wrap:anywhere}
details>summary{cursor:pointer;color:var(--accent);font-size:.9rem;padding:.2rem 0;width:fit-content}
.nothing{display:flex;gap:.6rem;align-items:center;padding:1rem 1.25rem;color:var(--ok)}
.scroll{overflow:auto;background:var(--surface);border:1px solid var(--line);border-radius:14px;position:relative;
overscroll-behavior-x:contain}
.tall{max-height:86vh;max-height:86dvh}
table{border-collapse:separate;border-spacing:0;font-size:.9rem}
.data{width:100%}
.data th,.data td{padding:.5rem .58rem;text-align:left;vertical-align:baseline;border-bottom:1px solid var(--line);white-space:nowrap}
.data tbody tr:last-child>*{border-bottom:0}
.data thead th{position:sticky;top:0;z-index:2;background:var(--raised);color:var(--muted);font-size:.8rem;font-weight:600}
.data tbody th{font-weight:600;position:sticky;left:0;z-index:1;background:var(--surface);font-family:var(--mono);font-size:.82rem;
max-width:19rem;min-width:6rem;white-space:normal;overflow-wrap:anywhere}
.data tbody th.long{min-width:15rem}
.data thead th:first-child{left:0;z-index:3}
.data tbody tr:hover>*{background:var(--raised)}
.data small{font-size:.78rem}
.data td small{display:block;color:var(--muted)}
.data td small.bad{color:var(--error)}.data td small.warn{color:var(--warning)}
.data td.cards{white-space:normal;min-width:15rem}
.data td.several{white-space:normal;min-width:11.5rem}
td.na,.soft{color:var(--muted)}
.num{text-align:right!important;font-variant-numeric:tabular-nums}
.good{color:var(--ok)}.bad{color:var(--error)}.warn{color:var(--warning)}
.drawing,.scroll.fit{width:fit-content;max-width:100%}
.scroll.bleed{max-width:calc(100vw - 3rem);position:relative;left:50%;transform:translateX(-50%)}
.drawing{display:grid;grid-template-columns:max-content max-content;overflow:auto;background:var(--surface);border:1px solid var(--line);
border-radius:14px;overscroll-behavior-x:contain}
.drawing svg{display:block}
.drawing .heads,.drawing .rails{margin-left:-1px}
.corner,.heads,.names{position:sticky;background:var(--surface)}
.corner{top:0;left:0;z-index:3}
.heads{top:0;z-index:2}
.names{left:0;z-index:1}
.drawing text{font:12px var(--mono);fill:var(--text);white-space:pre}
.b{font-weight:650}.names .b{font-size:12px}
.s{font:11px var(--sans);fill:var(--muted)}.k{font:600 10px var(--sans);letter-spacing:.05em;fill:var(--muted)}
.e{font:600 11px var(--sans);fill:var(--error)}.w{font:600 11px var(--sans);fill:var(--warning)}
.d{font:600 11px var(--sans);fill:var(--route)}.v{font:600 11px var(--sans);fill:var(--vip)}
.head.cluster .k,.head.cluster .b{fill:var(--accent)}.head.default .k{fill:var(--route)}.head.vip .k,.head.vip .b{fill:var(--vip)}
.box{fill:var(--raised);stroke:var(--strong)}
.box.bad{stroke:var(--error);stroke-width:1.6}.box.unplanned{stroke-dasharray:5 4}
.rail,.cap{fill:none;stroke:var(--rail);stroke-width:4}
.cap{stroke-linecap:round}
.rail.cluster,.cap.cluster{stroke:var(--accent);stroke-width:6}.rail.default,.cap.default{stroke:var(--route)}
.rail.vip,.cap.vip{stroke:var(--vip);stroke-width:3}.rail.vip{stroke-dasharray:3 5}
.stem{stroke:var(--rail);stroke-width:2;fill:none}
.dot{fill:var(--surface);stroke:var(--rail);stroke-width:2.5}
.label{fill:var(--surface);stroke:var(--line)}
.plug.default .dot,.plug.default .stem{stroke:var(--route)}
.plug.vip .dot{fill:var(--vip);stroke:var(--surface);stroke-width:1.5}.plug.vip .stem{stroke:var(--vip)}
.plug.vip .label{fill:none;stroke:none}
.plug.cluster.cluster .stem{stroke:var(--accent)}
.plug.cluster:not(.own) .dot{stroke:var(--accent)}
.plug.own .label{fill:var(--accent-bg);stroke:var(--accent);stroke-width:1.4}
.plug.own .dot{fill:var(--accent);stroke:var(--surface);stroke-width:2}
.plug.vip.fault .label{fill:var(--error-bg)}
.plug.fault .label{stroke:var(--error);stroke-dasharray:4 3}.plug.fault .stem{stroke:var(--error);stroke-dasharray:3 3}
.legend{display:flex;flex-wrap:wrap;gap:.35rem 1.4rem;list-style:none;margin-top:.7rem;font-size:.84rem;color:var(--muted)}
.legend li{display:flex;align-items:center;gap:.45rem}
.legend svg{width:28px;height:24px;flex:none}
.sum{display:flex;flex-wrap:wrap;gap:.5rem 2.2rem;margin-top:.7rem}
.sum div{min-width:0}
.sum dd{font-weight:600}
.matrix{border-spacing:2px;padding:.6rem}
.matrix th{font:500 .8rem var(--mono);text-align:left;background:var(--surface)}
.matrix thead th{position:sticky;top:0;z-index:2;vertical-align:bottom;padding:.3rem}
.matrix tbody th{position:sticky;left:0;z-index:1;padding:0 .7rem 0 .3rem;white-space:nowrap}
.matrix thead td{position:sticky;left:0;top:0;z-index:3;background:var(--surface);color:var(--muted);font-size:.78rem;vertical-align:bottom;
padding:.3rem .7rem .3rem .3rem;white-space:nowrap}
.matrix tbody td{text-align:center;border-radius:4px;font-variant-numeric:tabular-nums}
.matrix tr:hover th{color:var(--accent)}
.matrix.wide tbody td{min-width:6.4rem;padding:.35rem .5rem;line-height:1.35}
.matrix.wide thead th{text-align:center;max-width:11rem;overflow-wrap:anywhere}
.matrix.wide tbody th{max-width:14rem;white-space:normal;overflow-wrap:anywhere}
.matrix.wide small{display:block;font-size:.76rem}
.matrix td b{font-weight:700;margin-right:.25em}
.matrix .y{background:var(--ok-bg);color:var(--ok)}.matrix .l{background:var(--slow-bg);color:var(--slow)}
.matrix .m,.matrix .t{background:var(--warning-bg);color:var(--warning)}
.matrix .x{background:var(--error-bg);color:var(--error)}
.matrix .m,.matrix .t,.matrix .x{font-weight:700;box-shadow:inset 0 0 0 1.5px currentColor}
.matrix .q{color:var(--muted);background:var(--raised)}
.matrix .o{background:repeating-linear-gradient(135deg,var(--line) 0 2px,transparent 2px 5px)}
.matrix.dense{border-spacing:1px;table-layout:fixed;width:max-content}
.matrix.dense tbody td{width:12px;min-width:12px;height:12px;padding:0;font-size:9px;line-height:12px;border-radius:2px}
.matrix.dense th{font-size:10px;line-height:12px;font-weight:400}
.matrix.dense thead th{padding:0 0 4px;width:12px}
.matrix.dense thead th span{writing-mode:vertical-rl;transform:rotate(180deg);display:block;white-space:nowrap;line-height:12px}
.matrix.dense tbody th{padding:0 .5rem 0 .2rem;width:max-content}
.matrix.dense tbody td:hover{outline:2px solid var(--text);outline-offset:0}
.key{display:inline-block;min-width:1.35rem;text-align:center;border-radius:4px;font-size:.8rem;font-weight:700;line-height:1.35rem}
.key.y{background:var(--ok-bg);color:var(--ok)}.key.l{background:var(--slow-bg);color:var(--slow)}
.key.m,.key.t{background:var(--warning-bg);color:var(--warning)}.key.x{background:var(--error-bg);color:var(--error)}
.key.q{background:var(--raised);color:var(--muted)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(21rem,100%),1fr));gap:1rem 2rem;padding:1.15rem 1.25rem}
.facts dd{overflow-wrap:anywhere}
.why{padding:1.1rem 1.25rem 1.15rem 2.3rem}
.why li+li{margin-top:.35rem}
.why li::marker{color:var(--muted)}
.inset{padding:.9rem 1.25rem 1rem}
.inset h3+ul{margin-top:.5rem}
.inset details{margin-top:.5rem}
.reasons{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.5rem 1.1rem;padding:1.1rem 1.25rem}
.reasons dt{font:600 .82rem/1.75 var(--mono);color:var(--text);max-width:15rem;overflow-wrap:anywhere}
.reasons dd{max-width:92ch;overflow-wrap:anywhere}
footer{margin-top:3rem;padding:1.25rem 0 2.5rem;border-top:1px solid var(--line);color:var(--muted);font-size:.85rem}
@media (max-width:40rem){
body{font-size:14.5px}
.wrap{padding:0 1rem}
header{padding-top:1.25rem}
h1{font-size:1.4rem}
.verdict{padding:1rem;gap:.8rem;align-items:flex-start}
.verdict>.icon{width:2rem;height:2rem}
.tiles{grid-template-columns:1fr 1fr}
.scroll.bleed{max-width:100%;left:0;transform:none}
.finding{padding-right:.9rem}
.finding dl,.reasons{grid-template-columns:1fr;gap:.1rem}
.finding dd+dt,.reasons dd+dt{margin-top:.45rem}
ul.found,ul.found li{display:block}
ul.found li+li{margin-top:.4rem}
ul.found span{display:block}
.data tbody th,.data tbody th.long{min-width:7rem;max-width:9rem}
.matrix.wide tbody th{max-width:7.5rem}
}
@media print{
@page{size:A4 landscape;margin:11mm}
:root{color-scheme:light}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
html{font-size:11.5px}
body{font-size:11.5px;background:#fff}
.data th,.data td{white-space:normal;padding:.4rem .5rem}
nav,.skip{display:none}
.wrap{max-width:none;padding:0}
.scroll,.drawing{overflow:visible;max-height:none;border-radius:0}
.scroll.bleed{left:0;transform:none;max-width:none}
.corner,.heads,.names,.data th,.matrix th,.matrix thead td{position:static!important}
.finding,.tiles,.verdict,.data tr,.matrix tr{break-inside:avoid}
h2,h3{break-after:avoid}
details::details-content{content-visibility:visible;block-size:auto}
.matrix.dense tbody td{width:8px;min-width:8px;height:8px;font-size:6px;line-height:8px}
.matrix.dense th,.matrix.dense thead th span{font-size:7px;line-height:8px}.matrix.dense thead th{width:8px}
}
"""
STYLE = (
    f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    f"{_RULES}"
)

ICONS = {
    "error": '<circle cx="12" cy="12" r="9.5"/><path d="M8.5 8.5l7 7m0-7l-7 7"/>',
    "warning": '<path d="M12 3L1.8 20.5h20.4z"/><path d="M12 10v5m0 2.6v.1"/>',
    "info": '<circle cx="12" cy="12" r="9.5"/><path d="M12 11v5.5m0-9v.1"/>',
    "ok": '<circle cx="12" cy="12" r="9.5"/><path d="M7.5 12.5l3.2 3.2l6-7"/>',
}


def icon(name: str) -> str:
    return f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{ICONS[name]}</svg>'
