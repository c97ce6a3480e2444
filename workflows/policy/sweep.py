"""When a sweep is itself the danger."""

FEW = 3


def too_many(orphans: int, seen: int) -> bool:
    """More than a few orphans, and more than half of all VMs: rather a worker that looks at an empty Temporal."""
    return orphans > FEW and orphans * 2 > seen
