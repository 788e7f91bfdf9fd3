#!/usr/bin/env bash
# binutils 2.40 (Debian 12, binutils-mingw-w64-x86-64 2.40-2+10.4): a delay-load import library made by dlltool loses floating-point arguments.
#
# A Node addon for Windows that is to run in Electron as well must find Node's functions at run time, in a program of any name. With MinGW
# that is a delay-load library. Its stub runs at the first call of each function: it keeps the four integer argument registers while it searches the
# function, but not xmm0 to xmm3, which carry the floating-point arguments. The search overwrites them, so the first napi_create_double(env, 1.5, ...)
# creates another number, without an error, and every later call is right. So all functions must be resolved before the
# first call that passes a double.
set -euo pipefail
cd "$(mktemp -d)"
apt-get -qq download binutils-mingw-w64-x86-64=2.40-2+10.4 2> /dev/null
dpkg-deb -x binutils-mingw-w64-x86-64_*.deb .
bin=usr/bin/x86_64-w64-mingw32
printf 'LIBRARY node.exe\nEXPORTS\n  napi_create_double\n' > node.def
$bin-dlltool --as $bin-as -d node.def --output-delaylib node.a -D node.exe
$bin-objdump -d node.a > stubs.txt
{
  $bin-dlltool --version | sed -n '1s/GNU .*dlltool/GNU dlltool/p'
  for register in rcx rdx r8 r9 xmm0 xmm1 xmm2 xmm3; do
    echo "$register: $(grep -cE "mov[a-z]* +%$register,0x[0-9a-f]+\(%rsp\)" stubs.txt || true) saved"
  done
} | tee seen.txt
diff seen.txt - <<'SEEN'
GNU dlltool (GNU Binutils) 2.40
rcx: 1 saved
rdx: 1 saved
r8: 1 saved
r9: 1 saved
xmm0: 0 saved
xmm1: 0 saved
xmm2: 0 saved
xmm3: 0 saved
SEEN
