# shellcheck shell=bash
# packages.sh -- sourced: have_packages NAME...  installs what is missing of Debian's packages.
#
# Waits for other users of apt, tries again when a mirror stumbles, and keeps the services that
# packages bring from starting: the scripts here start their own.

have_packages() {
    local missing=() package log try
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}"
    log=$(mktemp)
    (
        export DEBIAN_FRONTEND=noninteractive
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
        fi
        for try in 1 2 3 4 5; do
            apt-get -o DPkg::Lock::Timeout=600 update -q &&
                apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends "${missing[@]}" && exit 0
            sleep $((5 * try)) # the package lists' own lock has no waiting option
        done
        exit 1
    ) >"$log" 2>&1 || {
        tail -20 "$log" >&2
        echo "could not install ${missing[*]}: root and a Debian mirror are needed" >&2
        rm -f "$log"
        return 1
    }
    rm -f "$log"
}
