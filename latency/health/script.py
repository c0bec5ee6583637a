"""The `sh` script that asks a board how it is; it needs nothing installed, not even Python, and changes nothing."""

from __future__ import annotations

from typing import Final

from latency.probe import PROBE

WATCH_S: Final = 1
"""Seconds for which processes are watched."""

SCRIPT: Final = (
    PROBE
    + r"""
root=${LIGHTNAS_SYSROOT:-}
cpus=$root/sys/devices/system/cpu
# Reads the first line of a file into $value without starting a program.
get() { value=; [ -r "$1" ] && read -r value 2>/dev/null <"$1"; [ -n "$value" ]; }
tell() { get "$2" && say "$1" "$value"; }

say os "$(. "$root/etc/os-release" 2>/dev/null; printf %s "$PRETTY_NAME")"
[ -r "$root/proc/device-tree/model" ] && say model "$(tr -d '\000' <"$root/proc/device-tree/model")"
sed -n 's/^\(processor\|CPU implementer\|CPU part\|model name\|Hardware\)[[:space:]]*:/lightnas:cpu=\1:/p' \
  "$root/proc/cpuinfo"
sed -n 's/^\(Features\|flags\)[[:space:]]*:/lightnas:features=/p' "$root/proc/cpuinfo" | sort -u
awk '/^(MemTotal|MemAvailable|SwapTotal|SwapFree):/ {print "lightnas:memory=" $1 $2}' "$root/proc/meminfo" 2>/dev/null
tell online "$cpus/online"
tell isolated "$cpus/isolated"
sed -n 's/^Cpus_allowed_list:[[:space:]]*/lightnas:allowed=/p' "$root/proc/self/status" 2>/dev/null
for path in "$cpus"/cpu[0-9]*; do
  number=${path##*cpu}
  get "$path/cpu_capacity" && say capacity "$number $value"
  [ -d "$path/cpufreq" ] || continue
  line=$number
  for name in cpuinfo_min_freq cpuinfo_max_freq scaling_min_freq scaling_max_freq scaling_cur_freq; do
    get "$path/cpufreq/$name"
    line="$line ${value:-0}"
  done
  real=$(readlink -f "$path/cpufreq")
  set_by=nobody; [ -w "$path/cpufreq/scaling_governor" ] && set_by=us
  get "$path/cpufreq/scaling_governor"
  say freq "$line ${real##*/} $set_by $value"
  get "$path/cpufreq/scaling_available_governors" && say governors "$number $value"
done
for path in "$root"/sys/class/thermal/thermal_zone*; do
  get "$path/temp" || continue
  line="${path##*thermal_zone} $value"
  get "$path/type"
  say zone "$line $value"
  for trip in "$path"/trip_point_*_type; do
    get "$trip" && [ "$value" = passive ] && get "${trip%type}temp" && say trip "${path##*thermal_zone} $value"
  done
done
for path in "$root"/sys/class/thermal/cooling_device*; do
  get "$path/cur_state" || continue
  line=$value
  get "$path/max_state"
  line="$line ${value:-0}"
  get "$path/type"
  say cooling "$line $value"
done
command -v vcgencmd >/dev/null && say throttled "$(vcgencmd get_throttled 2>&1 | tr '\n' ' ')"
tell load "$root/proc/loadavg"
group=$(sed -n 's/^0:://p' "$root/proc/self/cgroup" 2>/dev/null)
group=${group%/}
while :; do
  tell quota "$root/sys/fs/cgroup$group/cpu.max"
  [ -n "$group" ] || break
  group=${group%/*}
done
get "$root/sys/fs/cgroup/cpu/cpu.cfs_quota_us" && quota=$value && get "$root/sys/fs/cgroup/cpu/cpu.cfs_period_us" &&
  say quota "$quota $value"
# The fields of a process's stat behind its name, which may hold blanks and brackets: 12 and 13 are its ticks.
stats() { cat "$root"/proc/[0-9]*/stat 2>/dev/null; }
{ stats; echo later; sleep WATCH; stats; } | awk -v ticks="$(getconf CLK_TCK 2>/dev/null || echo 100)" '
/^later$/ {later = 1; next}
match($0, /\(.*\)/) {
  name = substr($0, RSTART + 1, RLENGTH - 2); split(substr($0, RSTART + RLENGTH + 1), field, " ")
  spent = field[12] + field[13]
  if (!later) before[$1] = spent
  else if ($1 in before && spent > before[$1])
    printf "%d %s\n", 100 * (spent - before[$1]) / ticks / WATCH, name
}' | sort -rn | head -n 5 | while read -r line; do say busiest "$line"; done
if command -v flock >/dev/null; then
  for path in "$base/lightnas/lock" "${LIGHTNAS_BOARD_LOCK:-/tmp/lightnas-board.lock}"; do
    # Opened by the shell to read: flock would make it, which the kernel refuses on another account's file in /tmp.
    [ -f "$path" ] && [ ! -L "$path" ] && [ -r "$path" ] || continue
    ( flock -n 9 ) 9<"$path" || say holder "$(head -c 300 "$path" | tr '\n' ' ')"
  done
fi
for path in "$base/lightnas"/*-*/; do [ -d "$path" ] && say deployed "${path%/}"; done
say done yes
"""
).replace("WATCH", str(WATCH_S))
