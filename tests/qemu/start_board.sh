#!/bin/bash
# Start a board built by make_board.sh and wait for ssh. Usage: start_board.sh [DIR [PORT]], DIR as there.
# Disk writes are dropped at stop unless BOARD_PERSIST=1. Other settings, with defaults:
#   BOARD_CPU=cortex-a72        also cortex-a53, cortex-a76: the engine picks other kernels
#   BOARD_ICOUNT=shift=0,sleep=on   1 instruction = 2^shift ns of board time, repeatable;
#                               'off' = wall-clock time: a noisy board
#   BOARD_MEM=1024  BOARD_BIND=127.0.0.1  BOARD_WAIT=240 (seconds)
set -euo pipefail
DIR=$(cd "${1:-${LIGHTNAS_QEMU_DIR:-$HOME/.cache/lightnas-tests/qemu}}" && pwd); PORT=${2:-2222}; R=$DIR/board-$PORT; BIND=${BOARD_BIND:-127.0.0.1}
ICOUNT=${BOARD_ICOUNT:-shift=0,sleep=on}
if [ -e "$R.pid" ] && kill -0 "$(cat "$R.pid")" 2>/dev/null; then
  echo "already running, pid $(cat "$R.pid")" >&2; exit 1
fi
rm -f "$R".{pid,console,mon}
args=(-M virt,gic-version=2 -cpu "${BOARD_CPU:-cortex-a72}" -smp 1 -m "${BOARD_MEM:-1024}"
  -nodefaults -display none -no-reboot
  -serial "file:$R.console" -monitor "unix:$R.mon,server=on,wait=off" -pidfile "$R.pid"
  -kernel "$DIR/vmlinuz" -initrd "$DIR/initrd.cpio"
  -append "console=ttyAMA0 quiet nokaslr norandmaps mitigations=off panic=-1"
  -drive "if=none,id=d0,format=raw,file=$DIR/root.ext4,cache=unsafe,snapshot=$([ "${BOARD_PERSIST:-0}" = 1 ] && echo off || echo on)"
  -device virtio-blk-device,drive=d0
  -netdev "user,id=n0,restrict=on,hostfwd=tcp:$BIND:$PORT-:22"
  -device virtio-net-device,netdev=n0)
[ "$ICOUNT" = off ] || args+=(-icount "$ICOUNT")
t0=$(date +%s%N); end=$((SECONDS + ${BOARD_WAIT:-240}))
setsid qemu-system-aarch64 "${args[@]}" >"$R.log" 2>&1 </dev/null &
qemu=$!
echo "[$BIND]:$PORT $(cut -d' ' -f1,2 "$DIR/host_key.pub")" >"$R.known_hosts"
# ssh only once sshd is up: an earlier SYN would wait for QEMU's slow retransmission.
until grep -qs 'board-init: sshd up' "$R.console" &&
      ssh -q -F none -i "$DIR/id_board" -p "$PORT" -o IdentitiesOnly=yes -o BatchMode=yes \
        -o ConnectTimeout=20 -o UserKnownHostsFile="$R.known_hosts" root@"$BIND" true; do
  kill -0 $qemu 2>/dev/null || { cat "$R.log" >&2; exit 1; }
  [ $SECONDS -lt $end ] || { kill $qemu; echo "no ssh in time; see $R.console" >&2; exit 1; }
  sleep 0.2
done
echo "board up on $BIND:$PORT in $((($(date +%s%N) - t0) / 1000000)) ms, pid $qemu, key $DIR/id_board, known_hosts $R.known_hosts"
