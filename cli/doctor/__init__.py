"""``outlast doctor``: whether an installation is whole, a line for each part, with what to do.

Three look, each at what it can reach: this command at the cluster and at Temporal, and the worker, asked through
Temporal, at the cloud, the registries, the buckets, its keys and its rights. What may not be looked at is said.
Temporal is asked if ``TEMPORAL_ADDRESS`` is set, as for the ``temporal`` CLI.
"""

from collections.abc import AsyncIterator, Callable

from rich.table import Table
from rich.text import Text

from api.diagnosis import Finding
from cli.doctor import cluster, nodes, service
from cli.session import Cluster, console
from clients.kube import KubeError

Check = Callable[[Cluster, str], AsyncIterator[Finding]]

CHECKS: dict[str, Check] = {
    "API server": cluster.version,
    "CRDs": cluster.definitions,
    "policies": cluster.policies,
    "roles": cluster.roles,
    "programs": cluster.programs,
    "settings": cluster.settings,
    "Nodes": nodes.nodes,
}


async def look(where: Cluster, system: str, job: str | None = None) -> list[Finding]:
    """Check all parts.

    Args:
        where: the cluster.
        system: the namespace in which Outlast is installed.
        job: the job about whose needs the worker is asked; None for all.
    """
    found: list[Finding] = []
    looks = {part: check(where, system) for part, check in CHECKS.items()}
    for part, findings in (*looks.items(), ("Temporal", service.service(where, job))):
        try:
            found += [finding async for finding in findings]
        except KubeError as error:
            remedy = "ask an operator, or for the right"
            found.append(Finding(part=part, well=False, told=error.message, remedy=remedy))
    return found


def show(findings: list[Finding]) -> None:
    """Print the findings."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        mark = Text("✓", style="green") if finding.well else Text("✗", style="red")
        remedy = f"\n→ {finding.remedy}" if finding.remedy and not finding.well else ""
        shown.add_row(mark, finding.part, Text.assemble(finding.told, (remedy, "dim")))
    console.print(shown)
