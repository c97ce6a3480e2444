"""Reasons of the conditions in a status: a word for programs beside the message for people.

The text below each constant is the sentence that ``docs/events.md`` shows. ``OF`` says which reasons each condition may
have.
"""

from collections.abc import Mapping

from api import conditions, errors

# --- a job's documents

SPEC_IS_VALID = "SpecIsValid"
"""The spec can be worked with; the message warns of what is doubtful in it."""
INVALID_SPEC = "InvalidSpec"
"""A field of the spec, or of the SpotInstanceVM, has a value that cannot work."""
TOO_LARGE = "TooLarge"
"""A spec is larger than Temporal accepts."""
CANNOT_BE_CHANGED = "CannotBeChanged"
"""An edit changes a field that is fixed by now; it takes no effect until it is undone."""
VM_NOT_FOUND = "VMNotFound"
"""The SpotInstanceVM that the spec names does not exist."""
SECRET_NOT_FOUND = "SecretNotFound"
"""A Secret that the spec names does not exist."""
SECRET_INCOMPLETE = "SecretIncomplete"
"""A Secret that the spec names lacks a key."""
SECRET_NOT_SHARED = "SecretNotShared"
"""A Secret of another namespace is not shared with this one."""
SECRET_NOT_PROTECTED = "SecretNotProtected"
"""So many jobs name a Secret that Kubernetes lets it grow no more."""
JOB_ID_TAKEN = "JobIdTaken"
"""Another job has the same job id, so this one does not begin until it is created again."""
IDENTITY_NOT_LENT = "IdentityNotLent"
"""The namespace may not use the worker's own identity, and the spec names no credentials."""
INVALID_JOB_TEMPLATE = "InvalidJobTemplate"
"""The template is not a Job's, or says something that cannot work here."""
POD_REFUSED = "PodRefused"
"""Admission to the cluster refuses the pod, or the Job that makes it."""
VOLUME_DRIVER_NOT_FOUND = "VolumeDriverNotFound"
"""The cluster lacks the driver of an inline csi volume."""
VOLUME_CLAIM_NOT_FOUND = "VolumeClaimNotFound"
"""A PersistentVolumeClaim that the template names does not exist."""
VOLUME_CLAIM_LOST = "VolumeClaimLost"
"""The volume of a PersistentVolumeClaim is gone."""
VOLUME_CLAIM_NOT_BOUND = "VolumeClaimNotBound"
"""A PersistentVolumeClaim is not bound, and no pod can wait for it."""
VOLUME_NOT_SHAREABLE = "VolumeNotShareable"
"""A PersistentVolumeClaim can be mounted on one node only, and there are several replicas or members."""
KUBERNETES_TOO_OLD = "KubernetesTooOld"
"""The cluster's Kubernetes lacks what pods that train together need."""

# --- checks of what a job needs

NOT_NEEDED = "NotNeeded"
"""The job does without it."""
NOT_INSTALLED = "NotInstalled"
"""The cluster lacks it; the message says what to install."""
SCHEMA_TOO_OLD = "SchemaTooOld"
"""The CheckpointBackup CRD lacks fields that are used."""
INSTALLED = "Installed"
"""The CheckpointBackup CRD has all fields that are used."""
UNREACHABLE = "Unreachable"
"""It does not answer now, so nothing is known of it."""
PUSH_AND_PULL = "PushAndPull"
"""Images can be pushed to the repository and pulled from it."""
READABLE = "Readable"
"""The bucket exists and can be read."""
GRANTED = "Granted"
"""The credentials have all permissions that are needed."""
NO_CREDENTIALS = "NoCredentials"
"""The cloud cannot be asked, because the credentials cannot be used."""
AVAILABLE = "Available"
"""The cloud has everything that the spec names."""

# --- machines that fit

FITS = "Fits"
"""The pod can run on at least one machine that may be bought; the message names those on which it cannot."""
TOO_SMALL = "TooSmall"
"""The pod requests more than the whole machine has."""
LABEL_MISSING = "LabelMissing"
"""No bought Node will have a label that the template demands."""
VOLUME_ELSEWHERE = "VolumeElsewhere"
"""A volume of the pod cannot be reached from the machine's zone."""
NO_DEVICE_CLASS = "NoDeviceClass"
"""The cluster lacks the DeviceClass that a resource claim names."""
NO_MACHINE_TYPE = "NoMachineType"
"""The cloud has none of the machine types, so none could be checked."""

