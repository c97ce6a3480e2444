"""What a pod has besides its image: environment and volumes, from its fields, ConfigMaps and Secrets."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from sandbox.kube_client import ApiError, KubeClient
from sandbox.machines.light.kubelet.process import Json

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_PLURALS = {"configMap": "configmaps", "secret": "secrets"}


class MissingSource(Exception):
    """A ConfigMap or Secret, or a key of one, that the pod needs does not exist (yet)."""


class PodSources:
    """Reads what a pod refers to, with the node's identity, and writes it to files."""

    def __init__(self, client: KubeClient, address: str) -> None:
        self._client = client
        self._address = address

    async def environment(self, pod: Json, container: Json) -> dict[str, str]:
        """Return a container's environment, with references resolved.

        Raises:
            MissingSource: a ConfigMap or Secret, or a key of one, does not exist.
        """
        env: dict[str, str] = {"HOSTNAME": pod["spec"].get("hostname", pod["metadata"]["name"])}
        for source in container.get("envFrom", ()):
            kind = "secret" if "secretRef" in source else "configMap"
            reference = source[f"{kind}Ref"]
            data = await self._data(pod, kind, reference["name"], reference.get("optional", False))
            env.update({source.get("prefix", "") + key: value.decode() for key, value in data.items()})
        for variable in container.get("env", ()):
            if "valueFrom" not in variable:
                env[variable["name"]] = expand(variable.get("value", ""), env)
            elif (value := await self._value(pod, container, variable["valueFrom"])) is not None:
                env[variable["name"]] = value
        return env

    async def mount(self, pod: Json, directory: Path) -> dict[str, Path]:
        """Write the pod's volumes below ``directory``, and return the directory of each by its name.

        downwardAPI, configMap, secret, projected (of these) and emptyDir have content; any other kind of volume is an
        empty directory.

        Raises:
            MissingSource: a ConfigMap or Secret, or a key of one, does not exist.
        """
        paths = {}
        for volume in pod["spec"].get("volumes", ()):
            path = directory / volume["name"]
            path.mkdir(parents=True, exist_ok=True)
            for source in volume.get("projected", {}).get("sources", [volume]):
                for name, content in (await self._files(pod, source)).items():
                    file = path / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
            paths[volume["name"]] = path
        return paths

    async def _files(self, pod: Json, source: Json) -> dict[str, bytes]:
        if "downwardAPI" in source:
            items = [item for item in source["downwardAPI"].get("items", ()) if "fieldRef" in item]
            return {item["path"]: self._field(pod, item["fieldRef"]["fieldPath"]).encode() for item in items}
        for kind in _PLURALS:
            if kind not in source:
                continue
            reference = source[kind]
            # A volume has ``secretName``, a projected source has ``name``.
            name = reference.get("name") or reference.get("secretName", "")
            data = await self._data(pod, kind, name, reference.get("optional", False))
            if "items" not in reference:
                return data
            return {item["path"]: data[item["key"]] for item in reference["items"] if item["key"] in data}
        return {}

    async def _value(self, pod: Json, container: Json, source: Json) -> str | None:
        if "fieldRef" in source:
            return self._field(pod, source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            kind, _, resource = source["resourceFieldRef"]["resource"].partition(".")
            return str(container.get("resources", {}).get(kind, {}).get(resource, "0"))
        kind = "secret" if "secretKeyRef" in source else "configMap"
        reference = source[f"{kind}KeyRef"]
        optional = reference.get("optional", False)
        data = await self._data(pod, kind, reference["name"], optional)
        if reference["key"] in data:
            return data[reference["key"]].decode()
        if optional:
            return None
        raise MissingSource(f"couldn't find key {reference['key']} in {kind} {reference['name']}")

    async def _data(self, pod: Json, kind: str, name: str, optional: bool) -> dict[str, bytes]:
        namespace = pod["metadata"]["namespace"]
        try:
            found = await self._client.get(f"/api/v1/namespaces/{namespace}/{_PLURALS[kind]}/{name}")
        except ApiError as error:
            if optional and error.status == 404:
                return {}
            raise MissingSource(str(error)) from error
        encoded = {**found.get("binaryData", {}), **(found.get("data", {}) if kind == "secret" else {})}
        plain = found.get("data", {}) if kind == "configMap" else {}
        return {key: base64.b64decode(value) for key, value in encoded.items()} | {
            key: value.encode() for key, value in plain.items()
        }

    def _field(self, pod: Json, path: str) -> str:
        """Return a field of the pod by the downward API's path."""
        metadata, spec = pod["metadata"], pod["spec"]
        if match := _SUBSCRIPT.fullmatch(path):
            return str(metadata.get(match[1], {}).get(match[2], ""))
        if path in ("metadata.labels", "metadata.annotations"):
            entries: Mapping[str, str] = metadata.get(path.partition(".")[2], {})
            return "\n".join(f"{key}={json.dumps(entries[key])}" for key in sorted(entries))
        fields = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": spec["nodeName"],
            "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
            "status.hostIP": self._address,
            "status.hostIPs": self._address,
            "status.podIP": self._address,
            "status.podIPs": self._address,
        }
        return str(fields.get(path, ""))


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` with the variable, as Kubernetes does; ``$$`` is a dollar, and unknown names stay."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def unmount(directory: Path) -> None:
    """Remove a pod's volumes."""
    shutil.rmtree(directory, ignore_errors=True)
