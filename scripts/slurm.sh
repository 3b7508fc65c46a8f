#!/usr/bin/env bash
# A real Slurm on this machine alone (munged, slurmctld and one slurmd, without systemd and without accounting), and on it an experiment as
# `cluster slurm` writes it: an array of runs, of which one is killed with -9 and requeued by hand, one gets the signal that comes before a
# time limit, and one fails; then the report. The outcome must be the same bytes as those of one process. Two minutes, no network.
#
#   scripts/slurm.sh [PROGRAM]        default target/release/xtask
#
# Needs Debian's or Ubuntu's slurm-wlm and munge; without them it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in munged mungekey slurmctld slurmd sbatch; do
    if ! PATH=$PATH:/usr/sbin command -v $tool >/dev/null; then
        echo "skipped: there is no $tool (apt-get install slurm-wlm munge)"
        exit 0
    fi
done
PATH=$PATH:/usr/sbin
program=$(realpath "${1:-target/release/xtask}")
t=$(mktemp -d "${TMPDIR:-/tmp}/faceoff-slurm.XXXXXX")
# munge wants nobody else to write on the way to its socket.
chmod 755 "$t"
daemons=()
cleanup() {
    status=$?
    trap - EXIT
    scancel --quiet --user="$(id -un)" 2>/dev/null || true
    sleep 1
    for ((at = ${#daemons[@]} - 1; at >= 0; at--)); do
        kill "${daemons[at]}" 2>/dev/null || true
        wait "${daemons[at]}" 2>/dev/null || true
    done
    if [ "$status" != 0 ]; then
        echo "--- failed; the last lines of all logs:"
        tail -n 25 "$t"/*.log "$t"/out/*/logs/*.log 2>/dev/null || true
    fi
    rm -rf "$t"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
# until_holds SECONDS WHAT COMMAND...
until_holds() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "no $what in time" >&2; return 1; }
        sleep 0.2
    done
}

### The cluster

mungekey --create --keyfile="$t/munge.key" --bits=1024
munged --foreground --force --key-file="$t/munge.key" --socket="$t/munge.socket" --pid-file="$t/munged.pid" \
    --seed-file="$t/munge.seed" --log-file="$t/munged.log" --num-threads=1 >"$t/munged.out.log" 2>&1 &
daemons+=($!)
host=$(hostname -s)
user=$(id -un)
# Two ports that nobody has.
read -r ctld_port slurmd_port < <(python3 - <<'END'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in held))
END
)
mkdir "$t/state" "$t/spool"
cat >"$t/slurm.conf" <<END
ClusterName=faceoff
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$t/munge.socket
CredType=cred/munge
StateSaveLocation=$t/state
SlurmdSpoolDir=$t/spool
SlurmctldPidFile=$t/slurmctld.pid
SlurmdPidFile=$t/slurmd.pid
SlurmctldLogFile=$t/slurmctld.log
SlurmdLogFile=$t/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=200000,sched_interval=1,batch_sched_delay=0
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
echo "CgroupPlugin=cgroup/v1" >"$t/cgroup.conf"
export SLURM_CONF=$t/slurm.conf
until_holds 10 "munge" munge --no-input --socket="$t/munge.socket"
slurmctld -D -i >"$t/slurmctld.out.log" 2>&1 &
daemons+=($!)
slurmd -D -N "$host" >"$t/slurmd.out.log" 2>&1 &
daemons+=($!)
is_idle() { [ "$(sinfo --noheader --format=%t)" = idle ]; }
until_holds 30 "idle node" is_idle
say "$(sinfo --version) is up: $(sinfo --noheader --format='%D node, %c processors, %T')"

### The experiment: the smoke benchmark, each run a few seconds long, and a head that cannot be trained

"$program" experiment show smoke 2>/dev/null | sed 's/^name = "smoke"/name = "array"/; s/^epochs = .*/epochs = 5/' >"$t/array.toml"
cat >>"$t/array.toml" <<END

[[heads]]
kind = "Classification"
name = "Hopeless"
peak_learning_rate = 1e30
END
"$program" cluster slurm "$t/array.toml" --out "$t/out" --cpus 1 --mem 1000M --time 10 --max-parallel 2 --submit -- --cache "$t/cache" --device cpu >"$t/submitted"
grep -v '^experiment:' "$t/submitted" | sed "s|$t|T|g"
array=$(sed -n 's/.*runs \([0-9]*\)_.*/\1/p' "$t/submitted")
report=$(sed -n 's/.*report \([0-9]*\);.*/\1/p' "$t/submitted")
runs=$t/out/array/runs

# task_of RUN: the index of the array's task that trains it; the runs stand in the experiment's order.
names=(Classification ArcMarginProduct CosFace ArcFace AdaCos SubCenterArcFace CurricularFace Hopeless)
has_checkpoint() { [ -e "$runs/$1-seed0/checkpoint.safetensors" ]; }
log_of() { echo "$t/out/array/logs/runs-${array}_$1.log"; }
state_of() { squeue --noheader --array --states=all --job="${array}_$1" --format=%T; }
has_state() { [ "$(state_of "$1")" = "$2" ]; }
# A requeued task is held back for two minutes, which is Slurm's rule: not here, where each is let go once.
at_once() {
    [ -e "$t/hurried-$1" ] || [ "$(squeue --noheader --array --job="${array}_$1" --format=%r)" != BeginTime ] || {
        scontrol update jobid="${array}_$1" starttime=now
        touch "$t/hurried-$1"
    }
}
restarted() { at_once 0; at_once 1; grep -q 'goes on after epoch' "$(log_of "$1")"; }

until_holds 300 "checkpoint of ${names[0]}" has_checkpoint "${names[0]}"
pid=$(sed -n 's/^process \([0-9]*\) on .*/\1/p' "$t/out/array/.locks/${names[0]}-seed0.lock")
kill -9 "$pid"
until_holds 30 "failed task" has_state 0 FAILED
say "task 0 (${names[0]}): kill -9 of process $pid; Slurm says $(state_of 0), exit code $(scontrol show job "${array}_0" | sed -n 's/.*ExitCode=\([0-9:]*\).*/\1/p')"
scontrol requeue "${array}_0"
say "task 0: scontrol requeue"

until_holds 300 "checkpoint of ${names[1]}" has_checkpoint "${names[1]}"
# scancel goes on trying where the task has gone back into the queue by then.
timeout 3 scancel --batch --signal=TERM "${array}_1" 2>/dev/null || true
until_holds 300 "requeued task" grep -q "back into the queue" "$(log_of 1)"
say "task 1 (${names[1]}): TERM, as before a time limit; $(grep -o 'stopping after this step.*' "$(log_of 1)" | head -1)"
until_holds 300 "second turn of task 1" restarted 1
say "task 1: $(grep -o 'goes on after epoch.*' "$(log_of 1)" | head -1), in its second turn"
until_holds 300 "second turn of task 0" restarted 0
say "task 0: $(grep -o 'goes on after epoch.*' "$(log_of 0)" | head -1), in its second turn"

report_ended() { squeue --noheader --states=all --job="$report" --format=%T | grep -qE 'COMPLETED|FAILED|CANCELLED'; }
until_holds 300 "report" report_ended
squeue --array --states=all --sort=i --format='%.8i %.14j %.10T %.20r' | sed 's/^/    /'
[ "$(squeue --noheader --states=all --job="$report" --format=%T)" = COMPLETED ]
has_state 7 FAILED
grep '^note:.*Hopeless' "$t/out/array/logs/report-$report.log" | sed 's/^/    /'
for at in 0 1 2 3 4 5 6; do has_state $at COMPLETED; done

### The same by one process

status=0
"$program" benchmark "$t/array.toml" --out "$t/alone" --cache "$t/cache" --device cpu --threads 2 >"$t/alone.log" 2>&1 || status=$?
[ "$status" = 1 ] # one run fails
cd "$t"
outcomes() { (cd "$1/array" && find . \( -name '*.csv' -o -name '*.safetensors' \) -print0 | sort -z | xargs -0 sha256sum); }
diff <(outcomes out) <(outcomes alone)
cmp out/array/metrics.csv alone/array/metrics.csv
say "the same bytes as one process: metrics.csv ($(sha256sum <out/array/metrics.csv | cut -c1-12)), $(outcomes out | wc -l) files in all"
