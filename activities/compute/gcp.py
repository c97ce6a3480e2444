"""Google Compute Engine behind :class:`activities.compute.Compute`; the only module that loads Google's client.

The client is synchronous and takes more than a second to load. So it runs in threads of its own, and nothing that a
workflow imports may import this module. It never waits for an operation: the client's own ``result()`` polls the public
endpoint even if another one is set, so operations are read by a client of ours.
"""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, NotFound, from_http_response
from google.auth import default as application_default_credentials
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import compute_v1
from google.oauth2 import service_account

from activities.cloud_errors import Conflict, Invalid, Missing, Permission
from activities.compute import CALL_SECONDS, MachineType, Operation, PlacementView
from activities.compute.errors import classify, classify_operation
from activities.compute.instance import has_gpus_built_in, placement_body, zone_placed
from activities.compute.os_login import OsLogin
from api.common import SecretReference
from api.market import PREEMPTED, Candidate, PreemptedVm
from api.names import is_segment, region_of, shown
from api.views import VmView
from clients.kube import Kube, path

T = TypeVar("T")

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
TOKEN_URI = "https://oauth2.googleapis.com/token"
RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"

_IMAGE = re.compile(r"(projects/(?P<project>[^/]+)/)?global/images/(?P<family>family/)?(?P<name>[^/]+)$")


_IN_USE = "already being used by"
"""In GCE's refusal to delete a resource policy that an instance names."""

_HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}")


def segments(**named: str) -> dict[str, str]:
    """Check what becomes a piece of a request's URL, because Google's client inserts it as it is.

    Raises:
        Invalid: one of them is more than a segment of a path.
    """
    for what, value in named.items():
        if not is_segment(value):
            raise Invalid(f"{shown(value)} is no {what.replace('_', ' ')} of Google Cloud: correct the SpotInstanceVM")
    return named


class GcpCloud:
    """Opens GCE with a service account's key from a Secret, or with the worker's own identity.

    Args:
        kube: the cluster, to read Secrets.
        endpoint: the URL of another GCE, for example ``http://127.0.0.1:8090``; without a Secret it is called
            anonymously.
        threads: the number of calls that may be under way at once.
    """

    def __init__(self, kube: Kube, endpoint: str | None = None, threads: int = 32) -> None:
        self._kube = kube
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="gce")
        self._opened: dict[tuple[str, str], tuple[str, GcpCompute]] = {}

    async def open(self, credentials: SecretReference | None, namespace: str) -> "GcpCompute":
        """See :meth:`activities.compute.Cloud.open`. One client is kept for each Secret until the Secret changes."""
        where = (credentials.namespace or namespace, credentials.name) if credentials else ("", "")
        secret = await self._kube.find(path("v1", "secrets", *where)) if credentials else None
        if credentials and secret is None:
            raise Missing(f"Secret {where[0]}/{where[1]} does not exist: make it with the key credentials.json for GCP")
        version = secret["metadata"]["resourceVersion"] if secret else ""
        known = self._opened.get(where)
        if known is None or known[0] != version:
            compute = await self._run(lambda: self._connect(secret, where))
            known = self._opened[where] = (version, compute)
        return known[1]

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except Exception as error:
            raise classify(error) from error

    def _connect(self, secret: dict[str, Any] | None, where: tuple[str, str]) -> "GcpCompute":
        return GcpCompute(self._credentials(secret, where), self._endpoint, self._run)

    def _credentials(self, secret: dict[str, Any] | None, where: tuple[str, str]) -> Credentials:
        if secret is not None:
            return _key_of(secret, where)
        if self._endpoint:
            return AnonymousCredentials()
        return application_default_credentials(scopes=SCOPES)[0]

    def close(self) -> None:
        """Stop the threads; calls under way end by their time-outs."""
        self._threads.shutdown(wait=False)


def _key_of(secret: dict[str, Any], where: tuple[str, str]) -> Credentials:
    """Read credentials from a service account's key. No error may show any of the key, not even as its cause."""
    try:
        written = json.loads(base64.b64decode(secret["data"]["credentials.json"]))
        # Only what signs: a key also names the server that issues its tokens, and the cloud it is for.
        key = {name: written.get(name) for name in ("client_email", "private_key", "private_key_id")}
        key["token_uri"] = TOKEN_URI
        account = service_account.Credentials.from_service_account_info(key, scopes=SCOPES)
        return account.with_always_use_jwt_access(True)  # signs its own tokens, so no token endpoint is needed
    except (KeyError, ValueError, TypeError, AttributeError):
        raise Invalid(
            f"Secret {where[0]}/{where[1]}: its key credentials.json must contain a service account's key in JSON "
            "(gcloud iam service-accounts keys create)"
        ) from None


