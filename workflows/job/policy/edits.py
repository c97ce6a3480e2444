"""What an edit changes of a job. Fields that are fixed by now stay as they were."""

from dataclasses import dataclass, field

from api import fixed
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from workflows.job.state.job import JobState

UNDO = "Undo the edit; until then the training goes on with the spec that it had"


@dataclass(frozen=True)
class Edit:
    """The specs to work with after an edit.

    Args:
        spec: The spec of the job.
        vm_spec: The spec of its SpotInstanceVM.
        refused: The edits that were refused, each with its remedy.
        anew: Whether a fixed field was edited before anything began. It may then still be corrected, but all is checked
            again.
    """

    spec: SpotInstanceJobSpec
    vm_spec: SpotInstanceVMSpec
    refused: list[str] = field(default_factory=list)
    anew: bool = False

    @property
    def concerns_fixed(self) -> bool:
        """True if a fixed field was edited."""
        return self.anew or bool(self.refused)

    @property
    def message(self) -> str:
        """Say what was refused, and how to correct it."""
        return f"{'; '.join(self.refused)}. {UNDO}"


def judge(state: JobState, spec: SpotInstanceJobSpec, vm_spec: SpotInstanceVMSpec) -> Edit:
    """Compare the specs in the cluster with those that the job works with, and decide which to work with."""
    if not state.admitted or state.spec is None or state.vm_spec is None:
        return Edit(spec, vm_spec)
    fields = fixed.edited(fixed.JOB, state.spec, spec)
    vm_fields = fixed.edited(fixed.VM, state.vm_spec, vm_spec)
    if not (state.replicas or state.retired or state.vms):
        return Edit(spec, vm_spec, anew=bool(fields or vm_fields))
    if state.started is False and not state.has_run:
        fields = [each for each in fields if not each.from_start]
    old_vm = state.vm_spec
    if spec.spot_instance_vm_ref != state.spec.spot_instance_vm_ref:
        vm_spec, vm_fields = old_vm, []  # the spec that was read is that of another SpotInstanceVM
    elif all(vm.gone or vm.to_be_bought for vm in state.vms.values()):
        vm_fields = []
    return Edit(
        fixed.kept(fields, state.spec, spec),
        fixed.kept(vm_fields, old_vm, vm_spec),
        refused=[
            *(each.message(fixed.JOB_BEGUN) for each in fields),
            *(f"SpotInstanceVM: {each.message(fixed.VM_IN_USE)}" for each in vm_fields),
        ],
    )
