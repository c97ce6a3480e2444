"""What a machine needs to join the cluster: a JoinConfiguration, a kubelet patch, and the scripts that run it. Pure.

The join runs detached from the connection that starts it. The machine keeps everything in ``~/.outlast``: the lock
``join.lock`` while the join runs, its output in ``join.log`` and, at its end, its exit status in ``join.exit``. So any
worker can ask how it went, and a second start finds the first.

https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from api.names import GPU_RESOURCE, TAINT_JOINING

Json = dict[str, Any]

DIRECTORY = ".outlast"  # in the home of the SSH user
JOIN_SECONDS = 540  # kubeadm itself may wait forever for a kubelet that does not come up
# Ubuntu's unattended-upgrades delay a shutdown by at most 30 s: with a longer period the kubelet does not start.
KUBELET_PATCH = json.dumps(
    {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "shutdownGracePeriod": "25s",
        "shutdownGracePeriodCriticalPods": "5s",
    }
)
KUBELET_PATCH_FILE = "patches/kubeletconfiguration+strategic.json"

RUNTIME_FILE = "cri-socket"
"""Contains the runtime's socket, or nothing. ``kubeadm reset`` needs it, too, on a machine with several runtimes."""
# Makes the directory and prints its path, because kubeadm wants absolute paths.
PREPARE = f'mkdir -p -m 700 "$HOME/{DIRECTORY}/patches" && cd "$HOME/{DIRECTORY}" && pwd'

# Prints the state of the join: none | running | ended STATUS. One that was just started may not have its lock yet.
STATE = f"""
cd "$HOME/{DIRECTORY}" 2>/dev/null || {{ echo none; exit; }}
if ! flock --nonblock join.lock true; then echo running
elif [ -f join.exit ]; then echo "ended $(cat join.exit)"
elif [ ! -f join.started ]; then echo none
elif [ -n "$(find join.started -mmin -1)" ]; then echo running
else echo "ended before it had a status"
fi
"""

# If two run at once, the second waits for the first and finds its result.
START = f"""
cd "$HOME/{DIRECTORY}" || exit
[ "$(cat join.exit 2>/dev/null)" = 0 ] || rm -f join.exit
touch join.started
setsid --fork flock --wait 5 join.lock sh join.sh </dev/null >/dev/null 2>&1
"""

JOIN_SCRIPT = f"""\
# Runs under join.lock. A join that failed, or was cut short, is undone before the next one.
if [ "$(cat join.exit 2>/dev/null)" = 0 ]; then rm -f join.yaml; exit; fi
exec >join.log 2>&1
socket=$(cat {RUNTIME_FILE})
if [ -f join.ran ]; then sudo -n kubeadm reset --force ${{socket:+--cri-socket "$socket"}}; fi
rm -f join.exit
touch join.ran
sudo -n timeout {JOIN_SECONDS} kubeadm join --config "$PWD/join.yaml"
status=$?
rm -f join.yaml
echo $status >join.exit.new
mv join.exit.new join.exit
"""

LOG = f'tail -c 4000 "$HOME/{DIRECTORY}/join.log"'

# GCE's guest agent runs the startup script in this unit, which is "activating" meanwhile.
STARTUP_SCRIPT = "systemctl is-active google-startup-scripts.service 2>/dev/null; command -v kubeadm"

# What a checkpoint image depends on; a value is empty if the machine does not know it.
FINGERPRINT = """
echo "kernel=$(uname -r)"
echo "cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
echo "driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
echo "runtime=$(containerd --version 2>/dev/null | cut -d ' ' -f 3)"
"""

_CA_CERT_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}")
NO_HASH = (
    "is not the hash of a cluster's CA (sha256: and 64 hex digits): leave it out, and Outlast takes the CA that the "
    "cluster publishes in ConfigMap kube-public/cluster-info; or write what `kubeadm token create "
    "--print-join-command` prints after --discovery-token-ca-cert-hash"
)
"""Written right behind the name of the field."""
_TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")
_VERSION = re.compile(r"^v(\d+)\.(\d+)\.")
_NOISE = re.compile(r"^(To see the stack trace|\[preflight\] If you know what you are doing|\s*$)")


@dataclass(frozen=True)
class Discovery:
    """How a machine finds and trusts the cluster. ``token_id`` is None for a token that we may not revoke."""

    endpoint: str  # host:port
    token: str
    ca_cert_hash: str  # sha256:… over the CA's public key
    token_id: str | None = None


def is_ca_cert_hash(text: str) -> bool:
    """True if kubeadm can read this as the hash of a CA's public key."""
    return _CA_CERT_HASH.fullmatch(text) is not None


def join_configuration(
    discovery: Discovery,
    *,
    node: str,
    job_id: str,
    provider_id: str,
    directory: str,
    version: str,
    reserved: bool = False,
    cri_socket: str | None = None,
) -> str:
    """Write the JoinConfiguration, in the dialect of kubeadm ``version`` (``v1.31.4``; empty for an unknown one).

    The node registers with the taint that keeps away pods that do not use GPUs. Other teams' GPU pods tolerate its key,
    so a ``reserved`` node also registers with a taint of ours that they do not tolerate, until the worker replaces it
    by a cordon. (A kubelet cannot register cordoned: ``--register-schedulable`` no longer exists.)

    The result is JSON, which is also YAML. Python's YAML would write a job id such as 2063e197 without quotes, and
    kubeadm would read a number.
    """
    arguments = {"provider-id": provider_id}
    taints = [{"key": GPU_RESOURCE, "value": job_id, "effect": "NoSchedule"}]
    if reserved:
        taints.append({"key": TAINT_JOINING, "effect": "NoSchedule"})
    old = (found := _VERSION.match(version)) is not None and (int(found[1]), int(found[2])) < (1, 31)
    return json.dumps(
        {
            "apiVersion": "kubeadm.k8s.io/v1beta3" if old else "kubeadm.k8s.io/v1beta4",
            "kind": "JoinConfiguration",
            "discovery": {
                "bootstrapToken": {
                    "apiServerEndpoint": discovery.endpoint,
                    "token": discovery.token,
                    "caCertHashes": [discovery.ca_cert_hash],
                }
            },
            "nodeRegistration": {
                "name": node,
                "taints": taints,
                "kubeletExtraArgs": arguments if old else [{"name": n, "value": v} for n, v in arguments.items()],
                **({"criSocket": cri_socket} if cri_socket else {}),
            },
            "patches": {"directory": f"{directory}/patches"},
        }
    )


def why_it_failed(status: str, log: str) -> str:
    """Write a message from the end of kubeadm's log, without the token that it may contain."""
    lines = [line.strip() for line in log.splitlines() if not _NOISE.match(line)]
    return f"kubeadm join ended {status}: " + _TOKEN.sub("<token>", " · ".join(lines[-6:]))[-1000:]