# --- capacity

PROVISIONED = "Provisioned"
"""A VM was bought and has room for the replica."""
GANG_INCOMPLETE = "GangIncomplete"
"""Not all machines of a gang could be bought in one zone in time."""
FREE_GPU = "FreeGPU"
"""A GPU of the cluster was free."""
NO_ROOM = "NoRoom"
"""The VM that was bought for a replica has no room for its pod."""
CREATE_TIMEOUT = "CreateTimeout"
"""The cloud did not finish creating a VM in time."""
JOIN_FAILED = "JoinFailed"
"""A VM ran, and kubeadm join failed on it."""
BOOTING_TIMEOUT = "BootingTimeout"
"""A VM ran, and did not answer by SSH in time."""
JOINING_TIMEOUT = "JoiningTimeout"
"""A VM ran, and kubeadm join did not end in time."""
REGISTERING_TIMEOUT = "RegisteringTimeout"
"""A VM joined, and its Node was not Ready with its GPUs in time."""
NODE_NOT_READY = "NodeNotReady"
"""A machine runs, and its Node is not Ready."""

# --- pods

PODS_RUN = "PodsRun"
"""Every pod that was started runs."""
NONE_STARTED = "NoneStarted"
"""No pod is being started."""
POD_WAITS = "PodWaits"
"""A pod does not run yet; the message says why."""
START_TIMEOUT = "StartTimeout"
"""A pod did not run in time, and nobody says why."""
POD_TAKEN_AWAY = "PodTakenAway"
"""A pod was deleted or evicted again and again before it ran."""
NO_POD = "NoPod"
"""There is no pod: its controller has made none."""

# --- queues

HELD_BY_QUEUE = "HeldByQueue"
"""A queue holds a Job."""
HELD_BY_OTHERS = "HeldByOthers"
"""Whoever suspended a Job, or set a scheduling gate on its pod, holds it."""
NOT_CREATED = "NotCreated"
"""A Job that will be held could not be created yet."""
NOT_HELD = "NotHeld"
"""No Job is held."""

# --- replicas

REPLICAS_RUNNING = "ReplicasRunning"
"""At least one replica trains."""
NO_REPLICA_RUNS = "NoReplicaRuns"
"""No replica trains."""
REPLICA_LOST = "ReplicaLost"
"""A replica was lost, and is being replaced."""
ALL_REPLICAS_WELL = "AllReplicasWell"
"""No lost replica is being replaced."""
AGENT_RUNS = "Running"
"""Every bought Node has its node agent."""
RUNS_WELL = "RunsWell"
"""No replica's pod ends again and again any more."""
EVICTED_AGAIN_AND_AGAIN = "EvictedAgainAndAgain"
"""A replica's pods are evicted again and again."""
DELETED_AGAIN_AND_AGAIN = "DeletedAgainAndAgain"
"""A replica's pods are deleted again and again, and nobody says why."""
NEVER_RUNS = "NeverRuns"
"""A replica's pods end again and again before the training runs."""
MACHINES_BREAK = "MachinesBreak"
"""A replica loses one machine after the other, because their Nodes become unfit."""
FAILS_AGAIN_AND_AGAIN = "FailsAgainAndAgain"
"""The training fails again and again."""
STANDS_STILL = "StandsStill"
"""A training has reported no progress for stallTimeout."""
NOTHING_STANDS_STILL = "NothingStandsStill"
"""All trainings report progress."""

# --- suspension

SUSPENDED = "Suspended"
"""The job is suspended; the condition is True once everything is released. Of a pod: its Job is suspended."""
CHECKPOINTING = "Checkpointing"
"""The suspension waits for a checkpoint."""
RESUMED = "Resumed"
"""The job is no longer suspended."""

# --- checkpoints

FOUND = "Found"
"""A checkpoint can be used."""
NONE_FITS = "NoneFits"
"""No checkpoint image starts on the machine."""
NO_USABLE_CHECKPOINT = "NoUsableCheckpoint"
"""No known checkpoint can be used."""
CHECKPOINT_COMPLETED = "Completed"
"""The last checkpoint made an image."""
CHECKPOINT_FAILED = "CheckpointFailed"
"""The last checkpoint failed."""
CHECKPOINT_KILLS_TRAINING = "CheckpointKillsTraining"
"""The last checkpoint killed the training, so the next one is made later."""
NEVER_RESTORED = "NeverRestored"
"""No replica was restored from an image yet."""
RESTORED = "Restored"
"""A replica was restored from an image and has trained since."""
ENDED_AFTER_RESTORE = "EndedAfterRestore"
"""A replica was restored from an image, and ended soon."""
COMPLETE = "Complete"
"""The training has published a complete checkpoint."""
NONE_YET = "NoneYet"
"""The training has published no complete checkpoint yet."""

