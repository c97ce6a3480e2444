"""Search attributes: what workflows can be found by, for example with ``temporal workflow list --query``.

The service keeps their values unencrypted and indexed. A SQL database has room for ten Keywords and three Bools in a
Temporal namespace, and for 255 characters in a value; each change of a value by a workflow is a billed action.
"""

from typing import Literal, NamedTuple

Kind = Literal["Keyword", "Bool"]
"""The names of the types in Temporal's CLI and Web UI."""


class SearchAttribute(NamedTuple):
    """An attribute to register with the Temporal namespace. ``doc`` says what it contains, and for which workflows."""

    name: str
    kind: Kind
    doc: str


JOB_ID = "OutlastJobId"
NAMESPACE = "OutlastNamespace"
JOB = "OutlastJob"
PROJECT = "OutlastProject"
PHASE = "OutlastPhase"
WAITS_FOR = "OutlastWaitsFor"
ON_DEMAND = "OutlastOnDemand"

ALL = (
    SearchAttribute(JOB_ID, "Keyword", "the job's id, as in the names of its VMs and images: of a job and of its VMs"),
    SearchAttribute(NAMESPACE, "Keyword", "the Kubernetes namespace: of a job and of its VMs"),
    SearchAttribute(JOB, "Keyword", "the name of the SpotInstanceJob: of a job and of its VMs"),
    SearchAttribute(PROJECT, "Keyword", "the Google Cloud project: of a VM and of a market"),
    SearchAttribute(PHASE, "Keyword", "what a job as a whole is doing"),
    SearchAttribute(WAITS_FOR, "Keyword", "the condition that a job waits for; else unset"),
    SearchAttribute(ON_DEMAND, "Bool", "true while a job has an on-demand VM"),
)
"""The table in the docs is tested against this one."""
LONGEST = 255
"""Characters of a value: a SQL database's columns have no room for more."""

Values = dict[str, str | bool]
"""Values by the attributes' names."""
