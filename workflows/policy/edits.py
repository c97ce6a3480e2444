"""What an edit changes of a job: fields that are fixed by now stay as they were."""

from dataclasses import dataclass, field

from api import fixed
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from workflows.state import JobState

UNDO = "Undo the edit; until then the training goes on with what it had"


@dataclass(frozen=True)
class Edit:
    """The specs to work with from now on.

    Args:
        spec: of the job.
        vm_spec: of the SpotInstanceVM that it names.
        refused: what was edited in vain, with the remedies.
        anew: nothing has begun yet, so everything may be corrected and is then checked again.
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
        """Say what was refused, and how the condition heals."""
        return f"{'; '.join(self.refused)}. {UNDO}"


def judge(state: JobState, spec: SpotInstanceJobSpec, vm_spec: SpotInstanceVMSpec) -> Edit:
    """Compare the specs as they stand in the cluster with those that the job works with."""
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
        vm_spec, vm_fields = old_vm, []  # what was read is the spec of another SpotInstanceVM
    elif all(vm.gone or vm.sought for vm in state.vms.values()):
        vm_fields = []
    return Edit(
        fixed.kept(fields, state.spec, spec),
        fixed.kept(vm_fields, old_vm, vm_spec),
        refused=[
            *(each.message(fixed.JOB_BEGUN) for each in fields),
            *(f"SpotInstanceVM: {each.message(fixed.VM_IN_USE)}" for each in vm_fields),
        ],
    )