# --- the end

TRAINING_DONE = "TrainingDone"
"""The training is done."""
RESTARTS_USED_UP = "RestartsUsedUp"
"""The training failed more often than maxRestarts allows."""
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""The training took longer than activeDeadlineSeconds allows."""
POD_FAILURE_POLICY = "PodFailurePolicy"
"""A rule of podFailurePolicy says FailJob."""
CANCELLED = "Cancelled"
"""Somebody cancelled the job's workflow."""
DELETED = "Deleted"
"""The SpotInstanceJob is being deleted."""
GONE = "Gone"
"""The SpotInstanceJob was removed together with its finalizer."""
IN_BUCKET = "InBucket"
"""It is in the bucket of checkpointStorage."""
UPLOADED = "Uploaded"
"""The outputs are in the bucket of checkpointStorage."""
NOTHING_FOUND = "NothingFound"
"""The training left no files at the paths of outputs."""
TOOK_TOO_LONG = "TookTooLong"
"""The outputs were not uploaded in time."""
NOT_BOUGHT = "NotBought"
"""The outputs cannot be read, because the machine was not bought."""
MACHINE_GONE = "MachineGone"
"""The machine went before the outputs were uploaded."""
STILL_THERE = "StillThere"
"""Something of the job still exists; the message names it."""
NOTHING_LEFT = "NothingLeft"
"""Nothing is left of the job but its object."""

# --- InstanceTemplates

MIRRORED = "Mirrored"
"""The SpotInstanceVM of this name is made from the InstanceTemplate."""
NAME_TAKEN = "NameTaken"
"""A SpotInstanceVM of this name exists that was not made from the InstanceTemplate."""
BEING_DELETED = "BeingDeleted"
"""The earlier SpotInstanceVM of this name is still being deleted."""
REFUSED = "Refused"
"""The API server refuses the SpotInstanceVM."""

# --- which condition has which

