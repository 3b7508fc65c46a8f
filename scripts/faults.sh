#!/usr/bin/env bash
# What happens when things go wrong: each fault is caused for real, and its outcome is checked and printed as a row of
# docs/faults.md, which has further parts written by hand. Ends with 1 if anything misbehaves.
#
#   scripts/faults.sh imagewoof2-160.tgz > faults.md
#
# Needs python3 (PYTHON names another) with numpy and Pillow, and root or user namespaces for a small tmpfs (else that row says that it
# was left out). About 10 minutes.
set -uo pipefail
[ $# = 1 ] || { echo "usage: scripts/faults.sh ARCHIVE" >&2; exit 2; }
archive=$(realpath "$1")
cd "$(dirname "$0")/.."
cargo build --quiet --release --locked -p xtask
xtask=$PWD/${CARGO_TARGET_DIR:-target}/release/xtask
[[ ${CARGO_TARGET_DIR:-} = /* ]] && xtask=$CARGO_TARGET_DIR/release/xtask
t=$(mktemp -d)
server=
# shellcheck disable=SC2317 # called by the trap
cleanup() {
    [ -n "$server" ] && kill "$server"
    rm -rf "$t"
}
trap cleanup EXIT
failed=0

# try WORDS...: runs the program; its exit status in $status, what it said in $said.
try() {
    "$xtask" "$@" >"$t/stdout" 2>"$t/stderr"
    status=$?
    said=$(cat "$t/stderr")
}

# holds CONDITION...: the condition must hold for the fault at hand.
holds() {
    "$@" || { broken+=("$*"); }
}
says() { [[ $said == *"$1"* ]]; }
fails() { [ "$status" -ne 0 ] && [ "$status" -ne 101 ]; }
absent() { [ ! -e "$1" ]; }
nothing_unfinished() { [ -z "$(find "$1" -name '.partial-*')" ]; }

begin() { broken=(); }

# row FAULT OUTCOME: one line of the table; the last line that the program said stands in it.
row() {
    local last verdict=holds
    last=$(grep -v '^$' <<<"$said" | tail -1 | sed "s|$t|T|g; s|[^ ]*\.toml|FILE|g; s/|/\\\\|/g; s/\`/'/g" | cut -c1-420)
    if [ ${#broken[@]} -gt 0 ]; then
        verdict="**BROKEN: ${broken[*]}**"
        failed=1
        { echo "--- $1"; cat "$t/stderr"; } >&2
    fi
    echo "| $1 | $status | $2 | \`$last\` | ${verdict//$t/T} |"
}

# Weights, embeddings, histories and tables of a folder, with their digests: all that an interruption must not change.
outcomes() {
    (cd "$1" && find . \( -name '*.safetensors' -o -name '*.csv' \) -print0 | sort -z | xargs -0 sha256sum)
}
same_outcomes() { [ "$(outcomes "$1")" = "$(outcomes "$2")" ]; }

cat <<END
# Faults, and what happens

Made by \`scripts/faults.sh imagewoof2-160.tgz\` on $(date -u +%Y-%m-%d). Each fault is caused for real; *exit* is the program's exit status (137: killed
by -9, 153: by the file size limit), *said* the last line it wrote to stderr (T is a temporary folder), *checked* whether
the outcome stated was found.

| fault | exit | outcome | said | checked |
|---|---|---|---|---|
END

### Archives

cache=$t/cache
begin
head -c 40000000 "$archive" >"$t/half.tgz"
try data fetch --archive "$t/half.tgz" --cache "$cache"
holds fails; holds says "half.tgz: it is damaged"; holds nothing_unfinished "$cache"
holds [ -z "$(ls "$cache")" ]
row "truncated archive" "refused, nothing left behind"

begin
python3 - "$t/climbs.tgz" <<'END'
import io, sys, tarfile
with tarfile.open(sys.argv[1], "w:gz") as archive:
    for name in ["imagewoof2-160/train/a/1.JPEG", "../x"]:
        info = tarfile.TarInfo(name)
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
END
try data fetch --archive "$t/climbs.tgz" --cache "$cache"
holds fails; holds says '`../x` points outside'; holds absent "$t/x"; holds [ -z "$(ls "$cache")" ]
row "archive with \`../x\`" "refused, nothing left behind"

begin
mkdir "$t/unpacked"
tar xzf "$archive" -C "$t/unpacked"
find "$t/unpacked/imagewoof2-160/val/n02115641" -type f | head -7 | xargs rm
tar czf "$t/lacking.tgz" -C "$t/unpacked" imagewoof2-160
try data fetch --archive "$t/lacking.tgz" --cache "$cache"
holds fails; holds says "val/n02115641:"; holds says "where 12954 are listed"; holds [ -z "$(ls "$cache")" ]
row "archive that lacks some images" "refused with counts per class, nothing left behind"
rm -r "$t/unpacked" "$t/lacking.tgz"

begin
try data fetch --archive "$archive" --cache "$cache"
holds [ "$status" = 0 ]; holds grep -q "$(md5sum "$archive" | cut -d' ' -f1)" "$t/stdout"
said=$(head -1 "$t/stdout")
row "archive with another md5 than the published, given by hand" "its md5 is printed and recorded; its list of files decides"

begin
folder=$(echo "$cache"/imagewoof2-160-*)
cut=$folder/train/n02086240/$(ls "$folder/train/n02086240" | head -1)
cp "$cut" "$t/whole.JPEG"
head -c "$(($(stat -c %s "$cut") / 2))" "$t/whole.JPEG" >"$cut"
try benchmark quick --data "$folder" --cache "$cache" --out "$t/out"
holds fails; holds says "${cut#"$t"/}"; holds absent "$t/out"; holds nothing_unfinished "$cache"
row "a JPEG cut in half" "named with its path before any training"
begin
try data verify --cache "$cache"
holds fails; holds says "1 of 12954 images"; holds says "${cut#"$t"/}"
row "the same, \`data verify\`" "all broken images are named"
cp "$t/whole.JPEG" "$cut"

### Downloads

cat >"$t/server.py" <<'END'
# GET /<manner>/imagewoof2-160.tgz: breaks (closes after 20 MB a request), stalls (once, after 10 MB), wrong (another file); else 404.
import http.server, sys, time
body = open(sys.argv[1], "rb").read()
log = open(sys.argv[2], "a", buffering=1)
stalled = False
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass
    def do_GET(self):
        global stalled
        manner = self.path.split("/")[1]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        log.write(f"{manner} {start}\n")
        if manner not in ("breaks", "stalls", "wrong"):
            return self.send_error(404)
        whole = b"not the file" if manner == "wrong" else body
        part = whole[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if manner == "breaks":
            part = part[:20_000_000]
        if manner == "stalls" and not stalled:
            stalled = True
            self.wfile.write(part[:10_000_000])
            return time.sleep(60)
        self.wfile.write(part)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
END
python3 "$t/server.py" "$archive" "$t/requests" >"$t/port" 2>/dev/null &
server=$!
until [ -s "$t/port" ]; do sleep 0.1; done
mirror=http://127.0.0.1:$(cat "$t/port")
requests() { grep -c "^$1 " "$t/requests"; }

# The archive at hand is not the published one, so a whole download must be refused in the end; what counts is the way there.
for manner in breaks stalls; do
    begin
    try data fetch --mirror "$mirror/$manner" --cache "$t/$manner"
    holds fails; holds says "$(md5sum "$archive" | cut -d' ' -f1) instead of 3d200a7be99704a0d7509be2a9fbfe15"
    holds [ "$(requests $manner)" -gt 1 ]; holds [ -z "$(ls "$t/$manner")" ]
    row "download server that $manner (wrong md5 in the end)" "$(requests $manner) requests, each from where the last ended ($(grep "^$manner" "$t/requests" | cut -d' ' -f2 | tr '\n' ' ')bytes); the whole file has the wrong md5 and is removed"
done
begin
try data fetch --mirror "$mirror/nothing" --cache "$t/nothing"
holds fails; holds says "the server answers 404"; holds says "--archive FILE"; holds [ "$(requests nothing)" = 1 ]
row "download server that answers 404" "one request, then address, md5 and remedy"
begin
try data fetch --mirror "$mirror/wrong" --cache "$t/wrong"
holds fails; holds says "instead of 3d200a7be99704a0d7509be2a9fbfe15"; holds [ -z "$(ls "$t/wrong")" ]
row "download server with a wrong file" "refused by its md5 and removed"
begin
try benchmark imagewoof --mirror http://127.0.0.1:9 --cache "$t/none" --out "$t/out"
holds fails; holds says "3d200a7be99704a0d7509be2a9fbfe15"; holds absent "$t/out"
row "no network, experiment \`imagewoof\`" "address, md5 and remedy; no other images stand in"

### Configuration

begin
sed 's/batch_size/batch_sice/; s/"smoke"/"key"/' experiments/smoke.toml >"$t/key.toml"
try benchmark "$t/key.toml" --out "$t/out"
holds fails; holds says 'unknown field `batch_sice`'; holds absent "$t/out"
said=$(grep -m1 'unknown field' <<<"$said")
row "unknown key in TOML" "named with its line"
begin
try benchmark smoke --heads SphereFace --out "$t/out"
holds fails; holds says SphereFace; holds says "SubCenterArcFace"; holds absent "$t/out"
row "unknown head" "the known ones are listed"

### A full disk

begin
(ulimit -f 20000; "$xtask" data fetch --archive "$archive" --cache "$t/limit"; "$xtask" benchmark smoke --cache "$cache" --out "$t/limit") >"$t/stdout" 2>"$t/stderr"
status=$? said="(nothing: the system ends the process)"
holds fails; holds [ -z "$(find "$t/limit" -name '*.safetensors' -not -path '*/.partial-*')" ]
try benchmark smoke --cache "$cache" --out "$t/limit"
holds [ "$status" = 0 ]; holds nothing_unfinished "$t/limit"
status=153
row "file size limit (\`ulimit -f\`) below a checkpoint" "killed; the same command without the limit clears up and goes through"

# On a tmpfs of 100 MiB: the images do not fit beside their decoded form, a checkpoint (128 MiB) does not fit at all.
cat >"$t/full.sh" <<END
mount -t tmpfs -o size=100m tmpfs "$t/small" || exit 99
"$xtask" data fetch --archive "$archive" --cache "$t/small/cache" 2>"$t/full-fetch"
echo \$? >"$t/full-fetch-status"
ls -A "$t/small/cache" >"$t/full-fetch-left"
rm -rf "$t/small/cache"
"$xtask" benchmark smoke --cache "$cache" --out "$t/small" 2>"$t/full-run"
echo \$? >"$t/full-run-status"
find "$t/small" -type f >"$t/full-run-left"
mount -o remount,size=1g "$t/small"
"$xtask" benchmark smoke --cache "$cache" --out "$t/small" >/dev/null 2>"$t/full-again"
echo \$? >"$t/full-again-status"
END
mkdir "$t/small"
unshare --mount --map-root-user bash "$t/full.sh" >"$t/stdout" 2>"$t/stderr"
if [ $? = 99 ]; then
    broken=() status=- said="mount: not permitted"
    row "full disk (tmpfs)" "left out: this machine allows no tmpfs"
else
    begin
    status=$(cat "$t/full-fetch-status") said=$(cat "$t/full-fetch")
    cp "$t/full-fetch" "$t/stderr"
    holds fails; holds says "No space left"; holds says "free some space"; holds [ "$(cat "$t/full-fetch-left")" = .lock ]
    row "full disk while extracting (tmpfs, 100 MiB)" "says so, nothing left behind"
    begin
    status=$(cat "$t/full-run-status") said=$(cat "$t/full-run")
    cp "$t/full-run" "$t/stderr"
    holds fails; holds says "No space left"; holds says "free some space"; holds [ -z "$(grep partial "$t/full-run-left")" ]
    holds [ "$(cat "$t/full-again-status")" = 0 ]
    row "full disk while writing a checkpoint (tmpfs, 100 MiB)" "says so, no partial file; with more space the same command goes through"
fi

### Killed

smoke=(benchmark smoke --cache "$cache" --out)
try "${smoke[@]}" "$t/whole"
[ "$status" = 0 ] || { cat "$t/stderr" >&2; exit 1; }
run=smoke/runs/CosFace-seed0

# kill_when NAME CONDITION: starts the benchmark, kills it with -9 once the condition holds, runs it again, compares.
kill_when() {
    local out=$t/killed-$1 child
    shift
    begin
    "$xtask" "${smoke[@]}" "$out" >/dev/null 2>"$t/killed.log" &
    child=$!
    until (cd "$out" 2>/dev/null && "$@") || ! kill -0 $child 2>/dev/null; do :; done
    kill -9 $child 2>/dev/null || broken+=("it was over before it was killed")
    wait $child 2>/dev/null
    local killed=$?
    left=$(find "$out" -name '.partial-*' | wc -l)
    try "${smoke[@]}" "$out"
    holds [ "$status" = 0 ]; holds nothing_unfinished "$out"; holds same_outcomes "$t/whole" "$out"
    status=$killed
}
in_epoch() { [ -e $run/checkpoint.safetensors ] && sleep 0.15; }
in_checkpoint() { compgen -G "$run/.partial-*" >/dev/null; }
in_report() { compgen -G "smoke/plots/*" >/dev/null; }
for moment in epoch checkpoint report; do
    kill_when $moment in_$moment
    said=$(grep -m1 'goes on' <<<"$said" || grep -m1 'runs to do' <<<"$said")
    row "kill -9 during ${moment/#epoch/an epoch}" "left $left unfinished files, which the next command removed; it went on, and all weights, embeddings and tables are the same bytes as without the kill"
done

### Two at once

begin
"$xtask" "${smoke[@]}" "$t/twice" >/dev/null 2>&1 &
first=$!
until [ -d "$t/twice/smoke/runs" ]; do sleep 0.05; done
try "${smoke[@]}" "$t/twice"
holds [ "$status" = 0 ]
wait $first
holds [ $? = 0 ]; holds same_outcomes "$t/whole" "$t/twice"; holds nothing_unfinished "$t/twice"
row "two benchmarks at once on one folder" "each takes runs that nobody holds; both end well, and together they write what one would"

### Inputs and the machine

cat <<END

## Inputs that people really have, and a machine that misbehaves

Made by \`scripts/cases.py\`: what torchvision's \`ImageFolder\` and Pillow do is right, but that photographs stand upright. *MB* is the most memory
that the program held (a training of the smoke experiment takes about 600; up to 100 it is the script's own). Exit 74 says that the work is done
and its output was cut.

END
"${PYTHON:-python3}" scripts/cases.py --program "$xtask" || failed=1

exit $failed
