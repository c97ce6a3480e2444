"""The furthest complete checkpoint in a bucket.

A checkpoint that was cut short by the machine's end lacks its manifest, or that of one process. One whose upload failed
has files that are missing or have another size. All of these are skipped.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from activities.storage import Storage
from activities.storage.frameworks import orbax, torch_dcp
from activities.storage.published import judge_published
from api.spot_instance_job import CheckpointLayout


@dataclass(frozen=True)
class Found:
    """The furthest complete checkpoint below a prefix, and which others were skipped and why."""

    path: str | None
    progress: float = 0.0
    passed_over: list[str] = field(default_factory=list)


async def furthest_complete(
    storage: Storage,
    prefix: str,
    avoid: Iterable[str] = (),
    *,
    layout: CheckpointLayout = "Outlast",
    machines: int = 1,
) -> Found:
    """Judge all checkpoints below ``prefix``.

    Args:
        storage: the bucket.
        prefix: a directory of checkpoints, or one checkpoint.
        avoid: checkpoints that are known to be useless.
        layout: how a checkpoint says that it is complete.
        machines: how many machines are to load it.

    Raises:
        CloudError: the bucket cannot be read.
    """
    sizes = {each.key: each.size for each in await storage.list(prefix)}
    useless = set(avoid)
    if layout == "TorchDCP":
        judged = torch_dcp(prefix, sizes)
    elif layout == "Orbax":
        judged = orbax(prefix, sizes)
    else:
        judged = await judge_published(storage, prefix, sizes, useless, machines)
    judged = [one for one in judged if one.path not in useless]
    best = max((one for one in judged if not one.problem), key=lambda one: (one.progress, one.path), default=None)
    bad = [f"{one.path}: {one.problem}" for one in judged if one.problem and (best is None or one.path != best.path)]
    return Found(best.path if best else None, best.progress if best else 0.0, bad)
