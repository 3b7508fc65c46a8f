#!/usr/bin/env bash
# Installs the browser in which crates/report/tests/it/browser.rs opens the page, on Debian and Ubuntu, unless there is one.
set -euo pipefail
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then
        echo "there is $name"
        exit 0
    fi
done
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium
