#!/bin/sh
# Turns a Debian 13 machine into one that can join a cluster, train, and be checkpointed with its memory. Run as root, once,
# when an image is built: by Packer for Compute Engine (outlast.pkr.hcl), by the sandbox for its real machines.
#
#   KUBERNETES_BINARIES    directory with kubelet and kubeadm to install; without it they come from KUBERNETES_APT
#   KUBERNETES_APT         apt source line of the Kubernetes packages, with signed-by=/etc/apt/keyrings/kubernetes.asc,
#   KUBERNETES_KEY         the URL of its key,
#   KUBERNETES_KEY_SHA256  the key's SHA-256,
#   KUBERNETES_PACKAGES    and what to install: kubelet=VERSION kubeadm=VERSION
#   NVIDIA_APT             the same for NVIDIA's driver and container toolkit; neither is installed if this is left out.
#   NVIDIA_KEY             A GPU's memory is checkpointed from driver 570 on only, by cuda-checkpoint
#   NVIDIA_KEY_SHA256
#   NVIDIA_PACKAGES        nvidia-driver-cuda=VERSION nvidia-kernel-open-dkms=VERSION
#                          nvidia-container-toolkit=VERSION cuda-checkpoint=VERSION
#   DEBIAN_MIRROR          takes today's Debian from this mirror instead of SNAPSHOT's: to try out, not for an image
set -eu
export DEBIAN_FRONTEND=noninteractive

# --- versions: all that is not a variable above. The same build tomorrow; raise SNAPSHOT to take in security updates.

SNAPSHOT=20261030T120000Z # of Debian: a mirror keeps no earlier versions, snapshot.debian.org keeps all
RELEASE=trixie
# Debian 13 has a CRIU that cannot dump a listening socket on recent kernels, and a containerd that restores nothing:
# these come from the next release, and nothing else does.
NEXT=forky
FROM_NEXT="containerd=2.1.9+ds1-5 runc=1.3.6+ds1-1 criu=4.2.1-1 containernetworking-plugins=1.9.1+ds1-1"
LEAST_DRIVER=570
LEAST_CRIU=4.2
LEAST_CONTAINERD=2.1
BEFORE_CONTAINERD=2.4 # which restores no checkpoint

# --- helpers

say() { echo "provision: $*"; }
fail() { say "$*"; exit 1; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# Sources of our own, so that those of the machine stay as they are and add nothing.
SOURCES=/etc/outlast/apt
apt_get() { apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$SOURCES" "$@"; }
update() { apt_get update; }
install_packages() { apt_get install --no-install-recommends --allow-downgrades "$@" >/dev/null; }

# A vendor's source with its key: NAME, source line, URL of the key, the key's SHA-256.
add_source() {
  install -d -m 755 /etc/apt/keyrings
  curl -fsSL "$3" -o "/etc/apt/keyrings/$1.asc"
  echo "$4  /etc/apt/keyrings/$1.asc" | sha256sum -c --status || fail "the key of $3 is not the one with SHA-256 $4"
  echo "$2" >"$SOURCES/$1.list"
  update
}

# Each of the names after the list is in the list, with a version: LIST NAME...
check_pins() {
  list=$1
  shift
  for package in $list; do
    case $package in *=?*) ;; *) fail "$package: write $package=VERSION" ;; esac
  done
  for name in "$@"; do
    case " $list" in *" $name="*) ;; *) fail "$name=VERSION is missing in: $list" ;; esac
  done
}

# containerd's configuration of its CRI runtime; its default runtime is $1. All of the section: some versions of
# containerd let a file in conf.d replace the whole section of a plugin (https://github.com/containerd/containerd/issues/5837).
cri_runtime() {
  cat <<TOML
version = 3

[plugins.'io.containerd.cri.v1.runtime']
  # From 2.2.7 and 2.3.4 on containerd restores no checkpoint unless it is told to.
  enable_experimental_restore_via_create = true
  enable_cdi = true

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "$1"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = true
TOML
  [ "$1" = runc ] || cat <<TOML

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.$1]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.$1.options]
    BinaryName = "/usr/bin/nvidia-container-runtime"
    SystemdCgroup = true
TOML
}

