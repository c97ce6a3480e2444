"""Types of the conditions in a status: a SpotInstanceJob's, in the order in which a job meets them, and others'.

The text below each constant is the sentence that ``docs/events.md`` shows. ``docs/conditions.md`` says what helps.
"""

# --- checks, before anything is bought and again for as long as the job exists

ACCEPTED = "Accepted"
"""True if the spec can be worked with, and everything that it names exists."""
OPERATOR_READY = "CheckpointOperatorReady"
"""True if the cluster has the CheckpointBackup CRD with all fields that are used."""
REGISTRY_READY = "RegistryReady"
"""True if checkpoint images can be pushed to their repository and pulled from it."""
STORAGE_READY = "StorageReady"
"""True if the bucket of checkpointStorage exists and can be read."""
CREDENTIALS_READY = "CredentialsReady"
"""True if the cloud credentials have all permissions that are needed."""
CLOUD_READY = "CloudReady"
"""True if the cloud has the machine type, the GPU and the image in the zones that the spec names."""
MACHINE_FITS = "MachineFits"
"""True if the template's pod can run on some machine that may be bought."""

# --- while it exists

CAPACITY_AVAILABLE = "CapacityAvailable"
"""True if the last VM request was met, or a GPU of the cluster was free."""
PODS_START = "PodsStart"
"""True if every pod that was started runs; Unknown if none is being started."""
QUEUED = "Queued"
"""True if a queue or somebody else holds the Job of a replica, so that nothing is bought for it."""
RUNNING = "Running"
"""True if at least one replica trains."""
AGENT_READY = "AgentReady"
"""True if every bought Node has its node agent. It is absent until one lacks it for the first time."""
STABLE = "Stable"
"""False if the pods of a replica end again and again on machines that stay up. It is absent until then."""
PROGRESSING = "Progressing"
"""False if a training no longer reports progress."""
RECOVERING = "Recovering"
"""True if a replica was lost and is being replaced."""
SUSPENDED = "Suspended"
"""True if the job has released everything because spec.suspend says so."""
RESTORABLE = "Restorable"
"""False if checkpoints were made and none of them can be used, so that a person has to decide."""
CHECKPOINTS_SUCCEED = "CheckpointsSucceed"
"""True if the last checkpoint made an image."""
CHECKPOINTS_PROVEN = "CheckpointsProven"
"""True if a replica was restored from an image and has then trained."""
CHECKPOINT_PUBLISHED = "CheckpointPublished"
"""In mode Application: True if the training has published a complete checkpoint."""

# --- the end

COMPLETED = "Completed"
"""True if the training is done."""
FAILED = "Failed"
"""True if the job has failed for good."""
LOGS_SAVED = "LogsSaved"
"""True if the logs of ended incarnations are in the bucket."""
OUTPUTS_SAVED = "OutputsSaved"
"""True if the files that the training left are in the bucket."""
REPORT_WRITTEN = "ReportWritten"
"""True if the report is in the bucket."""
TORN_DOWN = "TornDown"
"""True if nothing is left of the job but its object."""

# --- of an InstanceTemplate

MIRRORED = "Mirrored"
"""True if the SpotInstanceVM of the name of an InstanceTemplate is made from it."""
