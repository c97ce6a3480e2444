#!/bin/sh
# Makes of a Debian 13 machine one that can join a cluster, train, and be checkpointed with its memory. Run as root, once,
# when an image is built: by Packer for Compute Engine (outlast.pkr.hcl), by the sandbox for its real machines.
#
#   KUBERNETES_BINARIES  directory with kubelet and kubeadm to install; without it they come from KUBERNETES_APT
#   KUBERNETES_APT       apt source line of the Kubernetes packages, with signed-by=/etc/apt/keyrings/kubernetes.asc,
#   KUBERNETES_KEY       and the URL of its key
#   NVIDIA_APT           apt source line for the driver; no driver where it is left out. A GPU's memory is checkpointed
#   NVIDIA_KEY           from driver 570 on only, by cuda-checkpoint
set -eu
export DEBIAN_FRONTEND=noninteractive
say() { echo "provision: $*"; }

# Debian 13 has a CRIU that cannot dump a listening socket on recent kernels, and a containerd that restores nothing:
# these three come from the next release, and nothing else does.
NEXT=forky
FROM_NEXT="containerd runc criu containernetworking-plugins"

say "packages"
mirror=$(awk '$1 == "deb" { for (i = 2; i < NF; i++) if ($i ~ /^https?:/) { print $i; exit } }
              $1 == "URIs:" { print $2; exit }' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null)
echo "deb $mirror $NEXT main" >/etc/apt/sources.list.d/outlast-next.list
printf 'Package: *\nPin: release n=%s\nPin-Priority: 50\n' "$NEXT" >/etc/apt/preferences.d/outlast-next
apt-get -qq update
apt-get -qq install --no-install-recommends \
  ca-certificates conntrack curl ethtool iproute2 iptables kmod mount openssh-server procps python3-minimal socat sudo \
  >/dev/null
# shellcheck disable=SC2086 # names
apt-get -qq install --no-install-recommends --target-release "$NEXT" $FROM_NEXT >/dev/null

say "kubelet, kubeadm"
if [ -n "${KUBERNETES_BINARIES:-}" ]; then
  install -m 755 "$KUBERNETES_BINARIES/kubelet" "$KUBERNETES_BINARIES/kubeadm" /usr/bin/
else
  : "${KUBERNETES_APT:?set KUBERNETES_BINARIES, or KUBERNETES_APT and KUBERNETES_KEY}"
  install -d -m 755 /etc/apt/keyrings
  curl -fsSL "$KUBERNETES_KEY" -o /etc/apt/keyrings/kubernetes.asc
  echo "$KUBERNETES_APT" >/etc/apt/sources.list.d/kubernetes.list
  apt-get -qq update
  apt-get -qq install kubelet kubeadm >/dev/null
  apt-mark hold kubelet kubeadm
fi

if [ -n "${NVIDIA_APT:-}" ]; then
  say "NVIDIA driver"
  install -d -m 755 /etc/apt/keyrings
  curl -fsSL "$NVIDIA_KEY" -o /etc/apt/keyrings/nvidia.asc
  echo "$NVIDIA_APT" >/etc/apt/sources.list.d/nvidia.list
  apt-get -qq update
  # DKMS builds the module against these, and without them it builds none and says nothing.
  apt-get -qq install --no-install-recommends "linux-headers-$(uname -r)" >/dev/null
  apt-get -qq install --no-install-recommends \
    nvidia-driver-cuda nvidia-kernel-open-dkms nvidia-container-toolkit cuda-checkpoint >/dev/null
  modinfo -n nvidia >/dev/null || { say "the NVIDIA module was not built for kernel $(uname -r)"; exit 1; }
  driver=$(dpkg-query -W -f '${Version}' nvidia-driver-cuda | cut -d . -f 1)
  [ "$driver" -ge 570 ] || { say "driver $driver cannot checkpoint a GPU: 570 is the least"; exit 1; }
fi

say "containerd"
install -d -m 755 /etc/containerd/conf.d /etc/cni/net.d /opt/cni /etc/criu
ln -sfn /usr/lib/cni /opt/cni/bin
cat >/etc/containerd/config.toml <<'TOML'
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

# From 2.2.7 and 2.3.4 on containerd restores no checkpoint unless it is told to.
[plugins.'io.containerd.cri.v1.runtime']
  enable_experimental_restore_via_create = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = true
TOML
# A connection cannot be taken to another machine: a training gets an error from it and connects again. Without this line
# CRIU refuses to dump a process that has any.
echo tcp-close >/etc/criu/runc.conf

say "kernel"
printf 'overlay\nbr_netfilter\n' >/etc/modules-load.d/outlast.conf
printf 'net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n' >/etc/sysctl.d/90-outlast.conf

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }
criu=$(criu --version | awk '/^Version/ { print $2 }')
containerd=$(containerd --version | awk '{ print $3 }' | sed 's/^v//')
at_least 4.2 "$criu" || { say "CRIU $criu is too old: 4.2 is the least"; exit 1; }
at_least 2.1 "$containerd" && ! at_least 2.4 "$containerd" ||
  { say "containerd $containerd restores no checkpoint: 2.1 to 2.3 do"; exit 1; }
apt-get -qq clean
rm -rf /var/lib/apt/lists/*
say "containerd $containerd, CRIU $criu, $(kubelet --version)"
