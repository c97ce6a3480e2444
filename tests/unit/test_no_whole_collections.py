"""No activity reads a whole collection of the cluster: what many need is watched once and read from memory.

A search of the code, because a test's cluster is small.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ACTIVITIES = Path(__file__).parents[2] / "activities"

NARROW = {
    "diagnosis/rights.py: selfsubjectaccessreviews": "asked, and never listed",
    "documents/inventory.py: nodes": "once in a job's life, by the job's label",
    "documents/protected.py: secrets": "once in a job's life, by the job's label; Secrets are not watched",
    "kubernetes/nodes.py: pods": "of one node, before they are evicted",
    "kubernetes/strangers.py: pods": "of one node, before a device is used on it",
    "preflight/devices.py: deviceclasses": "one, to know whether there is any",
}
"""Paths without a namespace from which something is read, and why the answer does not grow with the cluster."""


def test_no_activity_lists_the_cluster() -> None:
    files = [file for file in ACTIVITIES.rglob("*.py") if file.parent.name != "orphans"]
    found = {f"{file.relative_to(ACTIVITIES)}: {plural}" for file in files for _, plural in collections_in(file)}
    assert found == NARROW.keys()


def test_the_sweep_reads_page_by_page() -> None:
    large = {"nodes", "pods", "JOB_PLURAL", "CHECKPOINT_PLURAL"}
    read = [
        f"{file.name}: {plural}"
        for file in (ACTIVITIES / "orphans").glob("*.py")
        for method, plural in collections_in(file)
        if method == "list" and plural in large
    ]
    assert read == []


def collections_in(file: Path) -> Iterator[tuple[str, str]]:
    """The collections of all namespaces that are named in a file, each with the method that it is given to."""
    tree = ast.parse(file.read_text())
    methods = {
        call.args[0]: call.func.attr
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args
    }
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "path":
            method = methods.get(call, "")
            if len(call.args) == 2 and not call.keywords and method != "create":
                yield method, ast.unparse(call.args[1]).split(".")[-1].strip("'")
