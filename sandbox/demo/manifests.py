"""The samples as a user edits them before their first use, for a registry and a cloud of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

SAMPLES = Path(__file__).parents[2] / "deploy" / "samples"
NAMESPACE = "demo"
INTERVAL = "15s"
STEPS = 500
VM_IMAGE = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
CLOUD_SECRET = "gcp-credentials"
CREDENTIALS: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "registry-credentials"},
    "type": "Opaque",
    "stringData": {"username": "sandbox", "password": "sandbox"},
}


class Samples:
    """The manifests of ``deploy/samples``, edited and written to a directory of their own."""

    def __init__(self, directory: Path, addresses: Mapping[str, str], source: Path = SAMPLES) -> None:
        self.directory = directory
        self.documents = list(_read(source))
        self.job = str(self._the("SpotInstanceJob")["metadata"]["name"])
        """The name of the SpotInstanceJob."""
        self._registry = addresses["REGISTRY"]
        self._image = addresses.get("TRAINING_IMAGE")

    def write(self) -> list[str]:
        """Write the edited manifests, and return what was edited, one line each."""
        told = [*self._use_registry(), *self._use_cloud(), *self._train_briefly()]
        self.directory.mkdir(parents=True, exist_ok=True)
        for document in self.documents:
            name = f"{document['kind'].lower()}-{document['metadata']['name']}.yaml"
            (self.directory / name).write_text(yaml.safe_dump(document, sort_keys=False))
        return told

    def _use_registry(self) -> Iterator[str]:
        """Send checkpoint images to the sandbox's registry, with credentials that the checkpoint operator can read."""
        config = self._the("SpotInstanceJob")["spec"]["checkpointConfig"]
        config["checkpointImageRepo"] = f"{self._registry}/checkpoints/{self.job}"
        yield f"checkpointImageRepo: {config['checkpointImageRepo']}"
        config["checkpointRepoCredentialRef"] = {"name": CREDENTIALS["metadata"]["name"]}
        others = [each for each in self.documents if each["metadata"]["name"] != CREDENTIALS["metadata"]["name"]]
        self.documents = [*others, CREDENTIALS]
        yield f"checkpointRepoCredentialRef: the Secret {CREDENTIALS['metadata']['name']}, for the sandbox's registry"

    def _use_cloud(self) -> Iterator[str]:
        """Leave the key out: the emulated cloud requires none."""
        self._the("SpotInstanceJob")["spec"].pop("gcpCredentialsSecretRef", None)
        self.documents = [each for each in self.documents if each["metadata"]["name"] != CLOUD_SECRET]
        yield f"without the Secret {CLOUD_SECRET}"
        machine = self._the("SpotInstanceVM")["spec"]
        machine["vmImage"] = VM_IMAGE
        yield f"vmImage: {VM_IMAGE}"

    def _train_briefly(self) -> Iterator[str]:
        """Make the training last a minute or two, with several checkpoints."""
        spec = self._the("SpotInstanceJob")["spec"]
        spec["checkpointConfig"]["checkpointInterval"] = INTERVAL
        yield f"checkpointInterval: {INTERVAL}"
        container = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
        container.setdefault("env", []).append({"name": "SANDBOX_STEPS", "value": str(STEPS)})
        yield f"env of container {container['name']}: SANDBOX_STEPS={STEPS}, for the training that plays it"
        if self._image:
            container["image"] = self._image
            for words in ("command", "args"):
                container.pop(words, None)
            yield f"image: {self._image}, without a command"

    def _the(self, kind: str) -> Json:
        return next(each for each in self.documents if each["kind"] == kind)


def _read(directory: Path) -> Iterator[Json]:
    for file in sorted(directory.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            yield from (document for document in yaml.safe_load_all(file.read_text()) if document)
