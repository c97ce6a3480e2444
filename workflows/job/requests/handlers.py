"""What people may send to a job: each request is a signal, or an update of the same name, which is answered."""

from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue

from workflows.common.handlers import with_inputs
from workflows.job.requests.requests import Requests

SUSPEND = "Checkpoint, then release all VMs until resumed. No input."
RESUME = "Continue from the furthest checkpoint. No input."
RESIZE = 'Have another number of replicas: {"replicas": 3}'
CHECKPOINT_NOW = "Checkpoint the furthest replica now. No input."
PREEMPTION_NOTICE = 'A machine is about to go: {"node": "<name>"} or {"replica": 0}, "seconds": 120'


class RequestHandlers:
    """The part of the job's workflow that takes requests."""

    requests: Requests

    @workflow.signal(description=SUSPEND)
    @with_inputs
    def suspend(self, given: Sequence[Any]) -> None:
        """Set ``spec.suspend: true``."""
        self.requests.hear("suspend", given)

    @workflow.signal(description=RESUME)
    @with_inputs
    def resume(self, given: Sequence[Any]) -> None:
        """Set ``spec.suspend: false``."""
        self.requests.hear("resume", given)

    @workflow.signal(description=RESIZE)
    @with_inputs
    def resize(self, given: Sequence[Any]) -> None:
        """Set ``spec.replicas``, as ``kubectl scale`` does."""
        self.requests.hear("resize", given)

    @workflow.signal(description=CHECKPOINT_NOW)
    @with_inputs
    def checkpoint_now(self, given: Sequence[Any]) -> None:
        """Checkpoint the furthest replica outside the schedule, which starts over."""
        self.requests.hear("checkpoint_now", given)

    @workflow.signal(description=PREEMPTION_NOTICE)
    @with_inputs
    def preemption_notice(self, given: Sequence[Any]) -> None:
        """Announce the loss of a machine, once. The bridge sends this, too."""
        self.requests.hear("preemption_notice", given)

    @workflow.signal(dynamic=True, description="Anything else: an Event on the job says what there is.")
    def unknown_signal(self, name: str, given: Sequence[RawValue]) -> None:
        """Report a misspelt signal."""
        self.requests.unknown(name)

    @workflow.update(name="suspend", description=SUSPEND)
    @with_inputs
    async def answer_suspend(self, given: Sequence[Any]) -> str:
        """Carry out the signal of this name, and answer."""
        return await self.requests.answer("suspend", given)

    @answer_suspend.validator
    @with_inputs
    def judge_suspend(self, given: Sequence[Any]) -> None:
        """Refuse it with the reason."""
        self.requests.judge("suspend", given)

    @workflow.update(name="resume", description=RESUME)
    @with_inputs
    async def answer_resume(self, given: Sequence[Any]) -> str:
        """Carry out the signal of this name, and answer."""
        return await self.requests.answer("resume", given)

    @answer_resume.validator
    @with_inputs
    def judge_resume(self, given: Sequence[Any]) -> None:
        """Refuse it with the reason."""
        self.requests.judge("resume", given)

    @workflow.update(name="resize", description=RESIZE)
    @with_inputs
    async def answer_resize(self, given: Sequence[Any]) -> str:
        """Carry out the signal of this name, and answer."""
        return await self.requests.answer("resize", given)

    @answer_resize.validator
    @with_inputs
    def judge_resize(self, given: Sequence[Any]) -> None:
        """Refuse it with the reason."""
        self.requests.judge("resize", given)

    @workflow.update(name="checkpoint_now", description=CHECKPOINT_NOW)
    @with_inputs
    async def answer_checkpoint_now(self, given: Sequence[Any]) -> str:
        """Carry out the signal of this name, and answer."""
        return await self.requests.answer("checkpoint_now", given)

    @answer_checkpoint_now.validator
    @with_inputs
    def judge_checkpoint_now(self, given: Sequence[Any]) -> None:
        """Refuse it with the reason."""
        self.requests.judge("checkpoint_now", given)

    @workflow.update(name="preemption_notice", description=PREEMPTION_NOTICE)
    @with_inputs
    async def answer_preemption_notice(self, given: Sequence[Any]) -> str:
        """Carry out the signal of this name, and answer."""
        return await self.requests.answer("preemption_notice", given)

    @answer_preemption_notice.validator
    @with_inputs
    def judge_preemption_notice(self, given: Sequence[Any]) -> None:
        """Refuse it with the reason."""
        self.requests.judge("preemption_notice", given)
