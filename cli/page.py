"""The timeline as one page of HTML: replicas over machines in time, losses, cost. No script, nothing fetched."""

from datetime import datetime
from html import escape

from api import events
from api.report import IncarnationRecord
from cli.timeline import Moment, Story
from cli.times import HOUR, MINUTE, span

WIDTH, ROW, LEFT, BAR = 960.0, 46.0, 90.0, 24.0
"""In units of the drawing: its width, the height of a replica's row, the room for its name, the height of a bar."""

RIGHT = 30.0
"""The room behind the last tick's middle."""

COLORS = 6
"""The number of colors for machines; each next machine has the next one."""

LETTER = 6.6
"""The width of a letter in a bar."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --track: #eef1f4;
  --loss: #b3261e; --c0: #2f6f9f; --c1: #38805a; --c2: #7a5fa3; --c3: #96691f; --c4: #2f7d7d; --c5: #a04f62; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117;
  --track: #1c2129; --loss: #ff8a80; --c0: #2f6f9f; --c1: #38805a; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.state { color: var(--soft); margin-top: .2rem; }
div.scroll { overflow-x: auto; } svg { width: 100%; min-width: 40rem; height: auto; font-size: 12px; display: block; }
svg text { fill: var(--ink); } svg text.soft { fill: var(--soft); } svg text.name { fill: #fff; }
svg rect.track { fill: var(--track); } svg .loss { stroke: var(--loss); stroke-width: 3; fill: var(--loss); }
svg .checkpoint { fill: var(--ink); } svg line.tick { stroke: var(--line); }
p.legend { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; } td.time, td.after { white-space: nowrap; color: var(--soft); }
td.what { white-space: nowrap; } tr.warning td.what { color: var(--loss); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.3rem; }
@media (max-width: 40rem) { th { display: none; } tr { display: block; padding: .4rem 0;
  border-bottom: 1px solid var(--line); } td { display: inline-block; border: 0; padding: 0 .6rem 0 0; }
  td.message { display: block; } }
"""


def page(story: Story) -> str:
    """Write the page."""
    status = story.status
    title = f"{escape(story.namespace)}/{escape(story.name)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            f'<p class="state">{escape(status.state or "")} · {story.created:%Y-%m-%d %H:%M} UTC, '
            f"{span(story.longest)}</p>",
            _figures(story),
            "<h2>Replicas over machines</h2>",
            f'<div class="scroll">{drawing(story)}</div>',
            '<p class="legend">A bar is one run on its machines; point at it to read more. A red end: the machine or '
            "the run was lost. ▲: a checkpoint.</p>",
            "<h2>What happened</h2>",
            "<table><tr><th>time (UTC)</th><th>after</th><th>what</th><th></th></tr>",
            *(_row(story, moment) for moment in story.moments),
            "</table></body></html>",
        ]
    )


def drawing(story: Story) -> str:
    """Draw a row for each replica, with a bar for each incarnation and a mark where one was lost."""
    replicas = sorted({past.replica for past in story.incarnations})
    nodes = list(dict.fromkeys(past.node or "" for past in story.incarnations))
    bottom = ROW * max(1, len(replicas))
    height = bottom + 44
    parts = [f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="replicas over machines in time">']
    parts += [_tick(story, quarter / 4, bottom) for quarter in range(5)]
    for number, replica in enumerate(replicas):
        top = number * ROW
        parts.append(f'<text x="0" y="{top + 25:.0f}">replica {replica}</text>')
        parts.append(_box("track", LEFT, top + 8, WIDTH - LEFT - RIGHT))
        for past in story.incarnations:
            if past.replica == replica:
                parts.append(_bar(story, past, top + 8, nodes.index(past.node or "") % COLORS))
    parts += [_checkpoint(story, moment, bottom) for moment in story.moments if moment.what in _CHECKPOINTS]
    return "".join([*parts, "</svg>"])


_CHECKPOINTS = frozenset({events.CHECKPOINT_COMPLETED})
_WELL = frozenset({"Succeeded", "Completed", "Suspended", "ScaledDown"})


def _bar(story: Story, past: IncarnationRecord, top: float, color: int) -> str:
    begin, end = _x(story, past.started_at), _x(story, past.ended_at or story.until)
    width = max(2.0, end - begin)
    origin = f"from {past.restored_from}" if past.restored_from else "from the beginning"
    told = f"incarnation {past.incarnation} on {past.node} {origin}" + (f"; {past.why_ended}" if past.why_ended else "")
    name = _shown(past.node or "", width)
    lost = past.ended_at is not None and past.why_ended not in _WELL
    mark = f'<line class="loss" x1="{end:.1f}" y1="{top - 4:.1f}" x2="{end:.1f}" y2="{top + BAR + 4:.1f}"/>'
    return (
        f"<g><title>{escape(told)}</title>{_box('bar', begin, top, width, f'var(--c{color})')}"
        f'<text class="name" x="{begin + 6:.1f}" y="{top + 16:.1f}">{escape(name)}</text>{mark if lost else ""}</g>'
    )


def _box(kind: str, x: float, y: float, width: float, fill: str = "") -> str:
    style = f' style="fill: {fill}"' if fill else ""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR:.0f}" rx="3"{style}/>'


