"""``advice.capacityHistory``: what spot VMs cost, and how often they are preempted, in the service's own form.

https://cloud.google.com/compute/docs/reference/rest/v1/advice/capacityHistory
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import compute_v1

from sandbox.gce import catalog
from sandbox.gce.errors import invalid_field, not_found, required_field
from sandbox.gce.faults import Faults
from sandbox.gce.http import Call, Route
from sandbox.gce.links import leaf

CPU_USD, GPU_USD = 0.008, 0.11
"""The price of a vCPU and of a GPU for an hour, made up."""
PREEMPTION_RATE = 0.08


class AdviceApi:
    """Sells VMs at a price by vCPUs and GPUs, unless a price was set for the region and the machine type."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def routes(self) -> list[Route]:
        """Return paths below ``projects/``."""
        path = "/{project}/regions/{region}/advice/capacityHistory"
        return [Route("POST", path, self.capacity_history, "advice.capacityHistory", "CapacityHistoryAdvice")]

    async def capacity_history(self, call: Call) -> dict[str, Any]:
        """Return one record of the last day for each type that the request names."""
        region = call.path["region"]
        if region not in catalog.REGIONS:
            raise not_found(f"projects/{call.project}/regions/{region}")
        asked = call.message(compute_v1.CapacityHistoryRequest)
        properties = asked.get("instanceProperties") or {}
        model = (properties.get("scheduling") or {}).get("provisioningModel")
        if model != "SPOT":
            raise invalid_field("instanceProperties.scheduling.provisioningModel", model, "Must be SPOT.")
        if not properties.get("machineType"):
            raise required_field("instanceProperties.machineType")
        location = leaf((asked.get("locationPolicy") or {}).get("location", region))
        machine_type = catalog.MACHINE_TYPES.get(properties["machineType"])
        if machine_type is None:
            raise not_found(f"projects/{call.project}/zones/{location}/machineTypes/{properties['machineType']}")
        gpus = sum(int(gpu["acceleratorCount"]) for gpu in properties.get("guestAccelerators") or [])
        answer: dict[str, Any] = {"machineType": machine_type.name, "location": location}
        if "PRICE" in asked.get("types", []):
            usd = self._faults.price(region, machine_type.name)
            usd = usd if usd is not None else machine_type.cpus * CPU_USD + (gpus + machine_type.gpu_count) * GPU_USD
            money = {"currencyCode": "USD", "units": str(int(usd)), "nanos": round(usd % 1 * 1e9)}
            answer["priceHistory"] = [{"interval": _last_day(), "listPrice": money}]
        if "PREEMPTION" in asked.get("types", []):
            answer["preemptionHistory"] = [{"interval": _last_day(), "preemptionRate": PREEMPTION_RATE}]
        return answer


def _last_day() -> dict[str, str]:
    now = datetime.now(UTC)
    return {"startTime": (now - timedelta(days=1)).isoformat(), "endTime": now.isoformat()}
