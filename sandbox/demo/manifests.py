"""The samples as a user edits them before their first use, for a registry and a cloud of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sandbox.object_store import BUCKET

Json = dict[str, Any]

SAMPLES = Path(__file__).parents[2] / "deploy" / "samples"
COPIES = sorted(each for each in SAMPLES.glob("*.yaml") if each.name != "kustomization.yaml")
"""The manifests of a training with two copies."""
GANG = [SAMPLES / "spot-instance-vm.yaml", SAMPLES / "distributed" / "torchrun.yaml"]
"""The manifests of a training on four machines."""
NAMESPACE = "demo"
INTERVAL = "15s"
STEPS = 500
GANG_STEPS, SAVE_EVERY = 300, 100
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
    """Manifests of ``deploy/samples``, edited and written to a directory of their own."""

    def __init__(self, directory: Path, addresses: Mapping[str, str], files: Sequence[Path] = COPIES) -> None:
        self.directory = directory
        self.documents = list(_read(files))
        self.job = str(self._the("SpotInstanceJob")["metadata"]["name"])
        """The name of the SpotInstanceJob."""
        self._addresses = addresses
        self._image = addresses.get("TRAINING_IMAGE")

    def write(self) -> list[str]:
        """Write the edited manifests, and return what was edited, one line each."""
        saves_itself = self._the("SpotInstanceJob")["spec"]["checkpointConfig"].get("mode") == "Application"
        storage = self._use_bucket() if saves_itself else self._use_registry()
        told = [*storage, *self._use_cloud(), *self._train_briefly(saves_itself=saves_itself)]
        self.directory.mkdir(parents=True, exist_ok=True)
        for document in self.documents:
            name = f"{document['kind'].lower()}-{document['metadata']['name']}.yaml"
            (self.directory / name).write_text(yaml.safe_dump(document, sort_keys=False))
        return told

    def _use_registry(self) -> Iterator[str]:
        """Send checkpoint images to the sandbox's registry, with credentials that the checkpoint operator can read."""
        config = self._the("SpotInstanceJob")["spec"]["checkpointConfig"]
        config["checkpointImageRepo"] = f"{self._addresses['REGISTRY']}/checkpoints/{self.job}"
        yield f"checkpointImageRepo: {config['checkpointImageRepo']}"
        config["checkpointRepoCredentialRef"] = {"name": CREDENTIALS["metadata"]["name"]}
        others = [each for each in self.documents if each["metadata"]["name"] != CREDENTIALS["metadata"]["name"]]
        self.documents = [*others, CREDENTIALS]
        yield f"checkpointRepoCredentialRef: the Secret {CREDENTIALS['metadata']['name']}, for the sandbox's registry"

    def _use_bucket(self) -> Iterator[str]:
        """Let the training save itself to the sandbox's object store, which requires no key."""
        storage = self._the("SpotInstanceJob")["spec"]["checkpointConfig"]["checkpointStorage"]
        storage |= {"bucket": BUCKET, "endpoint": self._addresses["OBJECT_STORE_ENDPOINT"]}
        yield f"checkpointStorage: bucket {BUCKET} at the endpoint {storage['endpoint']}"

    def _use_cloud(self) -> Iterator[str]:
        """Leave the key out: the emulated cloud requires none."""
        self._the("SpotInstanceJob")["spec"].pop("gcpCredentialsSecretRef", None)
        self.documents = [each for each in self.documents if each["metadata"]["name"] != CLOUD_SECRET]
        yield f"without the Secret {CLOUD_SECRET}"
        machine = self._the("SpotInstanceVM")["spec"]
        machine["vmImage"] = VM_IMAGE
        yield f"vmImage: {VM_IMAGE}"

    def _train_briefly(self, *, saves_itself: bool) -> Iterator[str]:
        """Make the training last a minute or two, with several checkpoints."""
        spec = self._the("SpotInstanceJob")["spec"]
        played = {"SANDBOX_STEPS": STEPS}
        if saves_itself:
            played = {"SANDBOX_STEPS": GANG_STEPS, "SANDBOX_SAVE_EVERY": SAVE_EVERY}
        else:
            spec["checkpointConfig"]["checkpointInterval"] = INTERVAL
            yield f"checkpointInterval: {INTERVAL}"
        container = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
        container.setdefault("env", []).extend({"name": name, "value": str(value)} for name, value in played.items())
        words = ", ".join(f"{name}={value}" for name, value in played.items())
        yield f"env of container {container['name']}: {words}, for the training that plays it"
        if self._image:
            container["image"] = self._image
            for words in ("command", "args"):
                container.pop(words, None)
            yield f"image: {self._image}, without a command"

    def _the(self, kind: str) -> Json:
        return next(each for each in self.documents if each["kind"] == kind)


def _read(files: Sequence[Path]) -> Iterator[Json]:
    for file in files:
        yield from (document for document in yaml.safe_load_all(file.read_text()) if document)
