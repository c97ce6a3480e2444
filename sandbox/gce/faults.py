"""What goes wrong in the emulated cloud, on demand: no capacity, quotas, refusals, lags, lost answers, lost rights.

All of this has happened to somebody's fleet. The control surface and the tests call these methods, and the rest of the
emulator asks them before it acts.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sandbox.gce.errors import (
    OperationError,
    backend_error,
    not_ready,
    permission_denied,
    policy_violated,
    rate_limited,
    unauthenticated,
)
from sandbox.gce.errors import stockout as stockout_error
from sandbox.gce.links import leaf
from sandbox.gce.quotas import Quota
from sandbox.machines.mishaps import Mishaps

T = TypeVar("T")

FALSE_KEY = base64.b64encode(b"".join((b"\0\0\0\x0bssh-ed25519", b"\0\0\0\x20", bytes(32)))).decode()
"""A well-formed Ed25519 public key that belongs to nobody: 32 zero bytes."""


@dataclass
class _Shortage:
    """A zone lacks capacity for ``machine_type`` (None: for any), for so many creations (None: until restored)."""

    zone: str
    machine_type: str | None
    at_once: bool
    times: int | None


class Faults:
    """The faults of the emulated cloud; without any, everything works."""

    def __init__(self) -> None:
        self._shortages: list[_Shortage] = []
        self._quotas: dict[tuple[str | None, Quota], tuple[float, bool]] = {}
        self._delete_refusals: dict[str | None, int] = {}
        self._lost_answers: Turns[bool] = Turns()
        self._list_lag = 0.0
        self._withdrawn: set[str] = set()
        self._os_login_required = False
        self._expired_until = 0.0
        self._unavailable_until, self._unavailable = 0.0, 503
        self._prices: dict[tuple[str, str], float] = {}
        self._slow_boots: Turns[float] = Turns()
        self._mishaps: Turns[Mishaps] = Turns()
        self._mixed_up: Turns[bool] = Turns()
        self._false_keys: dict[str, bool] = {}

    # What the control surface calls.

    def exhaust(
        self, zone: str, machine_type: str | None = None, *, at_once: bool = False, times: int | None = None
    ) -> None:
        """Fail creations in ``zone`` for lack of capacity, later in their operation or ``at_once`` in the answer.

        ``times`` says how many fail; without it the shortage lasts until ``restore_capacity``.
        """
        self._shortages.append(_Shortage(zone, machine_type, at_once, times))

    def restore_capacity(self, zone: str | None = None, machine_type: str | None = None) -> None:
        """End the shortages of ``zone`` (None: of all zones), or only that of ``machine_type``."""
        self._shortages = [
            shortage
            for shortage in self._shortages
            if (zone is not None and shortage.zone != zone)
            or (machine_type is not None and shortage.machine_type != machine_type)
        ]

    def set_quota(
        self,
        metric: str,
        limit: float | None,
        region: str | None = None,
        *,
        at_once: bool = False,
        project: str | None = None,
    ) -> None:
        """Limit ``metric`` (``PREEMPTIBLE_NVIDIA_T4_GPUS``, ``GPUS_ALL_REGIONS``, …) in a region, or globally (None).

        The limit is that of one ``project``, or of each (None); a ``limit`` of None removes it. Creations beyond it
        fail later in their operation, or ``at_once`` in the answer.
        """
        self._quotas.pop((project, (region, metric)), None)
        if limit is not None:
            self._quotas[project, (region, metric)] = (limit, at_once)

    def refuse_deletes(self, times: int, name: str | None = None) -> None:
        """Answer the next ``times`` deletes (of ``name``, or of any VM) with ``resourceNotReady``."""
        self._delete_refusals[name] = times

    def lose_insert_answers(self, times: int, project: str | None = None) -> None:
        """Carry out the next ``times`` creations (of ``project``, or of any), but answer 503."""
        self._lost_answers.add(True, times, project)

    def lag_lists(self, seconds: float) -> None:
        """Leave VMs out of lists (not out of ``get``) until they are ``seconds`` old."""
        self._list_lag = seconds

    def withdraw_permissions(self, *permissions: str) -> None:
        """Withdraw permissions such as ``compute.instances.create``: calls answer 403."""
        self._withdrawn.update(permissions)

    def grant_permissions(self, *permissions: str) -> None:
        """Grant withdrawn permissions again; without arguments, all of them."""
        self._withdrawn.difference_update(permissions or set(self._withdrawn))

    def require_os_login(self, required: bool = True) -> None:
        """Put the organisation's policy ``compute.requireOsLogin`` in force, or end it."""
        self._os_login_required = required

    def expire_credentials(self, seconds: float) -> None:
        """Answer every call with 401 for ``seconds`` of real time; 0 ends it."""
        self._expired_until = time.monotonic() + seconds

    def unavailable(self, seconds: float, status: int = 503) -> None:
        """Answer every call with 503, or with 429, for ``seconds`` of real time; 0 ends it."""
        self._unavailable_until, self._unavailable = time.monotonic() + seconds, status

    def slow_boots(self, times: int, seconds: float, zone: str | None = None) -> None:
        """Show the next ``times`` VMs as RUNNING for ``seconds`` of real time before their machine boots."""
        self._slow_boots.add(seconds, times, zone)

    def mix_up_host_keys(self, times: int, zone: str | None = None) -> None:
        """Make the next ``times`` VMs publish SSH host keys that are not theirs, as if another machine answered."""
        self._mixed_up.add(True, times, zone)

    def hang_ssh(self, times: int, zone: str | None = None) -> None:
        """Make sshd of the next ``times`` VMs fall silent once ``kubeadm join`` runs there: connections hang."""
        self._mishaps.add(Mishaps(ssh_hangs=True), times, zone)

    def expire_tokens(self, times: int, zone: str | None = None) -> None:
        """Make the bootstrap token of the next ``times`` VMs expire just before their first ``kubeadm join``."""
        self._mishaps.add(Mishaps(token_expires=True), times, zone)

    def skew_clocks(self, times: int, seconds: float, zone: str | None = None) -> None:
        """Make the clocks of the next ``times`` VMs slow, so that the cluster's certificates are not yet valid there.

        They must be slow by more ``seconds`` than the cluster is old, or nobody notices.
        """
        self._mishaps.add(Mishaps(clock_behind=seconds), times, zone)

    def set_price(self, region: str, machine_type: str, usd: float) -> None:
        """Set the spot list price of a machine type in a region, in USD per hour, whatever GPUs it has."""
        self._prices[region, machine_type] = usd

    # What the emulator asks.

    def price(self, region: str, machine_type: str) -> float | None:
        """Return the price that was set, None if none was."""
        return self._prices.get((region, machine_type))

    def limits(self, project: str, *, at_once: bool | None = None) -> dict[Quota, float]:
        """Return a project's limits: all of them, or those that show at this point of a creation."""
        return {
            quota: limit
            for (whose, quota), (limit, now) in self._quotas.items()
            if whose in {None, project} and at_once in {None, now}
        }

    @property
    def list_lag(self) -> float:
        """How old a new VM has to be before lists show it, in seconds."""
        return self._list_lag

    def check_availability(self) -> None:
        """Refuse a call while the service is unavailable.

        Raises:
            ApiError: 429 or 503.
        """
        if time.monotonic() < self._unavailable_until:
            raise rate_limited() if self._unavailable == 429 else backend_error()

    def check_credentials(self) -> None:
        """Refuse a call while credentials count as expired.

        Raises:
            ApiError: 401.
        """
        if time.monotonic() < self._expired_until:
            raise unauthenticated()

    def check_permission(self, permission: str, path: str) -> None:
        """Refuse a call if its permission was withdrawn.

        Raises:
            ApiError: 403.
        """
        if permission in self._withdrawn:
            raise permission_denied(permission, path)

    def check_policy(self, body: Mapping[str, Any], project: str) -> None:
        """Refuse a VM that switches OS Login off against the organisation's policy.

        Raises:
            ApiError: 412.
        """
        items = {item.get("key"): item.get("value") for item in (body.get("metadata") or {}).get("items") or []}
        if self._os_login_required and str(items.get("enable-oslogin", "TRUE")).upper() != "TRUE":
            raise policy_violated("compute.requireOsLogin", project)

    def granted(self, permissions: Iterable[str]) -> list[str]:
        """Return those of ``permissions`` that the caller has."""
        return [permission for permission in permissions if permission not in self._withdrawn]

    def check_delete(self, name: str, path: str) -> None:
        """Refuse a delete while deletes are to be refused.

        Raises:
            ApiError: 400, ``resourceNotReady``.
        """
        for who in (name, None):
            if self._delete_refusals.get(who, 0) > 0:
                self._delete_refusals[who] -= 1
                raise not_ready(path)

    def check_answer(self, project: str) -> None:
        """Fail a creation after it was carried out, if its answer is to be lost.

        Raises:
            ApiError: 503.
        """
        if self._lost_answers.take(project):
            raise backend_error()

    def boot_delay(self, zone: str) -> float:
        """Return how long the VM of this zone that is about to boot has to wait, in seconds."""
        return self._slow_boots.take(zone) or 0.0

    def mishaps(self, zone: str) -> Mishaps:
        """Return what is played on the VM of this zone that is about to boot."""
        return self._mishaps.take(zone) or Mishaps()

    def published(self, vm: str, zone: str, attributes: Mapping[str, str]) -> Mapping[str, str]:
        """Return guest attributes as the API shows them."""
        if vm not in self._false_keys and any(key.startswith("hostkeys/") for key in attributes):
            self._false_keys[vm] = self._mixed_up.take(zone) or False
        if not self._false_keys.get(vm):
            return attributes
        return {key: FALSE_KEY if key.startswith("hostkeys/") else value for key, value in attributes.items()}

    def shortage(self, zone_path: str, machine_type: str, accelerators: str, *, at_once: bool) -> OperationError | None:
        """Return the stockout that this creation meets at this point, None if there is capacity."""
        for shortage in self._shortages:
            if shortage.at_once != at_once or shortage.zone != leaf(zone_path):
                continue
            if shortage.machine_type not in {None, machine_type} or shortage.times == 0:
                continue
            if shortage.times is not None:
                shortage.times -= 1
            return stockout_error(zone_path, machine_type, accelerators)
        return None


@dataclass
class _Turn(Generic[T]):
    what: T
    times: int
    where: str | None


class Turns(Generic[T]):
    """Things to be played on the next VMs. The first that fits a VM is played on it, and each VM takes one."""

    def __init__(self) -> None:
        self._waiting: list[_Turn[T]] = []

    def add(self, what: T, times: int, where: str | None) -> None:
        """Play it on the next ``times`` VMs of that zone or project (None: of any)."""
        self._waiting.append(_Turn(what, times, where))

    def take(self, where: str) -> T | None:
        """Take what is to be played on a VM of this zone or project, None if nothing waits for it."""
        self._waiting = [turn for turn in self._waiting if turn.times > 0]
        for turn in self._waiting:
            if turn.where in {None, where}:
                turn.times -= 1
                return turn.what
        return None
