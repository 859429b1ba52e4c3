# Runs in a mount namespace of its own and becomes the container's process: what is mounted here is gone with it.
#
#   sh -c <this> sandbox <empty folder> <rw|ro> [<source>TAB<path>TAB<rw|ro>]... -- command...
#
# The container sees this machine's files below a writable layer of its own, a /dev of its own, and its mounts.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
layer=$1
shift
root=$layer/root

mount -t tmpfs -o size=256m,mode=0755 tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" overlay "$root"
for folder in /proc /sys /usr /etc /opt; do
  if mountpoint -q $folder; then mount --rbind $folder "$root$folder"; fi
done

mount -t tmpfs -o size=64k,mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind /dev/$device "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "$root/dev/${stream#*:}"; done

# Sources may lie on any file system, and the new root shows one only: bring them in first.
mkdir "$root/.sources"
number=0
for mount; do
  if [ "$mount" = -- ]; then break; fi
  if [ "$mount" = rw ] || [ "$mount" = ro ]; then continue; fi
  number=$((number + 1))
  source=${mount%%	*}
  if [ -d "$source" ]; then mkdir "$root/.sources/$number"; else : >"$root/.sources/$number"; fi
  mount --bind "$source" "$root/.sources/$number"
done

# From within, so that links such as /var/run lead where they lead a process of the container.
exec chroot "$root" /bin/sh -euc '
  mode=$1 number=0
  shift
  while [ "$1" != -- ]; do
    number=$((number + 1))
    source=/.sources/$number path=${1#*	} access=${1##*	}
    path=${path%	*}
    shift
    if [ -d $source ]; then
      mkdir -p "$path"
    else
      mkdir -p "$(dirname "$path")"
      [ -e "$path" ] || : >"$path"
    fi
    mount --bind $source "$path"
    if [ $access = ro ]; then mount -o remount,bind,ro "$path"; fi
    umount $source
  done
  shift
  rm -r /.sources
  if [ $mode = ro ]; then mount -o remount,bind,ro /; fi
  exec "$@"
' sandbox "$@"
