"""What the worker says of its own surroundings, for ``outlast doctor``."""

from activities.signatures.base import Signature
from activities.signatures.jobs import PreflightRequest
from api.common import SecretReference
from api.diagnosis import Finding
from api.market import Candidate
from api.model import Model
from api.spot_instance_vm import SpotInstanceVMSpec


class DiagnosedVm(Model):
    """A SpotInstanceVM, the credentials by which a job buys it, and the candidates that it allows."""

    namespace: str
    name: str
    spec: SpotInstanceVMSpec
    credentials: SecretReference | None = None
    candidates: list[Candidate] = []


class Diagnose(Model):
    """Look at what the worker itself reaches, and at what these VMs need."""

    vms: list[DiagnosedVm] = []


class DiagnosisRequest(Model):
    """What a diagnosis looks at beside the worker's own surroundings: what jobs need, and their VMs."""

    preflights: list[PreflightRequest] = []
    vms: list[DiagnosedVm] = []


class Diagnosed(Model):
    """What was found, a line for each part."""

    findings: list[Finding] = []


DIAGNOSE = Signature("diagnose", Diagnose, Diagnosed, timeout=50)
