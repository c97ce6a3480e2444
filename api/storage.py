"""What lies where in ``checkpointStorage``, and the manifest that makes a directory there a checkpoint.

Everything of a job is under ``<pathPrefix>/<job id>/``::

    checkpoints/r<replica>-i<incarnation>/   of one incarnation, which alone writes there
    outputs/r<replica>/                      what ``spec.outputs`` names
    logs/r<replica>/i<incarnation>.log       of one incarnation; sorted by name, they are in order
    report.json                              what became of the job, written at its end
"""

import re
from urllib.parse import quote

from pydantic import Field

from api.model import Model
from api.names import shown
from api.spot_instance_job import CheckpointStorage

MANIFEST = "outlast.json"
"""Written last: what lies beside it is a checkpoint, complete if each file has the size that is said."""
MANIFEST_BYTES = 2**20
_SCHEMES = {"gcs": "gs", "s3": "s3", "azure": "az"}


class Manifest(Model):
    """The content of ``outlast.json``."""

    version: int = Field(default=1, ge=1, le=1)
    progress: float = Field(allow_inf_nan=False)  # what the training counts, for example its steps
    files: dict[str, int]  # path relative to the manifest → size in bytes


def job_prefix(storage: CheckpointStorage, job_id: str) -> str:
    """Where everything of a job lies; without a slash at either end, like all prefixes here."""
    return "/".join(filter(None, [as_prefix(storage.path_prefix), job_id]))


def checkpoints_prefix(storage: CheckpointStorage, job_id: str) -> str:
    """Where the checkpoints of all of a job's incarnations lie."""
    return f"{job_prefix(storage, job_id)}/checkpoints"


def incarnation_prefix(storage: CheckpointStorage, job_id: str, replica: int, incarnation: int) -> str:
    """Where one incarnation writes its checkpoints, and no other."""
    return f"{checkpoints_prefix(storage, job_id)}/r{replica}-i{incarnation}"


def outputs_prefix(storage: CheckpointStorage, job_id: str, replica: int) -> str:
    """Where a replica's outputs come to lie."""
    return f"{job_prefix(storage, job_id)}/outputs/r{replica}"


def logs_prefix(storage: CheckpointStorage, job_id: str, replica: int) -> str:
    """Where the logs of a replica's incarnations lie."""
    return f"{job_prefix(storage, job_id)}/logs/r{replica}"


def log_key(storage: CheckpointStorage, job_id: str, replica: int, incarnation: int) -> str:
    """The object that holds one incarnation's log."""
    return f"{logs_prefix(storage, job_id, replica)}/i{incarnation:05}.log"


def moved_log_key(storage: CheckpointStorage, job_id: str, replica: int) -> str:
    """The object for what a ConfigMap kept while the bucket could not be written; sorts behind the others."""
    return f"{logs_prefix(storage, job_id, replica)}/kept-in-cluster.log"


def report_key(storage: CheckpointStorage, job_id: str) -> str:
    """The object that says what became of the job: :class:`api.report.JobReport`."""
    return f"{job_prefix(storage, job_id)}/report.json"


def url(storage: CheckpointStorage, key: str) -> str:
    """Build what people hand to ``gcloud storage``, ``aws s3`` or ``az``: ``gs://bucket/team/0a1b2c3d/logs/r0``."""
    return f"{_SCHEMES.get(storage.type, storage.type)}://{storage.bucket}/{key}"


def as_prefix(path: str) -> str:
    """Turn a path that a person wrote into a prefix."""
    return "/".join(part for part in path.split("/") if part)


def key_below(prefix: str, path: str) -> str:
    """Build the key of a file that a machine calls ``path``; what no key can hold is encoded as in a URL.

    Raises:
        ValueError: the path leads out of the prefix.
    """
    parts = [part for part in path.split("/") if part]
    if not parts or not path.startswith("/") or {".", ".."} & set(parts):
        raise ValueError(f"{shown(path)} is not a path below {prefix}")
    return "/".join([prefix, *(re.sub(r"[\x00-\x1f\x7f]", lambda found: quote(found[0]), part) for part in parts)])