def _shown(name: str, width: float) -> str:
    """Name the machines in a bar, as far as there is room: the end of a VM's name tells most."""
    machines, room = name.split(", "), int((width - 12) / LETTER)
    words = name if len(machines) == 1 else f"{len(machines)} machines"
    if len(words) <= room:
        return words
    return f"…{words[-(room - 1) :]}" if room > 6 and len(machines) == 1 else ""


def _checkpoint(story: Story, moment: Moment, bottom: float) -> str:
    x = _x(story, moment.at)
    points = f"{x:.1f},{bottom:.0f} {x - 4:.1f},{bottom + 8:.0f} {x + 4:.1f},{bottom + 8:.0f}"
    return f'<g><title>{escape(moment.message)}</title><polygon class="checkpoint" points="{points}"/></g>'


def _tick(story: Story, share: float, bottom: float) -> str:
    x = LEFT + share * (WIDTH - LEFT - RIGHT)
    return (
        f'<line class="tick" x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{bottom + 12:.0f}"/>'
        f'<text class="soft" x="{x:.1f}" y="{bottom + 30:.0f}" text-anchor="middle">{_clock(story, share)}</text>'
    )


def _clock(story: Story, share: float) -> str:
    """Write the time of a tick: with its seconds if all of the job is shorter than an hour."""
    seconds = round(share * story.longest)
    return f"{seconds // MINUTE}:{seconds % MINUTE:02d}" if story.longest < HOUR else span(seconds)


def _x(story: Story, at: datetime) -> float:
    after = (at - story.created).total_seconds()
    share = min(1.0, max(0.0, after / story.longest))
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _figures(story: Story) -> str:
    status, cost = story.status, story.status.cost
    preemptions = sum(entry.preemptions or 0 for entry in status.job_statuses)
    restarts = sum(entry.restarts or 0 for entry in status.job_statuses)
    told = [("preemptions", str(preemptions)), ("restarts of its own", str(restarts))]
    if cost is not None:
        sums = cost.until(story.until)
        told += [
            ("cost", "?" if cost.is_unknown else f"${sums.usd:.2f}"),
            ("the same on-demand", f"${sums.on_demand_usd:.2f}"),
            ("VM hours", f"{sums.vm_hours:.2f}"),
            ("training lost", span(cost.lost_seconds)),
            ("frozen by checkpoints", span(cost.frozen_seconds)),
        ]
    return "<dl>" + "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>" for what, value in told) + "</dl>"


def _row(story: Story, moment: Moment) -> str:
    after = span((moment.at - story.created).total_seconds())
    style = ' class="warning"' if moment.warning else ""
    return (
        f'<tr{style}><td class="time">{moment.at:%m-%d %H:%M:%S}</td><td class="after">{after}</td>'
        f'<td class="what">{escape(moment.what)}</td><td class="message">{escape(moment.message)}</td></tr>'
    )
