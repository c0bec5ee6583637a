#!/bin/bash
# Stop a board by its pid. Usage: stop_board.sh [DIR [PORT]], DIR as in make_board.sh.
R=${1:-${LIGHTNAS_QEMU_DIR:-$HOME/.cache/lightnas-tests/qemu}}/board-${2:-2222}; [ -e "$R.pid" ] || exit 0
p=$(cat "$R.pid")
if grep -qs qemu-system-aarch64 "/proc/$p/cmdline"; then
  kill "$p"
  for _ in $(seq 50); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
  ! kill -0 "$p" 2>/dev/null || kill -9 "$p"
fi
rm -f "$R".{pid,mon}
