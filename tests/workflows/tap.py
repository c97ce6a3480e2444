"""A tap on what workflows hand to the SDK, at the one place where all of it passes."""

from collections.abc import Callable
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

Heard = Callable[[Info, Any], None]
"""A function that gets the workflow and one command of it, on the workflow's thread, before the SDK has the command."""


class Tap(WorkflowRunner):
    """Runs workflows as another runner does, hears each command, and changes nothing."""

    def __init__(self, inner: WorkflowRunner, heard: Heard) -> None:
        self._inner = inner
        self._heard = heard

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._inner.set_worker_level_failure_exception_types(types)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Instance(self._inner.create_instance(det), self._heard)


class _Instance(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance, heard: Heard) -> None:
        self._inner = inner
        self._heard = heard

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inner.activate(act)
        for command in completion.successful.commands:
            self._heard(self.get_info(), command)
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:
        return self._inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()
