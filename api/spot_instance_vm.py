"""``SpotInstanceVM``: what to buy. The original operator's fields keep name and meaning; new ones are optional."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from api import formats
from api.common import Condition, LocalReference, NamedOrReference
from api.duration import GoDuration, parse_duration
from api.model import Model

# https://cloud.google.com/compute/docs/regions-zones: us-central1-a, and AI zones such as us-central1-ai1a
Zone = Annotated[str, Field(pattern=formats.ZONE.pattern, max_length=63), formats.ZONE]


SshAccess = Literal["Metadata", "OSLogin"]
"""How a VM learns who may log in: from its own metadata, or from IAM."""


class Gpu(Model):
    """GPUs of each VM."""

    type: Annotated[str, formats.GPU_TYPE] = Field(
        min_length=1, max_length=63, description="GCE accelerator type, for example nvidia-tesla-t4"
    )
    count: int = Field(default=1, ge=1, le=16, description="GPUs of one VM")


class Alternative(Model):
    """Another way to buy the VM; what it leaves out is taken from ``gcp``."""

    zone: Zone | None = Field(default=None, description="default: gcp.zone and gcp.zones")
    machine_type: Annotated[str, formats.MACHINE_TYPE] | None = Field(
        default=None, min_length=1, max_length=63, description="default: gcp.machineType"
    )
    gpu: Gpu | None = Field(default=None, description="default: the gpu of the spec")
    disk_type: Annotated[str, formats.DISK_TYPE] | None = Field(
        default=None, max_length=63, description="default: gcp.diskType"
    )
    disk_size_gb: int | None = Field(default=None, ge=10, le=65536, description="default: gcp.diskSizeGB")


class Gcp(Model):
    """The place and kind of the VM on Google Compute Engine."""

    project: Annotated[str, formats.PROJECT] = Field(min_length=1, max_length=63, description="ID of the project")
    zone: Zone = Field(description="for example us-central1-a")
    zones: list[Zone] = Field(
        default=[], max_length=32, description="further zones: the VM is bought in the cheapest one that has it"
    )
    alternatives: list[Alternative] = Field(
        default=[], max_length=16, description="other machine types, GPUs or zones, if the first cannot be had"
    )
    region: Annotated[str, formats.REGION] | None = Field(
        default=None, max_length=63, description="derived from zone if left out"
    )
    machine_type: Annotated[str, formats.MACHINE_TYPE] = Field(
        min_length=1, max_length=63, description="for example n1-standard-4"
    )
    disk_size_gb: int = Field(default=100, ge=10, le=65536, description="boot disk, in GB")
    disk_type: Annotated[str, formats.DISK_TYPE] | None = Field(
        default=None,
        max_length=63,
        description="default: the cheapest that the machine type boots from (pd-standard, on g2 and a3 pd-balanced, on "
        "newer machines hyperdisk-balanced)",
    )
    network_tags: list[Annotated[str, formats.NETWORK_TAG]] = Field(
        default=[], max_length=64, description="tags for the firewall's rules"
    )
    service_account: Annotated[str, formats.SERVICE_ACCOUNT] | None = Field(
        default=None, description="e-mail of the VM's service account"
    )
    network: Annotated[str, formats.NETWORK] | None = Field(
        default=None, description="VPC network; default: the project's network 'default'"
    )
    subnetwork: Annotated[str, formats.SUBNETWORK] | None = Field(
        default=None, description="default: that of the region in the network"
    )
    external_ip: bool = Field(default=False, description="give the VM an external IPv4 address")
    min_cpu_platform: Annotated[str, formats.CPU_PLATFORM] | None = Field(
        default=None,
        description="pin the CPU platform: a checkpoint image starts only on the platform that it was made on",
    )
    preemption_notice_duration: Annotated[str, formats.NOTICE] | None = Field(
        default=None,
        max_length=32,
        description='how long before its shutdown a VM is notified of a preemption: "0s" (GCE\'s default) or "120s"',
    )

    ssh_access: SshAccess = Field(
        default="Metadata",
        description="OSLogin: enter the VM as the service account of the credentials, for projects whose organisation "
        "policy demands OS Login; sshUser is ignored then",
    )

    @property
    def notice_seconds(self) -> float:
        """Give the seconds between a preemption's notice and the soft off."""
        return parse_duration(self.preemption_notice_duration or "0s").total_seconds()


