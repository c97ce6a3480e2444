"""The VM image: everything in it is pinned, and its containerd has the runtime that the machine's GPUs need.

The scripts' own functions are called, by a real shell.
"""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

IMAGES = Path(__file__).parents[2] / "deploy" / "images"
SCRIPT = (IMAGES / "provision.sh").read_text()
PACKER = (IMAGES / "outlast.pkr.hcl").read_text()
EXAMPLE = (IMAGES / "versions.pkrvars.hcl.example").read_text()
RUNTIME = "io.containerd.cri.v1.runtime"


def function(name: str) -> str:
    """Read the text of one of provision.sh's functions."""
    found = re.search(rf"^{name}\(\) \{{\n.*?^\}}$|^{name}\(\) \{{ .* \}}$", SCRIPT, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found.group(0)


def call(name: str, *words: str, needs: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Call one of provision.sh's functions."""
    text = "\n".join([*map(function, (*needs, name)), f'{name} "$@"'])
    return subprocess.run(
        ["/bin/sh", "-euc", text, "sh", *words], capture_output=True, text=True, timeout=30, check=False
    )


def configuration(default: str) -> Any:
    return tomllib.loads(call("cri_runtime", default).stdout)["plugins"][RUNTIME]


# --- pinned


def test_what_comes_from_debian_is_of_one_day() -> None:
    assert re.search(r"^SNAPSHOT=20\d{6}T\d{6}Z\b", SCRIPT, re.MULTILINE)
    pinned = re.search(r'^FROM_NEXT="(.*)"$', SCRIPT, re.MULTILINE)
    assert pinned is not None
    assert all(re.fullmatch(r"[a-z-]+=[0-9][^= ]*", each) for each in pinned.group(1).split())


def test_apt_installs_only_through_the_functions_that_pin() -> None:
    calls = [line.strip() for line in SCRIPT.splitlines() if re.search(r"\bapt-get\b", line) and line[0] != "#"]
    assert len(calls) == 1
    assert calls[0].startswith("apt_get()")
    installs = re.findall(r"^ *install_packages (.*?)(?: \|\|)?$", SCRIPT.replace("\\\n", " "), re.MULTILINE)
    free = [each for each in installs if "PACKAGES" not in each and "FROM_NEXT" not in each]
    assert len(free) == 2, "Debian's own, of the snapshot"
    assert free[1] == '"linux-headers-$(uname -r)"'


def test_each_download_is_compared_with_its_hash() -> None:
    assert SCRIPT.count("curl -fsSL") == 1
    assert "curl -fsSL" in function("add_source")
    assert "sha256sum -c" in function("add_source")


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        ("kubelet=1.33.4-1.1 kubeadm=1.33.4-1.1", None),
        ("kubelet=1.33.4-1.1 kubeadm", "kubeadm: write kubeadm=VERSION"),
        ("kubelet=1.33.4-1.1 kubeadm=", "kubeadm=: write"),
        ("kubelet=1.33.4-1.1", "kubeadm=VERSION is missing"),
        ("kubelet=1.33.4-1.1 kubeadm=1.33.4-1.1 kubectl", "kubectl: write kubectl=VERSION"),
    ],
)
def test_a_package_without_a_version_is_refused(packages: str, said: str | None) -> None:
    done = call("check_pins", packages, "kubelet", "kubeadm", needs=("say", "fail"))
    assert (done.returncode == 0) == (said is None)
    assert (said or "") in done.stdout


def test_packer_builds_from_one_image_by_one_version_of_its_plugin() -> None:
    assert "source_image_family" not in PACKER
    assert re.findall(r'^ +version += "= [0-9.]+"$', PACKER, re.MULTILINE)
    assert ">=" not in PACKER


def test_packer_passes_each_variable_of_the_script() -> None:
    used = set(re.findall(r"^#   ((?:KUBERNETES|NVIDIA)_\w+)", SCRIPT, re.MULTILINE)) - {"KUBERNETES_BINARIES"}
    assert set(re.findall(r'"(\w+)=\$\{var\.', PACKER)) == used
    assert set(re.findall(r'^variable "(\w+)"', PACKER, re.MULTILINE)) == set(
        re.findall(r"^(\w+) +=", EXAMPLE, re.MULTILINE)
    )


# --- containerd


@pytest.mark.parametrize("default", ["runc", "nvidia"])
def test_containerd_restores_checkpoints_whatever_its_default_runtime(default: str) -> None:
    found = configuration(default)
    assert found["containerd"]["default_runtime_name"] == default
    assert found["enable_experimental_restore_via_create"] is True
    assert found["enable_cdi"] is True
    assert all(each["options"]["SystemdCgroup"] for each in found["containerd"]["runtimes"].values())


def test_nvidias_runtime_is_beside_runc_and_not_instead_of_it() -> None:
    assert set(configuration("runc")["containerd"]["runtimes"]) == {"runc"}
    runtimes = configuration("nvidia")["containerd"]["runtimes"]
    assert set(runtimes) == {"runc", "nvidia"}
    assert runtimes["nvidia"]["options"]["BinaryName"] == "/usr/bin/nvidia-container-runtime"
    assert "BinaryName" not in runtimes["runc"]["options"]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Make a machine with the toolkit and without a GPU."""
    program = tmp_path / "usr/bin/nvidia-container-runtime"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    (tmp_path / "usr/lib/outlast").mkdir(parents=True)
    (tmp_path / "usr/lib/outlast/gpu.toml").write_text(call("cri_runtime", "nvidia").stdout)
    device(tmp_path, "0000:00:01.0", "0x8086")
    return tmp_path


def device(machine: Path, address: str, vendor: str) -> Path:
    found = machine / "sys/bus/pci/devices" / address
    found.mkdir(parents=True)
    (found / "vendor").write_text(f"{vendor}\n")
    return found


def boot(machine: Path) -> str | None:
    """Choose the runtime as at a boot, and return the drop-in."""
    program = call("gpu_runtime").stdout
    for _ in range(2):
        subprocess.run(["/bin/sh", "-euc", program, "sh", str(machine)], timeout=30, check=True)
    dropped = machine / "etc/containerd/conf.d/50-outlast-gpu.toml"
    return dropped.read_text() if dropped.exists() else None


def test_a_machine_with_a_gpu_runs_nvidias_runtime_by_default(machine: Path) -> None:
    device(machine, "0000:00:04.0", "0x10de")
    assert boot(machine) == call("cri_runtime", "nvidia").stdout


def test_a_machine_without_a_gpu_runs_runc_though_another_had_one(machine: Path) -> None:
    device(machine, "0000:00:04.0", "0x10de")
    boot(machine)
    (machine / "sys/bus/pci/devices/0000:00:04.0/vendor").unlink()
    assert boot(machine) is None


def test_a_gpu_without_the_toolkit_runs_runc(machine: Path) -> None:
    device(machine, "0000:00:04.0", "0x10de")
    (machine / "usr/bin/nvidia-container-runtime").unlink()
    assert boot(machine) is None


def test_the_scripts_are_read_by_a_plain_shell() -> None:
    for text in (SCRIPT, call("gpu_runtime").stdout):
        assert subprocess.run(["/bin/sh", "-n"], input=text, text=True, timeout=30, check=False).returncode == 0
