"""``python -m api.vocabulary``: write ``docs/events.md`` and ``docs/metrics.md`` from what people read.

With ``--check`` it compares them and fails on drift.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from api import metrics, reasons
from api.generated import write_or_compare

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"

HEAD = """\
# Conditions and Events

After this page you can read every word that Outlast writes into a job's status and Events. It is generated from
`api/conditions.py`, `api/reasons.py`, `api/errors.py`, `api/events.py` and `api/phases.py` by
`python -m api.vocabulary`. [Conditions](conditions.md) says what helps.
"""

TABLES = {
    "conditions": "Types of conditions: `kubectl describe sij NAME`, `kubectl wait --for=condition=TYPE`.",
    "reasons": "Reasons of conditions: `reason` beside each `type`, for programs. The message is for people.",
    "errors": "Errors of the API server, cloud, registry and bucket, each of which may be the reason of a condition.",
    "events": "Reasons of Events: `kubectl events --for sij/NAME`. Those of `Stable=False` are reasons of Events, too.",
    "phases": "Phases of a replica: `status.jobStatuses[].phase`.",
}

OF_OTHERS = """\
Words of others are those of the kubelet, the scheduler, a controller or a monitor of the
node's health, such as `ImagePullBackOff` or `KernelDeadlock`.
"""


METRICS_HEAD = """\
# Metrics

After this page you know which metrics Outlast serves and what each means. [Alerts](alerts.md) has rules for them. The
tables are generated from `api/metrics.py` by `python -m api.vocabulary`.

Worker and bridge serve Prometheus at [`OUTLAST_METRICS_ADDRESS`](settings.md), port 9090 of their pods.

- **Labels** have few values: never a job, a replica or a VM. `job_namespace` is the namespace of the jobs. `namespace`
  is the pod's own, or the Temporal namespace.
- **A gauge** shows what its process knew last. Only the bridge that acts counts jobs and VMs, and the others show 0. So
  add up gauges of the bridge over all pods, and take the maximum of those of workers.
- **A histogram** counts what this process has done since it started. It counts nothing twice if a workflow is replayed.
  If a worker dies in the middle of a step, another one may count that step again.
- Costs are [estimates by list prices](cost.md).
"""

METRICS_TAIL = """\
## Dashboards

`deploy/components/monitoring/dashboards` has two for Grafana. Import the files by *Dashboards → New → Import*:

- `operators.json` is for those who run Outlast: whether it acts, what waits, how fast notices are answered.
- `teams.json` is for those who train: what their jobs do and wait for, what they cost and lose. It asks for the
  namespace.

Both were checked against Grafana's schema of dashboards (version 10.1), and never seen in a running Grafana.

## Of the SDK

Both programs also serve the metrics of Temporal's SDK (`temporal_…`): requests that failed, by status; activities;
slots. [Temporal's reference](https://docs.temporal.io/references/sdk-metrics) lists them. Durations are in seconds.
"""


def words(module: str) -> dict[str, str]:
    """Read the constants of a module of this package: each word with the sentence below it."""
    found, name = {}, None
    for node in ast.parse((HERE / f"{module}.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            name = node.value.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name is not None:
            found[name], name = " ".join(str(node.value.value).split()), None
    return found


def page() -> str:
    """Write the whole page."""
    parts = [HEAD]
    for module, about in TABLES.items():
        table = _table((module[:-1], "meaning"), words(module).items())
        of_conditions = (
            f"{_table(('condition', 'its reasons'), _reasons())}\n{OF_OTHERS}\n" if module == "reasons" else ""
        )
        parts.append(f"## {module.capitalize()}\n\n{about}\n\n{of_conditions}{table}")
    return "\n".join(parts)


def metrics_page() -> str:
    """Write the page of the metrics."""
    head = "| metric | kind | of | labels | what it is |\n|---|---|---|---|---|"
    parts = [METRICS_HEAD]
    for title, of in metrics.GROUPS.items():
        rows = [
            f"| `{each.name}` | {each.kind} | {each.of} | {', '.join(f'`{label}`' for label in each.labels)} "
            f"| {each.about} |"
            for each in of
        ]
        parts.append("\n".join([f"## {title}\n", head, *rows, ""]))
    return "\n".join([*parts, METRICS_TAIL])


def _reasons() -> Iterator[tuple[str, str]]:
    """List each condition with the reasons that it may have."""
    for condition, own in reasons.OF.items():
        said = [f"`{reason}`" for reason in own]
        if condition in reasons.WITH_ERRORS:
            said.append("an [error](#errors)")
        if condition in reasons.IN_WORDS_OF_OTHERS:
            said.append("a word of others")
        yield condition, ", ".join(said)


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| `{word}` | {meaning} |" for word, meaning in rows]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *lines, ""])


def main(words: list[str] | None = None) -> int:
    """Write the pages, or compare them; return the exit code."""
    return write_or_compare("api.vocabulary", {DOCS / "events.md": page(), DOCS / "metrics.md": metrics_page()}, words)


if __name__ == "__main__":
    sys.exit(main())
