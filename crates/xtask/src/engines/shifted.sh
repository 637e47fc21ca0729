# Starts an engine on whose disk files have other owners than in its containers; in a mount namespace of its own.
# usage: shifted.sh FOLDER PROGRAMS USER COMMAND...   USER is `root`, or the number of the one who starts it without root
set -e
run=$1 programs=$2 user=$3
shift 3
mount --bind "$programs" "$run/programs"
export PATH=$run/programs/lifeboat-bin:$PATH
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || touch /etc/$file
    mount --bind "$run/etc/$file" /etc/$file
done
[ "$user" != root ] || exec "$@"
# Tunnels are everybody's on most machines, and not on all.
mkdir -p "$run/dev"
mount -t tmpfs -o mode=755 tmpfs "$run/dev"
mknod -m 666 "$run/dev/tun" c 10 200
mount --bind "$run/dev/tun" /dev/net/tun
# It finds the machine's own engine in /run, which it may not use.
exec setpriv --reuid="$user" --regid="$user" --clear-groups env XDG_RUNTIME_DIR="$run" HOME="$run" \
    rootlesskit --net=slirp4netns --mtu=65520 --disable-host-loopback --copy-up=/etc --copy-up=/run \
    --state-dir="$run/rootlesskit" sh -c 'rm -f /run/docker /run/containerd /run/xtables.lock; exec "$@"' sh "$@"
