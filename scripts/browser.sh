#!/usr/bin/env bash
# Installs the browsers in which crates/report/tests/it/browser.rs opens the page, on Debian and Ubuntu, unless there are some.
set -euo pipefail
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
updated=
# What to install, and the programs that do as well.
get() {
    local package=$1
    shift
    for name in "$@"; do
        if command -v "$name" >/dev/null; then
            echo "there is $name"
            return
        fi
    done
    [ -n "$updated" ] || "${as_root[@]}" apt-get update -qq
    updated=1
    if ! apt-cache show "$package" >/dev/null 2>&1; then
        echo "this system has no package $package: the page is not opened in it"
        return
    fi
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$package"
}
get chromium chromium chromium-browser google-chrome google-chrome-stable
get firefox-esr firefox firefox-esr