class GcpCompute:
    """See :class:`activities.compute.Compute` for what the methods do and raise."""

    def __init__(
        self, credentials: Credentials, endpoint: str | None, run: Callable[[Callable[[], Any]], Awaitable[Any]]
    ) -> None:
        options = ClientOptions(api_endpoint=endpoint) if endpoint else None
        made = {"credentials": credentials, "client_options": options}
        self._instances = compute_v1.InstancesClient(**made)
        self._operations = compute_v1.ZoneOperationsClient(**made)
        self._zones = compute_v1.ZonesClient(**made)
        self._machine_types = compute_v1.MachineTypesClient(**made)
        self._accelerators = compute_v1.AcceleratorTypesClient(**made)
        self._regions = compute_v1.RegionsClient(**made)
        self._projects = compute_v1.ProjectsClient(**made)
        self._images = compute_v1.ImagesClient(**made)
        self._advice = compute_v1.AdviceClient(**made)
        self._policies = compute_v1.ResourcePoliciesClient(**made)
        self._session = AuthorizedSession(credentials)
        self._os_login = OsLogin(credentials, self._session, endpoint)
        self._resource_manager = endpoint or RESOURCE_MANAGER
        self._run = run

    async def insert(self, project: str, zone: str, body: dict[str, Any], request_id: str) -> str:
        """Ask for an instance and return the operation's name."""
        instance = compute_v1.Instance.from_json(json.dumps(body), ignore_unknown_fields=False)
        request = compute_v1.InsertInstanceRequest(
            **segments(project=project, zone=zone), instance_resource=instance, request_id=request_id
        )
        operation = await self._call(self._instances.insert_unary, request)
        return str(operation.name)

    async def operation(self, project: str, zone: str, name: str) -> Operation | None:
        """Read a zone operation."""
        request = compute_v1.GetZoneOperationRequest(**segments(project=project, zone=zone, operation=name))
        found = await self._find(self._operations.get, request)
        return None if found is None else classify_operation(found)

    async def get(self, project: str, zone: str, name: str) -> VmView | None:
        """Read an instance."""
        request = compute_v1.GetInstanceRequest(**segments(project=project, zone=zone, instance=name))
        found = await self._find(self._instances.get, request)
        return None if found is None else vm_view(found)

    async def labelled(self, project: str, label: str, value: str) -> list[VmView]:
        """List instances over all zones, all pages."""
        segments(label=label, value=value)
        request = compute_v1.AggregatedListInstancesRequest(
            **segments(project=project), filter=f'labels.{label} = "{value}"'
        )

        def read_pages() -> list[VmView]:
            zones = self._instances.aggregated_list(request, retry=None, timeout=CALL_SECONDS)
            return [vm_view(instance) for _, zone in zones for instance in zone.instances]

        vms: list[VmView] = await self._run(read_pages)
        return vms

    async def delete(self, project: str, zone: str, name: str) -> None:
        """Ask for the deletion of an instance."""
        request = compute_v1.DeleteInstanceRequest(**segments(project=project, zone=zone, instance=name))
        await self._find(self._instances.delete_unary, request)

    async def ensure_placement(self, project: str, zone: str, name: str, owner: str) -> bool:
        """Insert a ``groupPlacementPolicy`` of collocation. Its status says when instances may name it."""
        found = await self._placement(project, zone, name)
        if found is None:
            policy = compute_v1.ResourcePolicy.from_json(json.dumps(placement_body(name, owner, zone)))
            request = compute_v1.InsertResourcePolicyRequest(
                **segments(project=project, region=region_of(zone)), resource_policy_resource=policy
            )
            with suppress(Conflict):  # another machine of the gang was quicker
                await self._call(self._policies.insert_unary, request)
            found = await self._placement(project, zone, name)
        if found is not None and zone_placed(found.description, owner) is None:
            raise Conflict(
                f"the resource policy {name} of {project} in {region_of(zone)} is not ours; it was not touched: "
                "rename or delete it by hand if it is yours"
            )
        return found is not None and found.status == "READY"

    async def delete_placement(self, project: str, zone: str, name: str, owner: str) -> None:
        """Delete a policy, unless an instance names it."""
        found = await self._placement(project, zone, name)
        if found is None or zone_placed(found.description, owner) is None or found.status == "DELETING":
            return
        named = segments(project=project, region=region_of(zone), resource_policy=name)

        def delete() -> None:
            try:
                request = compute_v1.DeleteResourcePolicyRequest(**named)
                self._policies.delete_unary(request, retry=None, timeout=CALL_SECONDS)
            except NotFound:
                return
            except BadRequest as error:
                if _IN_USE not in str(error):
                    raise

        await self._run(delete)

    async def placements(self, project: str, owner: str) -> list[PlacementView]:
        """List resource policies over all regions, all pages."""
        request = compute_v1.AggregatedListResourcePoliciesRequest(**segments(project=project))

        def read_pages() -> list[PlacementView]:
            regions = self._policies.aggregated_list(request, retry=None, timeout=CALL_SECONDS)
            return [
                PlacementView(policy.name, zone, datetime.fromisoformat(policy.creation_timestamp))
                for _, region in regions
                for policy in region.resource_policies
                if (zone := zone_placed(policy.description, owner)) is not None
            ]

        found: list[PlacementView] = await self._run(read_pages)
        return found

    async def _placement(self, project: str, zone: str, name: str) -> compute_v1.ResourcePolicy | None:
        named = segments(project=project, region=region_of(zone), resource_policy=name)
        found: compute_v1.ResourcePolicy | None = await self._find(
            self._policies.get, compute_v1.GetResourcePolicyRequest(**named)
        )
        return found

    async def spot_price(self, project: str, candidate: Candidate) -> float | None:
        """Ask ``advice.capacityHistory`` for the latest list price."""
        segments(machine_type=candidate.machine_type, **({"gpu": candidate.gpu.type} if candidate.gpu else {}))
        body = compute_v1.CapacityHistoryRequest.from_json(json.dumps(price_question(project, candidate)))
        request = compute_v1.CapacityHistoryAdviceRequest(
            **segments(project=project, region=candidate.region), capacity_history_request_resource=body
        )
        found = await self._find(self._advice.capacity_history, request)
        records = sorted(found.price_history, key=lambda one: one.interval.start_time) if found else []
        if not records or records[-1].list_price.currency_code != "USD":
            return None
        price = records[-1].list_price
        return float(price.units) + float(price.nanos) / 1e9

    async def preempted(self, project: str, zone: str, since: datetime) -> list[PreemptedVm]:
        """List the zone's ``PREEMPTED`` operations, newest first, until they are too old."""
        request = compute_v1.ListZoneOperationsRequest(
            **segments(project=project, zone=zone),
            filter=f'operationType = "{PREEMPTED}"',
            order_by="creationTimestamp desc",
        )

        def read_pages() -> list[PreemptedVm]:
            recent: list[PreemptedVm] = []
            for operation in self._operations.list(request, retry=None, timeout=CALL_SECONDS):
                at = datetime.fromisoformat(operation.insert_time)
                if at < since:
                    break
                name = _last_part(operation.target_link)
                recent.append(PreemptedVm(name=name, zone=zone, operation=operation.name, at=at))
            return recent[::-1]

        found: list[PreemptedVm] = await self._run(read_pages)
        return found

    async def host_keys(self, project: str, zone: str, name: str) -> list[str]:
        """Read the guest attributes ``hostkeys/*``."""
        request = compute_v1.GetGuestAttributesInstanceRequest(
            **segments(project=project, zone=zone, instance=name), query_path="hostkeys/"
        )
        found = await self._find(self._instances.get_guest_attributes, request)
        lines = [f"{item.key} {item.value}" for item in found.query_value.items] if found else []
        return [line for line in lines if _HOST_KEY.fullmatch(line)]  # whoever is root on the VM can write anything

    async def login(self, project: str, public_key: str) -> str:
        """Import the key into the OS Login profile of the credentials' account."""
        segments(project=project)
        user: str = await self._run(lambda: self._os_login.user_of(project, public_key))
        return user

    async def missing_permissions(self, project: str, permissions: list[str]) -> list[str]:
        """Ask Resource Manager's ``projects.testIamPermissions``."""
        segments(project=project)
        url = f"{self._resource_manager}/v1/projects/{quote(project, safe=':')}:testIamPermissions"

        def ask() -> list[str]:
            answer = self._session.post(url, json={"permissions": permissions}, timeout=CALL_SECONDS)
            if answer.status_code != 200:
                raise from_http_response(answer)
            granted = set(answer.json().get("permissions", []))
            return [permission for permission in permissions if permission not in granted]

        missing: list[str] = await self._run(ask)
        return missing

    async def quotas(self, project: str, region: str | None) -> dict[str, tuple[float, float]] | None:
        """Read the quotas of ``regions.get``, or of ``projects.get``."""
        if region is None:
            call, request = self._projects.get, compute_v1.GetProjectRequest(**segments(project=project))
        else:
            call, request = self._regions.get, compute_v1.GetRegionRequest(**segments(project=project, region=region))
        try:
            found = await self._find(call, request)
        except Permission:
            return None
        return {quota.metric: (quota.limit, quota.usage) for quota in found.quotas} if found is not None else None

    async def machine_type(self, project: str, zone: str, name: str) -> MachineType | None:
        """Read a machine type."""
        request = compute_v1.GetMachineTypeRequest(**segments(project=project, zone=zone, machine_type=name))
        found = await self._find(self._machine_types.get, request)
        if found is None:
            return None
        gpus = {gpu.guest_accelerator_type: gpu.guest_accelerator_count for gpu in found.accelerators}
        arm = found.architecture == "ARM64"
        return MachineType(found.name, gpus, found.guest_cpus, found.memory_mb, arm)

    async def exists(self, kind: Literal["zone", "accelerator", "image"], project: str, zone: str, name: str) -> bool:
        """Read a zone, an accelerator type or an image."""
        if kind == "zone":
            call, request = self._zones.get, compute_v1.GetZoneRequest(**segments(project=project, zone=zone))
        elif kind == "accelerator":
            call = self._accelerators.get
            named = segments(project=project, zone=zone, accelerator_type=name)
            request = compute_v1.GetAcceleratorTypeRequest(**named)
        else:
            call, request = self._image_request(project, name)
        return await self._find(call, request) is not None

    def _image_request(self, project: str, path: str) -> tuple[Callable[..., Any], Any]:
        found = _IMAGE.search(path)
        if found is None:
            raise Invalid(f"vmImage {path} is no path of an image: projects/PROJECT/global/images/IMAGE")
        owner = found["project"] or project
        if found["family"]:
            request = compute_v1.GetFromFamilyImageRequest(**segments(project=owner, family=found["name"]))
            return self._images.get_from_family, request
        return self._images.get, compute_v1.GetImageRequest(**segments(project=owner, image=found["name"]))

    async def _call(self, method: Callable[..., Any], request: Any) -> Any:
        # The client's own retries would outlast the activity; Temporal retries what is worth retrying.
        return await self._run(lambda: method(request, retry=None, timeout=CALL_SECONDS))

    async def _find(self, method: Callable[..., Any], request: Any) -> Any:
        def call() -> Any:
            try:
                return method(request, retry=None, timeout=CALL_SECONDS)
            except NotFound:
                return None

        return await self._run(call)


