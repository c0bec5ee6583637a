#!/bin/bash
# Build an emulated ARM64 Debian board (kernel, initramfs, ext4 root) from this machine's own apt
# sources; run as root. Usage: make_board.sh [DIR]; DIR is $LIGHTNAS_QEMU_DIR unless given,
# ~/.cache/lightnas-tests/qemu unless set. Does nothing if the board there is up to date.
# arm64 packages are only downloaded and unpacked: no arm64 code runs here, so neither qemu-user,
# binfmt_misc nor a foreign architecture in dpkg is needed.
set -euo pipefail
DIR=${1:-${LIGHTNAS_QEMU_DIR:-$HOME/.cache/lightnas-tests/qemu}}
mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd)
exec 9>"$DIR/lock"; flock 9  # two test runs at once: the second finds the board made
stamp=$(sha256sum "$0" | cut -d' ' -f1)-${BOARD_DISK_MB:=1024}
[ "$(cat "$DIR/stamp" 2>/dev/null)" != "$stamp" ] || { echo "board in $DIR is up to date"; exit 0; }
APT=$DIR/apt ROOT=$DIR/root INITRD=$DIR/initrd KERNEL=$DIR/kernel
rm -rf "$APT" "$ROOT" "$INITRD" "$KERNEL" "$DIR/stamp"
mkdir -p "$APT"/{lists/partial,cache/archives/partial} "$ROOT" "$INITRD" "$KERNEL"
SECONDS=0; say() { printf '[%3ds] %s\n' $SECONDS "$*"; }

# 1. Host tools.
need=()
for t in qemu-system-aarch64:qemu-system-arm cpio:cpio ssh-keygen:openssh-client mke2fs:e2fsprogs; do
  command -v "${t%:*}" >/dev/null || need+=("${t#*:}")
done
((${#need[@]} == 0)) || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
  --no-install-recommends "${need[@]}" >"$DIR/host-apt.log" 2>&1
say "host tools (installed: ${need[*]:-none})"

# 2. arm64 packages, through a private apt state.
: >"$APT/status"
a=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64
   -o Dir::State::Lists="$APT/lists" -o Dir::State::status="$APT/status"
   -o Dir::Cache="$APT/cache" -o APT::Sandbox::User=root
   -o APT::Install-Recommends=false -o Acquire::Languages=none)
apt-get "${a[@]}" update
kernel=$(apt-cache "${a[@]}" depends linux-image-cloud-arm64 |
         awk '/Depends: linux-image-/ {print $2; exit}')
apt-get "${a[@]}" -y --download-only install base-files base-passwd bash coreutils dash \
  grep sed findutils tar gzip util-linux mount hostname procps kmod iproute2 busybox \
  openssh-server python3 python3-venv libgomp1 libstdc++6 >/dev/null
mkdir "$APT/k"; (cd "$APT/k" && apt-get "${a[@]}" download "$kernel" >/dev/null)
say "arm64 packages: $(du -sm "$APT" | cut -f1) MB with lists"

# 3. Unpack, root onto a merged /usr.
mkdir -p "$ROOT"/usr/{bin,sbin,lib}
for d in bin sbin lib; do ln -s usr/$d "$ROOT/$d"; done
for deb in "$APT"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$ROOT" \
    --exclude=./usr/share/{doc,man,locale,info,i18n}
done
dpkg-deb --fsys-tarfile "$APT"/k/*.deb | tar -x -C "$KERNEL"
say "unpacked"

# 4. What maintainer scripts would have done, as far as sshd and python need it.
cd "$ROOT"
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
cat >>etc/passwd <<'E'
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
board:x:1000:1000:board:/home/board:/bin/bash
E
echo 'board:x:1000:' >>etc/group
[ -e bin/sh ] || ln -s dash bin/sh
for n in awk vi ping wget unzip which; do [ -e usr/bin/$n ] || ln -s busybox usr/bin/$n; done
echo armboard >etc/hostname; echo '127.0.0.1 localhost armboard' >etc/hosts
mkdir -p dev proc sys run tmp root/.ssh home/board/.ssh etc/ssh
[ -e "$DIR/id_board" ] || ssh-keygen -q -t ed25519 -N '' -C client -f "$DIR/id_board"
[ -e "$DIR/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C armboard -f "$DIR/host_key"
for h in root home/board; do install -m600 "$DIR/id_board.pub" $h/.ssh/authorized_keys; chmod 700 $h $h/.ssh; done
install -m600 "$DIR/host_key" etc/ssh/ssh_host_ed25519_key
cat >etc/ssh/sshd_config <<'E'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
# Guest and wall time differ under -icount: no time-outs on the board's side.
LoginGraceTime 0
TCPKeepAlive no
Subsystem sftp /usr/lib/openssh/sftp-server
E
cat >sbin/board-init <<'E'
#!/bin/sh
# PID 1 of the board: network and sshd, nothing else.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc; mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/sshd
hostname armboard
ip link set lo up; ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
/usr/sbin/sshd && echo board-init: sshd up
trap 'sync; busybox poweroff -f' USR1 USR2 TERM; trap 'sync; busybox reboot -f' INT
while :; do sleep 3600 & wait $!; done
E
chmod 755 sbin/board-init; chmod 1777 tmp
chown -hR 0:0 .; chown -R 1000:1000 home/board

# 5. Initramfs: busybox and the virtio modules; mounts the disk and hands over.
cd "$INITRD"
mods="virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net"
mkdir -p bin mod dev mnt lib/aarch64-linux-gnu
cp "$ROOT/usr/bin/busybox" bin/
cp -L "$ROOT"/lib/aarch64-linux-gnu/{libc.so.6,libresolv.so.2} lib/aarch64-linux-gnu/
cp -L "$ROOT/lib/ld-linux-aarch64.so.1" lib/
for m in $mods; do find "$KERNEL/lib/modules" -name "$m.ko*" -exec cp {} mod/ \; ; done
cat >init <<E
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in $mods; do /bin/busybox insmod /mod/\$m.ko; done
i=0; until [ -b /dev/vda ] || [ \$i -ge 250 ]; do /bin/busybox usleep 20000; i=\$((i+1)); done
/bin/busybox mount -t ext4 -o noatime /dev/vda /mnt && /bin/busybox mount --move /dev /mnt/dev
exec /bin/busybox switch_root /mnt /sbin/board-init
E
chmod 755 init
find . | cpio -o -H newc --quiet -R +0:+0 >"$DIR/initrd.cpio"
cp "$KERNEL"/boot/vmlinuz-* "$DIR/vmlinuz"

# 6. Disk image: sparse, filled without mounting it.
cd "$DIR"; rm -f root.ext4
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$ROOT" root.ext4 "${BOARD_DISK_MB}M"
rm -rf "$APT" "$ROOT" "$INITRD" "$KERNEL"
echo "$stamp" >stamp
say "done: $(du -cm root.ext4 vmlinuz initrd.cpio | tail -1 | cut -f1) MB in $DIR"