OF: Mapping[str, tuple[str, ...]] = {
    conditions.ACCEPTED: (
        SPEC_IS_VALID,
        INVALID_SPEC,
        TOO_LARGE,
        CANNOT_BE_CHANGED,
        VM_NOT_FOUND,
        SECRET_NOT_FOUND,
        SECRET_INCOMPLETE,
        SECRET_NOT_SHARED,
        SECRET_NOT_PROTECTED,
        JOB_ID_TAKEN,
        IDENTITY_NOT_LENT,
        INVALID_JOB_TEMPLATE,
        POD_REFUSED,
        VOLUME_DRIVER_NOT_FOUND,
        VOLUME_CLAIM_NOT_FOUND,
        VOLUME_CLAIM_LOST,
        VOLUME_CLAIM_NOT_BOUND,
        VOLUME_NOT_SHAREABLE,
        KUBERNETES_TOO_OLD,
    ),
    conditions.OPERATOR_READY: (INSTALLED, NOT_NEEDED, NOT_INSTALLED, SCHEMA_TOO_OLD),
    conditions.REGISTRY_READY: (PUSH_AND_PULL, NOT_NEEDED, UNREACHABLE),
    conditions.STORAGE_READY: (READABLE, UNREACHABLE),
    conditions.CREDENTIALS_READY: (GRANTED,),
    conditions.CLOUD_READY: (AVAILABLE, NO_CREDENTIALS),
    conditions.MACHINE_FITS: (FITS, TOO_SMALL, LABEL_MISSING, VOLUME_ELSEWHERE, NO_DEVICE_CLASS, NO_MACHINE_TYPE),
    conditions.CAPACITY_AVAILABLE: (
        PROVISIONED,
        FREE_GPU,
        NO_ROOM,
        GANG_INCOMPLETE,
        CREATE_TIMEOUT,
        JOIN_FAILED,
        BOOTING_TIMEOUT,
        JOINING_TIMEOUT,
        REGISTERING_TIMEOUT,
        NODE_NOT_READY,
    ),
    conditions.PODS_START: (
        PODS_RUN,
        NONE_STARTED,
        POD_WAITS,
        START_TIMEOUT,
        POD_TAKEN_AWAY,
        NO_POD,
        SUSPENDED,
        POD_REFUSED,
        INVALID_JOB_TEMPLATE,
        NO_ROOM,
    ),
    conditions.QUEUED: (HELD_BY_QUEUE, HELD_BY_OTHERS, NOT_CREATED, NO_POD, NOT_HELD),
    conditions.RUNNING: (REPLICAS_RUNNING, NO_REPLICA_RUNS, DELETED, GONE, CANCELLED),
    conditions.AGENT_READY: (AGENT_RUNS, NOT_INSTALLED, NO_POD),
    conditions.STABLE: (
        RUNS_WELL,
        EVICTED_AGAIN_AND_AGAIN,
        DELETED_AGAIN_AND_AGAIN,
        NEVER_RUNS,
        MACHINES_BREAK,
        FAILS_AGAIN_AND_AGAIN,
    ),
    conditions.PROGRESSING: (STANDS_STILL, NOTHING_STANDS_STILL),
    conditions.RECOVERING: (REPLICA_LOST, ALL_REPLICAS_WELL, NO_REPLICA_RUNS),
    conditions.SUSPENDED: (SUSPENDED, CHECKPOINTING, CHECKPOINT_FAILED, NODE_NOT_READY, RESUMED),
    conditions.RESTORABLE: (FOUND, NONE_FITS, NO_USABLE_CHECKPOINT),
    conditions.CHECKPOINTS_SUCCEED: (CHECKPOINT_COMPLETED, CHECKPOINT_FAILED, CHECKPOINT_KILLS_TRAINING),
    conditions.CHECKPOINTS_PROVEN: (NEVER_RESTORED, RESTORED, ENDED_AFTER_RESTORE),
    conditions.CHECKPOINT_PUBLISHED: (COMPLETE, NONE_YET),
    conditions.COMPLETED: (TRAINING_DONE,),
    conditions.FAILED: (RESTARTS_USED_UP, DEADLINE_EXCEEDED, POD_FAILURE_POLICY, CANCELLED),
    conditions.LOGS_SAVED: (IN_BUCKET,),
    conditions.OUTPUTS_SAVED: (UPLOADED, NOTHING_FOUND, TOOK_TOO_LONG, NOT_BOUGHT, MACHINE_GONE),
    conditions.REPORT_WRITTEN: (IN_BUCKET,),
    conditions.TORN_DOWN: (STILL_THERE, NOTHING_LEFT),
    conditions.MIRRORED: (MIRRORED, NAME_TAKEN, BEING_DELETED, REFUSED),
}
"""The reasons of each condition, besides those of ``WITH_ERRORS`` and ``IN_WORDS_OF_OTHERS``."""

WITH_ERRORS = frozenset(
    {
        conditions.ACCEPTED,
        conditions.OPERATOR_READY,
        conditions.REGISTRY_READY,
        conditions.STORAGE_READY,
        conditions.CREDENTIALS_READY,
        conditions.CLOUD_READY,
        conditions.MACHINE_FITS,
        conditions.CAPACITY_AVAILABLE,
        conditions.PODS_START,
        conditions.CHECKPOINT_PUBLISHED,
        conditions.LOGS_SAVED,
        conditions.OUTPUTS_SAVED,
        conditions.REPORT_WRITTEN,
        conditions.TORN_DOWN,
    }
)
"""Conditions that may also have the type of an error as their reason (``api.errors``)."""

IN_WORDS_OF_OTHERS = frozenset({conditions.PODS_START, conditions.AGENT_READY, conditions.CAPACITY_AVAILABLE})
"""Conditions that may also have a word of the kubelet, the scheduler, a controller or a monitor of nodes."""


def timeout_of(stage: str) -> str:
    """Name the reason of a VM that stayed in a stage for too long, such as ``BootingTimeout``."""
    return f"{stage}Timeout"


def may_have(condition: str, reason: str) -> bool:
    """True if a condition of this type may have this reason; False if that is said nowhere in this file."""
    if reason in OF[condition] or condition in IN_WORDS_OF_OTHERS:
        return True
    return condition in WITH_ERRORS and reason in vars(errors).values()