def vm_view(instance: compute_v1.Instance) -> VmView:
    """Convert an instance to what a workflow sees of it. Unknown status strings pass as they are."""
    interface = instance.network_interfaces[0] if instance.network_interfaces else None
    access = interface.access_configs[0] if interface and interface.access_configs else None
    return VmView(
        exists=True,
        name=instance.name,
        zone=_last_part(instance.zone),
        status=instance.status or None,
        instance_id=str(instance.id),
        internal_ip=(interface.network_i_p or None) if interface else None,
        external_ip=(access.nat_i_p or None) if access else None,
        creation_time=datetime.fromisoformat(instance.creation_timestamp) if instance.creation_timestamp else None,
        labels=dict(instance.labels),
    )


def _last_part(url: str) -> str:
    return url.rpartition("/")[2]


def price_question(project: str, candidate: Candidate) -> dict[str, Any]:
    """Build the body of ``advice.capacityHistory``.

    https://cloud.google.com/compute/docs/reference/rest/v1/advice/capacityHistory
    """
    properties: dict[str, Any] = {
        "machineType": candidate.machine_type,
        "scheduling": {"provisioningModel": "SPOT"},
    }
    if candidate.gpu and not has_gpus_built_in(candidate.machine_type):
        properties["guestAccelerators"] = [
            {"acceleratorType": candidate.gpu.type, "acceleratorCount": candidate.gpu.count}
        ]
    return {
        "instanceProperties": properties,
        "locationPolicy": {"location": f"projects/{project}/zones/{candidate.zone}"},
        "types": ["PRICE"],
    }
