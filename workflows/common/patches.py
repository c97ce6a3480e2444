"""Which changes of its steps a run has: the patches of ``workflow.patched``, with one note for all of a release.

A run keeps the steps that it began with, because its history is replayed. For each patch that a run asks for, Temporal
writes two events and changes its search attributes. So a run asks for its release first. If it has that, it has every
patch that came with the release or before.
"""

from temporalio import workflow

RELEASES: dict[str, frozenset[str]] = {"0.3.0": frozenset()}
"""The releases that note themselves, the newest first, and the names of the patches that came with each.

Patches that came with the oldest of them, or before, are not listed.
"""


def patched(name: str) -> bool:
    """True if the run has this patch. It is what :func:`temporalio.workflow.patched` says, at less expense."""
    for release, came in RELEASES.items():
        if workflow.patched(release):
            return True
        if name in came:
            break  # no earlier release has it
    return workflow.patched(name)
