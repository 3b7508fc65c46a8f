#!/usr/bin/env bash
# {{ name }} on Slurm: {{ runs }} runs in an array of {{ tasks }} tasks. Written by:
#   {{ command }}
# Submit with:
#   bash {{ file }}
#
# Three jobs: the images, then the runs, then the report, which is made whatever became of the runs and names what failed. Submit again to
# go on with what is missing. One task alone: sbatch OPTIONS --array=3 {{ file }} runs
set -euo pipefail
script={{ file }}
logs={{ logs }}
faceoff=({{ program }})
benchmark=({{ benchmark }})
# A task that is stopped before its end is put back so often.
most_restarts=20

submit() {
    mkdir -p "$logs"
    local common=(--parsable {{ common }})
    local cpus=(--cpus-per-task={{ cpus }} --mem={{ mem }})
    local images runs report
    images=$(sbatch "${common[@]}" "${cpus[@]}" --job-name={{ job }}-images --output="$logs/images-%j.log" "$script" images)
    # TERM comes two minutes before the time is up, to this script alone (B:).
    runs=$(sbatch "${common[@]}" "${cpus[@]}" {{ run_options }} --job-name={{ job }} --array=0-{{ tasks - 1 }}{% if let Some(most) = max_parallel %}%{{ most }}{% endif %} \
        --dependency="afterok:${images%%;*}" --kill-on-invalid-dep=yes --requeue --open-mode=append --signal=B:TERM@120 \
        --output="$logs/runs-%A_%a.log" "$script" runs)
    report=$(sbatch "${common[@]}" "${cpus[@]}" --job-name={{ job }}-report --dependency="afterany:${runs%%;*}" \
        --output="$logs/report-%j.log" "$script" report)
    echo "submitted: images ${images%%;*}, runs ${runs%%;*}_[0-{{ tasks - 1 }}], report ${report%%;*}; what they say stands in $logs"
}

images() {
    exec "${faceoff[@]}" "${benchmark[@]}" --prepare
}

runs() {
    local child status=0 stopped=
    "${faceoff[@]}" "${benchmark[@]}" --shard "$SLURM_ARRAY_TASK_ID/{{ tasks }}" &
    child=$!
    trap 'stopped=yes; kill -TERM "$child" || true' TERM
    wait "$child" || status=$?
    # A signal ends the waiting, not the program, which keeps its last epoch and ends with 75.
    if [ -n "$stopped" ] && [ "$status" = 143 ]; then
        status=0
        wait "$child" || status=$?
    fi
    if [ "$status" = 75 ] || { [ -n "$stopped" ] && [ "$status" -gt 1 ]; }; then
        if [ "${SLURM_RESTART_COUNT:-0}" -lt "$most_restarts" ]; then
            echo "stopped before its end; back into the queue"
            scontrol requeue "$SLURM_JOB_ID"
        else
            echo "stopped $most_restarts times: allow more time than an epoch takes" >&2
        fi
    fi
    exit "$status"
}

report() {
    exec "${faceoff[@]}" "${benchmark[@]}" --report
}

case "${1:-submit}" in
    submit | images | runs | report) "${1:-submit}" ;;
    *) echo "usage: bash $script [submit]" >&2; exit 2 ;;
esac
