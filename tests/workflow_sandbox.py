"""The SDK's sandbox for workflows, in which tests run what the worker runs without it (decision 31).

It loads a workflow's modules again for each run and refuses them the wall clock, randomness and I/O at run time. Replay
and the tests on a dev server use it, so that ruff's list of refused names does not have to be complete.
"""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

# Vocabulary, models and pure functions have no state, so workflows need not load copies of their own. Code that acts is
# not passed through: the sandbox keeps it from the wall clock, randomness and I/O.
PURE = (
    "workflows.common.markdown",
    "workflows.policy",
    "workflows.job.policy",
    "workflows.job.checkpoints.policy",
    "workflows.job.machines.policy",
    "workflows.job.replica.policy",
    "workflows.market.card",
    "workflows.market.exposure",
    "workflows.market.memory",
    "workflows.market.placement",
    "workflows.market.cooldowns",
    "workflows.sweep.policy",
    "workflows.vm.card",
    "workflows.sweep.stuck_policy",
)
MODELS = ("workflows.common.stored", "workflows.job.state", "workflows.vm.state", "workflows.market.state")
PASSED_THROUGH = ("api", "activities.signatures", *PURE, *MODELS)


def sandbox(*also: str) -> SandboxedWorkflowRunner:
    """Make the sandbox with the modules that are passed through it, and ``also`` those that a test patches."""
    passed = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH, *also)
    return SandboxedWorkflowRunner(restrictions=passed)
