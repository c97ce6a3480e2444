"""The layout of ``checkpointStorage``, and the manifests that make a directory there a checkpoint.

Everything of a job is below ``<pathPrefix>/<job id>/``::

    checkpoints/r<replica>-i<incarnation>/   the checkpoints of one incarnation, which alone writes there
    outputs/r<replica>/                      what ``spec.outputs`` names; of a gang, its first member's
    logs/r<replica>/i<incarnation>.log       the log of one incarnation; sorted by name, they are in order
    logs/r<replica>/i<incarnation>-m<member>.log    the end of the log of a further member of a gang
    report.json                              what became of the job, written at its end
"""

import re
from urllib.parse import quote

from pydantic import Field

from api.model import Model
from api.names import shown
from api.spot_instance_job import CheckpointStorage

MANIFEST = "outlast.json"
"""Written last: the files beside it are a checkpoint, complete if each has the size that the manifest states."""
MANIFEST_BYTES = 2**20
SHARD_MANIFEST = re.compile(r"outlast-(0|[1-9][0-9]{0,4})-of-([1-9][0-9]{0,4})\.json")
"""Written last by each of several processes: its rank, and how many of them write this checkpoint."""
INCARNATION = re.compile(r"r([0-9]+)-i([0-9]+)")
"""The directory of one incarnation: its replica, and its number."""
_SCHEMES = {"gcs": "gs", "s3": "s3", "azure": "az"}


class Manifest(Model):
    """The content of ``outlast.json``."""

    version: int = Field(default=1, ge=1, le=1)
    progress: float = Field(allow_inf_nan=False)  # what the training counts, for example its steps
    files: dict[str, int]  # path relative to the manifest → size in bytes


class ShardManifest(Model):
    """The content of ``outlast-<rank>-of-<world>.json``; a checkpoint is complete once every rank has written its own.

    ``progress`` and ``run`` are the same in all of them. A run is one start of the processes, so that those of the next
    start do not complete what others began.
    """

    version: int = Field(ge=2, le=2)
    progress: float = Field(allow_inf_nan=False)
    files: dict[str, int]  # as in ``Manifest``; no file is named by two ranks
    fits: list[int] | None = Field(
        default=None, min_length=1, max_length=99
    )  # how many machines can load it; None: any number
    run: str = Field(default="", max_length=256)


def shard_manifest(rank: int, world: int) -> str:
    """Name the manifest of one rank: ``outlast-3-of-8.json``."""
    return f"outlast-{rank}-of-{world}.json"


def job_prefix(storage: CheckpointStorage, job_id: str) -> str:
    """Give the prefix of everything of a job; it has no slash at either end, like all prefixes here."""
    return "/".join(filter(None, [as_prefix(storage.path_prefix), job_id]))


def checkpoints_prefix(storage: CheckpointStorage, job_id: str) -> str:
    """Give the prefix of the checkpoints of all of a job's incarnations."""
    return f"{job_prefix(storage, job_id)}/checkpoints"


def incarnation_prefix(storage: CheckpointStorage, job_id: str, replica: int, incarnation: int) -> str:
    """Give the prefix below which one incarnation, and no other, writes its checkpoints."""
    return f"{checkpoints_prefix(storage, job_id)}/r{replica}-i{incarnation}"


def outputs_prefix(storage: CheckpointStorage, job_id: str, replica: int, member: int | None = None) -> str:
    """Give the prefix of the outputs of a replica, or of a member of a gang."""
    below = "" if member is None else f"/m{member}"
    return f"{job_prefix(storage, job_id)}/outputs/r{replica}{below}"


def logs_prefix(storage: CheckpointStorage, job_id: str, replica: int) -> str:
    """Give the prefix of the logs of a replica's incarnations."""
    return f"{job_prefix(storage, job_id)}/logs/r{replica}"


def log_key(storage: CheckpointStorage, job_id: str, replica: int, incarnation: int, member: int = 0) -> str:
    """Give the key of one incarnation's log, or of what is kept of the log of a further member of a gang."""
    of_member = f"-m{member}" if member else ""
    return f"{logs_prefix(storage, job_id, replica)}/i{incarnation:05}{of_member}.log"


def moved_log_key(storage: CheckpointStorage, job_id: str, replica: int) -> str:
    """Give the key for what a ConfigMap kept while the bucket could not be written; it sorts behind the others."""
    return f"{logs_prefix(storage, job_id, replica)}/kept-in-cluster.log"


def report_key(storage: CheckpointStorage, job_id: str) -> str:
    """Give the key of the report on what became of the job: :class:`api.report.JobReport`."""
    return f"{job_prefix(storage, job_id)}/report.json"


def url(storage: CheckpointStorage, key: str) -> str:
    """Write the URL for ``gcloud storage``, ``aws s3`` or ``az``: ``gs://bucket/team/0a1b2c3d/logs/r0``."""
    return f"{_SCHEMES.get(storage.type, storage.type)}://{storage.bucket}/{key}"


def as_prefix(path: str) -> str:
    """Turn a path that a person wrote into a prefix."""
    return "/".join(part for part in path.split("/") if part)


def key_below(prefix: str, path: str) -> str:
    """Build the key of a file that a machine calls ``path``; what a key cannot contain is encoded as in a URL.

    Raises:
        ValueError: the path leads out of the prefix.
    """
    parts = [part for part in path.split("/") if part]
    if not parts or not path.startswith("/") or {".", ".."} & set(parts):
        raise ValueError(f"{shown(path)} is not a path below {prefix}")
    return "/".join([prefix, *(re.sub(r"[\x00-\x1f\x7f]", lambda found: quote(found[0]), part) for part in parts)])
