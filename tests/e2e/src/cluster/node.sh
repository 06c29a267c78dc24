#!/bin/sh
# Makes a node of the private mount, network and UTS namespaces that this runs in, says "ready", and holds them.
# usage: node.sh STATE NAME
set -eu
state=$1 name=$2
hostname "$name"

# Where Kubernetes and containerd keep things by habit, with content of this node alone.
mkdir -p "$state/lib" "$state/log" "$state/sysctl"
mount --bind "$state/lib" /var/lib
mount --bind "$state/log" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/cgroup /run/netns /run/lock /var/log/pods /var/log/containers /var/lib/kubelet/static-pods

# A /sys of this network namespace, with the machine's own cgroup hierarchies in it.
mount --rbind /sys/fs/cgroup /run/cgroup
umount --recursive /sys
mount -t sysfs sysfs /sys
mount --move /run/cgroup /sys/fs/cgroup
# A kernel may lack one of these; what needs it says so.
for filesystem in bpf:/sys/fs/bpf tracefs:/sys/kernel/tracing; do
    mount -t "${filesystem%%:*}" "${filesystem%%:*}" "${filesystem#*:}" || true
done

# The kubelet wants to set these for the whole machine: it sets files of ours.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    path=${setting%%=*}
    file=$state/sysctl/$(echo "$path" | tr / .)
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/$path"
done
echo 1 >/proc/sys/net/ipv4/ip_forward

# Containers' mounts must reach the node and back where a pod asks for it.
mount --make-rshared /
echo ready
exec sleep infinity
