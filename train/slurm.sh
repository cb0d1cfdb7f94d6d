#!/usr/bin/env bash
# Training on several nodes under Slurm, from the root of the repository:
#   sbatch --nodes 2 --gpus-per-node 4 --time 24:00:00 train/slurm.sh RECIPE DATA RUN [options of crystallm train]
# Before the time limit the run is saved and the job puts itself back into the queue; it goes on where it stopped, also
# after a node has failed. RUN must be on a disk that all nodes share. From the environment:
#   PROFILE             Accelerate's profile, train/accelerate/nodes.yaml or fsdp2.yaml
#   PROCESSES_PER_NODE  by default the GPUs of a node
#   PYTHON              the interpreter of the environment crystallm is installed in
#SBATCH --job-name=crystallm
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "usage: sbatch train/slurm.sh RECIPE DATA RUN [options of crystallm train]" >&2
  exit 2
fi
recipe=$1 data=$2 run=$3
shift 3
export PYTHON=${PYTHON:-python} PROFILE=${PROFILE:-train/accelerate/nodes.yaml}
per_node=${PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
PROCESSES=$((SLURM_NNODES * per_node))
MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
PORT=$((20000 + SLURM_JOB_ID % 20000))
export PROCESSES MAIN PORT

resume=()
if [ -f "$run/recipe.yaml" ]; then resume=(--resume); fi

# The launcher of each node hands SIGTERM on to its processes, which finish their step and save; it gives them 30 seconds.
asked=
stop() {
  asked=$1
  kill -TERM "$step"
}
trap 'stop requeue' USR1
trap 'stop cancel' TERM

# shellcheck disable=SC2016 # SLURM_NODEID is known on each node only
srun --kill-on-bad-exit=0 bash -c 'exec "$PYTHON" -m accelerate.commands.launch --config_file "$PROFILE" \
  --num_machines "$SLURM_NNODES" --num_processes "$PROCESSES" --machine_rank "$SLURM_NODEID" \
  --main_process_ip "$MAIN" --main_process_port "$PORT" -m crystallm train "$@"' \
  crystallm "$recipe" --data "$data" --out "$run" "${resume[@]}" "$@" &
step=$!

code=0
wait "$step" || code=$?
# A trapped signal ends `wait` before the step has ended.
while [ -n "$asked" ] && kill -0 "$step" 2>/dev/null; do
  wait "$step" || code=$?
done
if [ "$asked" = requeue ] && [ "$code" -ne 0 ]; then
  echo "stopped before the time limit, back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
