"""The timeline as one page of HTML: replicas over machines in time, losses, cost. No script, nothing fetched."""

from html import escape

from api.report import IncarnationRecord
from cli.timeline import Moment, Story
from cli.times import span

WIDTH, ROW, LEFT, BAR = 960.0, 46.0, 110.0, 22.0
"""In units of the drawing: its width, the height of a replica's row, the room for its name, the height of a bar."""

COLORS = ("#2f6f9f", "#5a9e6f", "#8a6fae", "#b0813a", "#3f8f8f", "#a05a6a")
"""One for each machine in turn."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.state { color: #555; margin-top: .2rem; } svg { width: 100%; height: auto; font-size: 12px; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .25rem .8rem .25rem 0; vertical-align: top; }
th { border-bottom: 1px solid #ccc; } td.time { white-space: nowrap; color: #555; } tr.warning td { color: #a03020; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; }
dt { color: #555; font-size: .85rem; } dd { margin: 0; font-size: 1.3rem; }
"""


def page(story: Story) -> str:
    """Write the page."""
    status = story.status
    title = f"{escape(story.namespace)}/{escape(story.name)}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head><body>',
            f"<h1>{title}</h1>",
            f'<p class="state">{escape(status.state or "")} · {story.created:%Y-%m-%d %H:%M} UTC, '
            f"{span(story.longest)}</p>",
            _figures(story),
            "<h2>Replicas over machines</h2>",
            drawing(story),
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
    height = ROW * max(1, len(replicas)) + 30
    parts = [f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="replicas over machines in time">']
    for number, replica in enumerate(replicas):
        top = number * ROW
        parts.append(f'<text x="0" y="{top + 22:.0f}">replica {replica}</text>')
        for past in story.incarnations:
            if past.replica == replica:
                parts.append(_bar(story, past, top + 8, COLORS[nodes.index(past.node or "") % len(COLORS)]))
    parts += [_tick(story, quarter / 4, height) for quarter in range(5)]
    return "".join([*parts, "</svg>"])


def _bar(story: Story, past: IncarnationRecord, top: float, color: str) -> str:
    begin, end = _x(story, past.started_at), _x(story, past.ended_at or story.until)
    width = max(2.0, end - begin)
    origin = f"from {past.restored_from}" if past.restored_from else "from the beginning"
    told = f"incarnation {past.incarnation} on {past.node} {origin}" + (f"; {past.why_ended}" if past.why_ended else "")
    name = (
        f'<text x="{begin + 4:.1f}" y="{top + 15:.1f}" fill="#fff">{escape(past.node or "")}</text>'
        if width > 130
        else ""
    )
    lost = past.ended_at is not None and past.why_ended not in ("Succeeded", "Completed", "Suspended", "ScaledDown")
    mark = (
        f'<line x1="{end:.1f}" y1="{top - 4:.1f}" x2="{end:.1f}" y2="{top + BAR + 4:.1f}" '
        'stroke="#a03020" stroke-width="3"/>'
    )
    return (
        f'<g><title>{escape(told)}</title><rect x="{begin:.1f}" y="{top:.1f}" width="{width:.1f}" height="{BAR}" '
        f'rx="3" fill="{color}"/>{name}{mark if lost else ""}</g>'
    )


def _tick(story: Story, share: float, height: float) -> str:
    x = LEFT + share * (WIDTH - LEFT - 40)
    return f'<text x="{x:.1f}" y="{height - 6:.0f}" fill="#555">{span(share * story.longest)}</text>'


def _x(story: Story, at: object) -> float:
    after = (at - story.created).total_seconds()  # type: ignore[operator]
    share = min(1.0, max(0.0, after / story.longest))
    return float(LEFT + share * (WIDTH - LEFT - 40))


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
        f'<tr{style}><td class="time">{moment.at:%m-%d %H:%M:%S}</td><td class="time">{after}</td>'
        f"<td>{escape(moment.what)}</td><td>{escape(moment.message)}</td></tr>"
    )
