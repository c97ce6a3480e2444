#!/bin/bash
# Turns new namespaces, which `unshare` has just made, into a machine: its own root, mounts and name, then its init.
# Arguments: the machine's directory, the root file system below its own, its name, the layers that containerd has from
# the start. A line on stdin means that its network interface exists.
set -euo pipefail
machine=$1 lower=$2 name=$3 layers=$4
root=$machine/root

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$machine/upper,workdir=$machine/work" "$root"
cd "$root"
mkdir -p .old proc sys dev run tmp
mount -t proc proc proc
mount -t sysfs sysfs sys
echo 1 >proc/sys/net/ipv4/ip_forward # of its own network: what sysctl.d says at a boot
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty fuse; do
  if [ -e "/dev/$device" ]; then touch "dev/$device"; mount --bind "/dev/$device" "dev/$device"; fi
done
mkdir dev/net dev/pts dev/shm dev/mqueue
if [ -e /dev/net/tun ]; then touch dev/net/tun; mount --bind /dev/net/tun dev/net/tun; fi
mknod dev/kmsg c 1 11
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0 1 2; do ln -s "/proc/self/fd/$number" "dev/$(printf 'stdin stdout stderr' | cut -d ' ' -f $((number + 1)))"; done
mount -t tmpfs tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/lock run/sshd
# A container's layers are overlays, and an overlay cannot be the upper layer of another: these are on the disk.
for directory in containerd kubelet; do
  mkdir -p "$machine/var/$directory" "var/lib/$directory"
  mount --bind "$machine/var/$directory" "var/lib/$directory"
done
if [ -z "$(ls -A var/lib/containerd)" ]; then cp -a "$layers/store/." var/lib/containerd; fi
for snapshot in "$layers"/snapshots/*; do
  place=var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/${snapshot##*/}
  mkdir -p "$place"
  mount --bind -o ro "$snapshot" "$place"
done
hostname "$name"
echo "$name" >etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 %s\n169.254.169.254 metadata.google.internal metadata\n' "$name" >etc/hosts

# CRIU needs the machine's root to be a mount, which a mere chroot is not.
pivot_root . .old
umount -l /.old
cd /
mount --make-rshared /
read -r _
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
exec tini -s -g -- /usr/local/sbin/services </dev/null
