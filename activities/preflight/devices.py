"""Resource claims of a template (DRA), and whether anything in this cluster can satisfy them."""

from clients.kube import Json, Kube, KubeError, path


async def device_problem(kube: Kube, pod: Json) -> str | None:
    """Say why a pod's resource claims can never be satisfied; None if they may be, or if it has none."""
    claims = pod.get("resourceClaims") or []
    if not claims:
        return None
    try:
        classes = await kube.some(path("resource.k8s.io/v1", "deviceclasses"), 1)
    except KubeError as error:
        if error.status != 404:  # from an API server before 1.34, whose version of the API is not supported here
            raise
        return None
    if classes:
        return None
    named = ", ".join(str(each.get("name")) for each in claims)
    return (
        f"the template's resourceClaims ({named}) ask for devices, and the cluster has no DeviceClass: install the "
        "driver of these devices (DRA) on the nodes, or request nvidia.com/gpu instead"
    )


def devices_told(pod: Json) -> list[str]:
    """List what a person should know about resource claims that may be satisfied."""
    if not pod.get("resourceClaims"):
        return []
    return ["the devices of resourceClaims have to be offered by a driver (DRA) that also runs on bought nodes"]