# The program that chooses containerd's default runtime at each boot, before containerd starts. The GPU operator's own
# toolkit writes 99-nvidia.toml there, which is read after this and wins.
gpu_runtime() {
  cat <<'SH'
#!/bin/sh
# With a GPU NVIDIA's runtime is the default, as NVIDIA's device plugin needs without the GPU operator. Without one it is
# runc: NVIDIA's runtime starts no container there whose image asks for GPUs.
root=${1:-}
target=$root/etc/containerd/conf.d/50-outlast-gpu.toml
if grep -qsi 0x10de "$root"/sys/bus/pci/devices/*/vendor && [ -x "$root/usr/bin/nvidia-container-runtime" ]; then
  install -D -m 644 "$root/usr/lib/outlast/gpu.toml" "$target"
  [ -z "$root" ] || exit 0
  # The devices that CUDA opens, and what names them to containerd (CDI).
  nvidia-modprobe -c 0 -u || true
  nvidia-smi -L >/dev/null || true
  [ -e /var/run/cdi/nvidia.yaml ] || nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml || true
else
  rm -f "$target"
fi
SH
}

# --- Debian

say "packages"
install -d -m 755 "$SOURCES"
rm -f "$SOURCES"/*.list
if [ -n "${DEBIAN_MIRROR:-}" ]; then
  FROM_NEXT=$(echo "$FROM_NEXT" | sed 's/=[^ ]*//g') # a mirror has the newest alone
  printf 'deb %s %s main\n' "$DEBIAN_MIRROR" "$RELEASE" "$DEBIAN_MIRROR" "$NEXT" >"$SOURCES/debian.list"
else
  kept=http://snapshot.debian.org/archive # signed by Debian; of an old archive only the date is out of date
  printf 'deb [check-valid-until=no] %s/%s/%s %s main\n' "$kept" debian "$SNAPSHOT" "$RELEASE" \
    "$kept" debian-security "$SNAPSHOT" "$RELEASE-security" "$kept" debian "$SNAPSHOT" "$NEXT" >"$SOURCES/debian.list"
fi
printf 'Package: *\nPin: release n=%s\nPin-Priority: 50\n' "$NEXT" >/etc/apt/preferences.d/outlast-next
update
install_packages \
  ca-certificates conntrack curl ethtool iproute2 iptables kmod mount openssh-server procps python3-minimal socat sudo
# shellcheck disable=SC2086 # packages
install_packages --target-release "$NEXT" $FROM_NEXT

# --- Kubernetes

say "kubelet, kubeadm"
if [ -n "${KUBERNETES_BINARIES:-}" ]; then
  install -m 755 "$KUBERNETES_BINARIES/kubelet" "$KUBERNETES_BINARIES/kubeadm" /usr/bin/
else
  : "${KUBERNETES_APT:?set KUBERNETES_BINARIES, or KUBERNETES_APT and the others}" "${KUBERNETES_KEY:?}"
  check_pins "${KUBERNETES_PACKAGES:?}" kubelet kubeadm
  add_source kubernetes "$KUBERNETES_APT" "$KUBERNETES_KEY" "${KUBERNETES_KEY_SHA256:?}"
  # shellcheck disable=SC2086 # packages
  install_packages $KUBERNETES_PACKAGES
  apt-mark hold kubelet kubeadm
fi

# --- NVIDIA

if [ -n "${NVIDIA_APT:-}" ]; then
  say "NVIDIA driver and container toolkit"
  check_pins "${NVIDIA_PACKAGES:?}" nvidia-driver-cuda nvidia-kernel-open-dkms nvidia-container-toolkit cuda-checkpoint
  toolkit=$(echo " $NVIDIA_PACKAGES" | sed 's/.* nvidia-container-toolkit=\([^ ]*\).*/\1/')
  printf 'Package: libnvidia-container* nvidia-container-toolkit*\nPin: version %s\nPin-Priority: 1001\n' "$toolkit" \
    >/etc/apt/preferences.d/outlast-nvidia
  add_source nvidia "$NVIDIA_APT" "${NVIDIA_KEY:?}" "${NVIDIA_KEY_SHA256:?}"
  # DKMS builds the module against these, and without them it builds none and says nothing.
  install_packages "linux-headers-$(uname -r)" ||
    fail "no headers of kernel $(uname -r): let source_image and SNAPSHOT be of the same weeks"
  # shellcheck disable=SC2086 # packages
  install_packages $NVIDIA_PACKAGES
  modinfo -n nvidia >/dev/null || fail "the NVIDIA module was not built for kernel $(uname -r)"
  # shellcheck disable=SC2016 # dpkg's own
  driver=$(dpkg-query -W -f '${Version}' nvidia-driver-cuda | cut -d . -f 1)
  [ "$driver" -ge "$LEAST_DRIVER" ] || fail "driver $driver cannot checkpoint a GPU: $LEAST_DRIVER is the least"
fi

# --- containerd

say "containerd"
install -d -m 755 /etc/containerd/conf.d /etc/cni/net.d /opt/cni /etc/criu
ln -sfn /usr/lib/cni /opt/cni/bin
{
  # A key of the file's own stands before its first table.
  echo 'imports = ["/etc/containerd/conf.d/*.toml"]'
  cri_runtime runc
} >/etc/containerd/config.toml
if [ -n "${NVIDIA_APT:-}" ]; then
  install -d -m 755 /usr/lib/outlast
  cri_runtime nvidia >/usr/lib/outlast/gpu.toml
  gpu_runtime >/usr/lib/outlast/gpu-runtime
  chmod 755 /usr/lib/outlast/gpu-runtime
  cat >/etc/systemd/system/outlast-gpu-runtime.service <<'UNIT'
[Unit]
Description=Choose containerd's default runtime by whether there is a GPU
Before=containerd.service

[Service]
Type=oneshot
ExecStart=/usr/lib/outlast/gpu-runtime

[Install]
WantedBy=containerd.service
UNIT
  systemctl enable outlast-gpu-runtime.service
fi
# A connection cannot be taken to another machine: a training gets an error from it and connects again. Without this line
# CRIU refuses to dump a process that has any.
echo tcp-close >/etc/criu/runc.conf

say "kernel"
printf 'overlay\nbr_netfilter\n' >/etc/modules-load.d/outlast.conf
printf 'net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n' >/etc/sysctl.d/90-outlast.conf

criu=$(criu --version | awk '/^Version/ { print $2 }')
containerd=$(containerd --version | awk '{ print $3 }' | sed 's/^v//')
at_least "$LEAST_CRIU" "$criu" || fail "CRIU $criu is too old: $LEAST_CRIU is the least"
if ! at_least "$LEAST_CONTAINERD" "$containerd" || at_least "$BEFORE_CONTAINERD" "$containerd"; then
  fail "containerd $containerd restores no checkpoint: from $LEAST_CONTAINERD on, before $BEFORE_CONTAINERD, they do"
fi
apt_get clean
rm -rf /var/lib/apt/lists/*
say "containerd $containerd, CRIU $criu, $(kubelet --version)"
