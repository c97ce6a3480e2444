"""The emulator as a whole: a server with Compute Engine's REST API, and what the cloud does by itself."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from sandbox.gce.api_advice import AdviceApi
from sandbox.gce.api_instances import InstancesApi
from sandbox.gce.api_policies import PoliciesApi
from sandbox.gce.api_zones import ZonesApi
from sandbox.gce.errors import bad_payload
from sandbox.gce.faults import Faults
from sandbox.gce.fleet import Fleet
from sandbox.gce.http import add_routes, answer, error_bodies
from sandbox.gce.instance import Instance
from sandbox.gce.ledger import Ledger
from sandbox.gce.operations import Operations
from sandbox.gce.os_login import OsLoginApi
from sandbox.machines import MachineFactory
from sandbox.settings import Settings


class GceEmulator:
    """Runs Compute Engine on a loopback port, with VMs from ``machines``.

    ``faults`` plays shortages, quotas, refusals and lags; ``ledger`` says what happened to which VM and when.
    """

    def __init__(self, settings: Settings, machines: MachineFactory) -> None:
        self.faults = Faults()
        self.ledger = Ledger()
        self._operations = Operations(settings.scaled)
        self.fleet = Fleet(settings, machines, self._operations, self.faults, self.ledger)
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1, and return the base URL, ``http://127.0.0.1:PORT``. Port 0 takes a free port."""
        app = web.Application(middlewares=[error_bodies], client_max_size=4 * 2**20)
        prefix = "/compute/v1/projects"
        add_routes(app, prefix, InstancesApi(self.fleet, self._operations, self.faults).routes(), self.faults)
        add_routes(app, prefix, ZonesApi(self.fleet, self._operations, self.faults).routes(), self.faults)
        add_routes(app, prefix, PoliciesApi(self.fleet).routes(), self.faults)
        add_routes(app, prefix, AdviceApi(self.faults).routes(), self.faults)
        os_login = OsLoginApi(self.fleet.logins, self.faults)
        app.router.add_post("/v1/users/{account}:importSshPublicKey", os_login.import_key)
        for version in ("v1", "v3"):  # Cloud Resource Manager, which knows the permissions on a project
            app.router.add_post(f"/{version}/projects/{{project}}:testIamPermissions", self._test_iam_permissions)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop serving, and cut the power of every VM."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._operations.close()
        await self.fleet.close()

    async def preempt(self, name: str, notice: float | None = None) -> None:
        """Preempt the VM ``name`` as the cloud would; returns once it is TERMINATED or gone.

        Its metadata says so at once, and ACPI soft off comes 30 s before the end. ``notice`` real seconds from now
        everything in it is dead: 0 is a preemption without warning. If ``notice`` is None, it is the VM's own
        ``preemptionNoticeDuration`` and those 30 s.

        Raises:
            LookupError: no VM or more than one VM has this name.
            ApiError: the VM is stopping or being deleted already.
            ValueError: the VM is not a spot VM.
        """
        await self.fleet.preempt(self._named(name), notice)

    async def silence(self, name: str) -> None:
        """Cut off the VM ``name`` and end all that runs in it, while the API goes on to show it as RUNNING.

        Raises:
            LookupError: no VM or more than one VM has this name.
            ValueError: the VM is not RUNNING.
        """
        instance = self._named(name)
        if instance.status != "RUNNING":
            raise ValueError(f"{name} is {instance.status}: only a RUNNING VM can fall silent")
        await instance.machine.power_off(0)

    def instances(self) -> list[dict[str, Any]]:
        """Return all VMs that exist, as the API shows them."""
        return [dict(instance.resource) for instance in self.fleet.inventory.all()]

    def _named(self, name: str) -> Instance:
        found = [instance for instance in self.fleet.inventory.all() if instance.name == name]
        if len(found) != 1:
            existing = ", ".join(sorted(instance.name for instance in self.fleet.inventory.all())) or "none"
            raise LookupError(f"{'several VMs are' if found else 'no VM is'} called {name}; there are: {existing}")
        return found[0]

    async def _test_iam_permissions(self, request: web.Request) -> web.Response:
        self.faults.check_availability()
        self.faults.check_credentials()
        try:
            permissions = (await request.json())["permissions"]
            granted = self.faults.granted([str(permission) for permission in permissions])
        except (ValueError, KeyError, TypeError) as error:
            raise bad_payload('Expected {"permissions": [...]}.') from error
        return answer({"permissions": granted} if granted else {})
