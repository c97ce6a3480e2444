"""What is asked for one incarnation of a replica: to create it, or to learn whether it would be admitted."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import RestorePoint

from workflows.job import Job


def to_create(
    job: Job, replica: int, incarnation: int, *, nodes: list[str], bought: bool, restore: RestorePoint | None
) -> act.CreateReplica:
    """Describe an incarnation on one of ``nodes``, from ``restore`` or from nothing."""
    config = job.spec.checkpoint_config
    return act.CreateReplica(
        job=job.ref,
        job_template=job.spec.job_template,
        replica=replica,
        incarnation=incarnation,
        nodes=nodes,
        bought=bought,
        restore=restore,
        image_pull=config.checkpoint_repo_credential_ref,
        checkpoint_image_repo=config.checkpoint_image_repo,
        cloud_credentials=job.spec.gcp_credentials_secret_ref,
        storage=config.checkpoint_storage,
        probe_patience=_probe_patience(job),
    )


def _probe_patience(job: Job) -> float:
    """Give the seconds for which the training's probes have to bear that it stands still: no dump takes longer."""
    frozen = job.spec.checkpoint_config.mode == "Image" and workflow.patched("own-ends")
    return job.state.timings.checkpoint_step if frozen else 0
