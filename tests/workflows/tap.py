"""A look at what workflows hand to the SDK, at the one place where all of it passes."""

from collections.abc import Callable
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

Heard = Callable[[Info, Any], None]
"""Called with the workflow and one command of it, on the workflow's thread, before the SDK has the command."""

Passing = Callable[[WorkflowActivation, WorkflowActivationCompletion], WorkflowActivationCompletion]
"""What the SDK gets in place of what a workflow made of an activation; also on the workflow's thread."""


class Between(WorkflowRunner):
    """Runs workflows as another runner does, with something between each of them and the SDK."""

    def __init__(self, inner: WorkflowRunner, passing: Callable[[WorkflowInstance], Passing]) -> None:
        """``passing`` is asked once for each run that is begun or replayed."""
        self._inner = inner
        self._passing = passing

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._inner.set_worker_level_failure_exception_types(types)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = self._inner.create_instance(det)
        return _Instance(instance, self._passing(instance))


class Tap(Between):
    """Hears each command, and changes nothing."""

    def __init__(self, inner: WorkflowRunner, heard: Heard) -> None:
        def listen(instance: WorkflowInstance) -> Passing:
            def hear(_: WorkflowActivation, completion: WorkflowActivationCompletion) -> WorkflowActivationCompletion:
                for command in completion.successful.commands:
                    heard(instance.get_info(), command)
                return completion

            return hear

        super().__init__(inner, listen)


class _Instance(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance, passing: Passing) -> None:
        self._inner = inner
        self._passing = passing

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._passing(act, self._inner.activate(act))

    # Asked for each payload, and entering the sandbox for the answer is half of the work of a test here. Our converter
    # looks at no context, and nothing is stored outside.

    def get_serialization_context(self, command_info: Any) -> None:
        return None

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()
