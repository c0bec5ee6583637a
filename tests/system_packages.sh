#!/bin/sh
# What the tests use beyond Python: a real sshd, a real PostgreSQL, an emulated ARM board, a C++ compiler,
# a browser, a proxy.
# Installs what is missing where root and apt allow it; otherwise says what will be skipped.
missing=""
need() { [ -e "$1" ] || command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need /usr/sbin/sshd openssh-server
need ssh-keygen openssh-client
need qemu-system-aarch64 qemu-system-arm
need cpio cpio
need mke2fs e2fsprogs
need c++ g++
need cmake cmake
need ninja ninja-build
need /usr/include/stb/stb_image.h libstb-dev
need chromium chromium
need /usr/sbin/nginx nginx-light
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing for the tests:$missing"
  # shellcheck disable=SC2086
  if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
      >/tmp/lightnas-apt.log 2>&1; then exit 0; fi
  tail -3 /tmp/lightnas-apt.log
fi
echo "NOT INSTALLED:$missing - the tests that need them will be skipped"
