#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# assemble.sh BUILD ROOT: puts into the new directory ROOT everything the image holds, and nothing else: the two programs of
# the build directory BUILD, the libraries they load, who owns them, and two files of names. No shell, no package manager.
#
# The libraries are those of libraries.txt. It must be what the linker says, so that an image never grows unseen:
# assemble.sh --list BUILD prints what the list should be.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
programs='kvasird kvasir'
user=65532 # "nonroot" of many images; the manifests name it too

die() {
    echo "assemble.sh: $*" >&2
    exit 1
}

paths() { # paths BUILD: the file of each library, the loader among them
    for program in $programs; do ldd "$1/deploy/$program"; done |
        awk '/not found/ {print "missing: " $1 > "/dev/stderr"; exit 1} $2 == "=>" {print $3} $1 ~ /^\/.*ld-linux/ {print $1}' | sort -u
}

names() { # names BUILD: what libraries.txt holds; the loader's name differs from one architecture to the next
    paths "$1" | sed 's|.*/||' | grep -v '^ld-linux' | LC_ALL=C sort
}

take() { # take FILE: the file behind a link, under the name the loader asks for
    to=$root/usr/${1#/}
    case $1 in /usr/*) to=$root$1 ;; esac
    mkdir -p "$(dirname "$to")"
    cp -L "$1" "$to"
}

describe() { # describe FILES: the licence of each package they are of, and the record that scanners look for
    both=$(for file in "$@"; do echo "$file /usr$file ${file#/usr}"; done)
    # Debian's packages name a library under /lib or under /usr/lib, which are the same.
    owners=$(dpkg-query -S $both 2>/dev/null || true)
    for file in "$@"; do
        echo "$owners" | grep -q "/${file##*/}\$" || die "no package has $file"
    done
    for package in $(echo "$owners" | sed 's/: .*//' | sort -u); do
        name=${package%%:*}
        mkdir -p "$root/usr/share/doc/$name" "$root/var/lib/dpkg/status.d"
        cp -L "/usr/share/doc/$name/copyright" "$root/usr/share/doc/$name/copyright"
        dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$name"
    done
}

if [ "${1:-}" = --list ] && [ $# -eq 2 ]; then
    names "$2"
    exit
fi
[ $# -eq 2 ] || die 'usage: assemble.sh BUILD ROOT, or assemble.sh --list BUILD'
build=$1
root=$2
[ ! -e "$root" ] || die "$root is there already"

names "$build" | diff "$here/libraries.txt" - >&2 ||
    die "the programs load other libraries than libraries.txt says (> are new). If that is meant: $0 --list $build >$here/libraries.txt"

mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/var/lib/kvasir"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
for program in $programs; do
    cp "$build/deploy/$program" "$root/usr/bin/$program"
    strip "$root/usr/bin/$program"
done
libraries=$(paths "$build")
for library in $libraries; do take "$library"; done
describe $libraries
mkdir -p "$root/usr/share/doc/kvasir"
cp "$here/../../LICENSE" "$root/usr/share/doc/kvasir/copyright"
echo "root:x:0:0:root:/:/sbin/nologin
kvasir:x:$user:$user:Kvasir:/var/lib/kvasir:/sbin/nologin" >"$root/etc/passwd"
echo "root:x:0:
kvasir:x:$user:" >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
[ "$(id -u)" -ne 0 ] || chown "$user:$user" "$root/var/lib/kvasir"
