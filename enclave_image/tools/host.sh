#!/bin/sh
# Run a command in the environment that builds and boots the image: Debian trixie or newer.
#
#   host.sh setup            make the environment, or say that none is needed
#   host.sh run CMD ARG...   run CMD in it; the checkout, the cache and /tmp are where they are outside
#   host.sh sources          print where packages come from, as deb822
#
# A machine that has the tools (mkosi >= 25 and the others below) is the environment itself. Anywhere
# else one is made from Debian packages, in ATTESTED_IMAGE_CACHE (~/.cache/attested-gateway/image),
# which needs root, apt and unshare. Package sources are those of this machine's apt configuration;
# enclave_image/apt.local.sources (deb822, not committed) comes first if it is there.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
repo=$(dirname "$here")
cache=${ATTESTED_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/attested-gateway/image}
tree=$cache/trixie
packages="apt ca-certificates cryptsetup-bin debian-archive-keyring diffutils dosfstools erofs-utils
fdisk kmod mkosi mtools ovmf python3-pefile qemu-system-x86 swtpm swtpm-tools systemd-container
systemd-repart systemd-ukify udev zstd"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf '%s\n' "image: $*" >&2; }
fail() { say "$1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

has_tools() {
    for tool in mkosi qemu-system-x86_64 swtpm swtpm_setup mkfs.erofs fsck.erofs veritysetup; do
        command -v "$tool" >/dev/null 2>&1 || return 1
    done
    [ -x /usr/lib/systemd/ukify ] || command -v ukify >/dev/null 2>&1 || return 1
    version=$(mkosi --version 2>/dev/null | sed -n 's/^mkosi \([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 25 ]
}

site() { # the URI under which apt gets packages labelled $1
    apt-get indextargets --format '$(LABEL) $(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
        awk -v label="$1" '$1 == label && $2 == "Debian" { print $3; exit }'
}

sources() {
    if [ -f "$here/apt.local.sources" ]; then cat "$here/apt.local.sources"; return; fi
    debian=$(site Debian) security=$(site Debian-Security)
    [ -n "$debian" ] || fail "expected a Debian archive in apt's configuration, seen none." \
        "Run apt-get update first, or describe one in enclave_image/apt.local.sources (deb822)."
    cat <<EOF
Types: deb
URIs: $debian
Suites: trixie trixie-updates trixie-backports
Components: main contrib non-free non-free-firmware
Signed-By: $keyring
EOF
    [ -z "$security" ] || cat <<EOF

Types: deb
URIs: $security
Suites: trixie-security
Components: main
Signed-By: $keyring
EOF
}

make_tree() {
    [ "$(id -u)" = 0 ] || fail "making the build environment needs root, seen uid $(id -u)." \
        "Run as root, or on Debian trixie or newer with: apt install $packages"
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    [ ! -f "$tree/.complete" ] || return 0
    say "making the build environment (Debian trixie) in $tree"
    rm -rf "$tree" "$tree.new"
    mmdebstrap=$(command -v mmdebstrap) || {
        mkdir -p "$cache/mmdebstrap"
        (cd "$cache/mmdebstrap" && apt-get -qq -o APT::Sandbox::User=root download mmdebstrap && dpkg-deb -x mmdebstrap_*.deb .) ||
            fail "apt could not download mmdebstrap (its message stands above)."
        mmdebstrap=$cache/mmdebstrap/usr/bin/mmdebstrap
    }
    # The environment itself needs no backports, so that its versions are trixie's.
    sources | sed 's/ trixie-backports//; s/ contrib non-free non-free-firmware//' |
        "$mmdebstrap" --quiet --mode=root --variant=apt --format=directory \
            --include="$(echo $packages | tr ' ' ,)" trixie "$tree.new" - 9>&- ||
        fail "mmdebstrap failed (its message stands above)."
    touch "$tree.new/.complete"
    mv "$tree.new" "$tree"
}

require_tree() {
    [ -f "$tree/.complete" ] || make_tree
    for tool in mkosi qemu-system-x86_64 swtpm swtpm_setup mkfs.erofs veritysetup; do
        [ -e "$tree/usr/bin/$tool" ] || [ -e "$tree/usr/sbin/$tool" ] ||
            fail "expected $tool in the build environment, seen none." \
                "Remove $tree: the next command makes it anew."
    done
}

setup() {
    if has_tools; then say "this machine has the tools: no environment needed"; return; fi
    require_tree
    say "build environment: $tree"
}

# mkosi needs a root that is a mount point, which a plain chroot is not.
inside() {
    # Before anything of this machine lies over the tree: then the two could be one file.
    cat /etc/resolv.conf >"$tree/etc/resolv.conf" 2>/dev/null || :
    mount --bind "$tree" "$tree"
    for path in /proc /sys /dev; do mount --rbind "$path" "$tree$path"; done
    for path in "$repo" "$cache" /tmp; do
        mkdir -p "$tree$path"
        mount --bind "$path" "$tree$path"
    done
    mkdir -p "$tree/.host"
    work=$PWD
    cd "$tree"
    pivot_root . .host
    umount -l /.host
    cd "$work" 2>/dev/null || cd /
    exec /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root \
        LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}" "$@"
}

umask 022
case "${1:-}" in
setup) setup ;;
sources) sources ;;
run)
    shift
    if has_tools; then exec "$@"; fi
    # Both lie over the environment where they are outside, and "/" would be all of it.
    [ "$repo" != / ] && [ "$cache" != / ] || fail "expected a checkout and a cache in folders, seen /."
    require_tree
    exec unshare --mount --propagation private "$0" --inside "$@"
    ;;
--inside) shift; inside "$@" ;;
*) fail "expected setup, run or sources, seen '${1:-}'" ;;
esac
