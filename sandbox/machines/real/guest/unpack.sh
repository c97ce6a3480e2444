#!/bin/bash
# Lets a machine's own containerd unpack an image, and keeps what it has written: `store` and `snapshots`. In mounts of its own.
# Arguments: a machine's root file system, the directory to write to, the image's archive.
set -euo pipefail
root=$1 target=$2 archive=$3
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mkdir -p "$target/store"
mount --bind "$target/store" "$root/mnt"
touch "$root/tmp/archive"
mount --bind "$archive" "$root/tmp/archive"
echo 'version = 3' >"$root/tmp/containerd.toml"
chroot "$root" containerd --config /tmp/containerd.toml --root /mnt --log-level error &
containerd=$!
trap 'kill $containerd; wait $containerd || true' EXIT
for _ in $(seq 100); do [ ! -S "$root/run/containerd/containerd.sock" ] || break; sleep 0.1; done
ctr() { chroot "$root" ctr --namespace k8s.io "$@"; }
ctr images import --local --discard-unpacked-layers /tmp/archive
ctr content prune references # and with them, at once, the layers as they were packed
trap - EXIT
kill $containerd
wait $containerd || true
cd "$target"
mv store/io.containerd.snapshotter.v1.overlayfs/snapshots snapshots
for each in store/*; do
  case $each in
    */io.containerd.metadata.v1.bolt | */io.containerd.content.v1.content | */io.containerd.snapshotter.v1.overlayfs) ;;
    *) rm -r "$each" ;;
  esac
done