class NodeLabel(Model):
    """A label of the Nodes that are bought."""

    key: Annotated[str, formats.LABEL_KEY] = Field(min_length=1, description="the key")
    value: Annotated[str, formats.LABEL_VALUE] = Field(default="", description="the value")


class KubeadmJoinConfig(Model):
    """How the VM joins the cluster; what is left out comes from the Secret or from the cluster itself."""

    token_secret_ref: NamedOrReference | None = Field(
        default=None, description="Secret with the token: its name, or an object with its name"
    )
    ca_cert_hash: str | None = Field(
        default=None,
        description="sha256: and 64 hex digits; default: that of the CA that the cluster publishes in cluster-info",
    )
    control_plane_endpoint: Annotated[str, formats.ENDPOINT] | None = Field(
        default=None, description="host:port of the API server"
    )
    cri_socket: Annotated[str, formats.CRI_SOCKET] | None = Field(
        default=None,
        description="the container runtime to use if the VM has several, for example unix:///var/run/crio/crio.sock; "
        "default: the only one, or containerd",
    )


class OnDemandFallback(Model):
    """Buy on-demand if no spot VM can be had; the replica moves back to spot when one can."""

    after: GoDuration = Field(description="how long a replica waits for a spot VM first")
    max_replicas: int = Field(default=16, ge=1, le=16, description="the most replicas of a job on-demand at once")
    price_per_hour: Annotated[str, formats.PRICE] | None = Field(
        default=None,
        max_length=12,
        pattern=formats.PRICE.pattern,
        description="price of one on-demand VM in USD, to compare with what the spot VMs cost",
    )


class SpotInstanceVMSpec(Model):
    """The VM that a SpotInstanceJob buys for each replica that finds no free GPU in the cluster."""

    vm_image: Annotated[str, formats.VM_IMAGE] = Field(
        min_length=1,
        description="an image family (optionally project/family) or a path projects/P/global/images/I",
    )
    gpu: Gpu | None = Field(default=None, description="GPUs of each VM; default: those built into the machine type")
    gcp: Gcp
    preemptible: bool = Field(default=True, description="false: buy on-demand VMs, never spot VMs")
    on_demand_fallback: OnDemandFallback | None = None
    startup_script: str | None = Field(default=None, description="run as root at each boot; it must contain no secrets")
    node_labels: list[NodeLabel] = Field(
        default=[],
        max_length=32,
        description="labels of the Nodes beside the well-known ones, for a nodeSelector that names them",
    )
    kubeadm_join_config: KubeadmJoinConfig | None = None
    ssh_user: Annotated[str, formats.SSH_USER] = Field(
        default="outlast", pattern=formats.SSH_USER.pattern, description="as whom Outlast enters the VM"
    )
    ssh_key_secret_ref: LocalReference | None = Field(
        default=None, description="Secret with ssh-privatekey; default: the installation's key"
    )


class ProvisionedInstance(Model):
    """One VM bought from this spec. Each VM's workflow owns its own entry by server-side apply."""

    name: str = Field(description="the VM, and its Node")
    instance_id: str | None = Field(default=None, description="the cloud's own id")
    internal_ip: str | None = Field(default=None, description="its address in the network")
    external_ip: str | None = Field(default=None, description="its public address, if gcp.externalIP gives it one")
    zone: str | None = Field(default=None, description="where it is")
    provisioning: str | None = Field(default=None, description="Spot or OnDemand; absent if a sweep found the VM")
    state: str | None = Field(default=None, description="how far it is: Creating, Joining, Ready, Deleting …")
    joined_cluster: bool | None = Field(default=None, description="its Node is Ready")
    node_name: str | None = Field(default=None, description="its Node")
    creation_time: datetime | None = Field(default=None, description="when it was created")


class SpotInstanceVMStatus(Model):
    """What was bought."""

    conditions: list[Condition] = Field(default=[], description="what is so and what is not, with the reasons")
    provisioned_instances: list[ProvisionedInstance] = Field(default=[], description="the VMs that exist")


class InstanceTemplateStatus(Model):
    """Whether it has become a SpotInstanceVM; that object's status lists what was bought."""

    conditions: list[Condition] = Field(default=[], description="what is so and what is not, with the reasons")
