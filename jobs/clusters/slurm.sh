#!/usr/bin/env bash
# Slurm: one grid on nodes of its own, which end with it. Not a job of lotus-ray:
# `sbatch jobs/clusters/slurm.sh`, from the top of the repository. The same again resumes the grid.
#
# Once, on a disk that all nodes mount:
#        python3 -m venv "$HOME/lotus-ray" && "$HOME/lotus-ray/bin/pip" install .
#        ray get-auth-token --generate
#        lotus-ray prepare imagenet "$HOME/data/imagenet" --root FOLDER
#
# Other values: sbatch --nodes=4 --export=ALL,JOB=…,STORE=… jobs/clusters/slurm.sh
# `ray symmetric-run` ends every Ray of this user on its nodes: hence --exclusive.
#SBATCH --job-name=lotus-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --mem=180G
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail

job=${JOB:-jobs/imagenet.yaml}
data=${DATA:-$HOME/data/imagenet}
store=${STORE:-$HOME/lotus-ray-results/imagenet}
scratch=${SCRATCH:-${SLURM_TMPDIR:-/tmp}}  # local to a node, best on NVMe
object_store_gib=16
decoded_gib=48
spare_gib=1
export PATH=${VENV:-$HOME/lotus-ray}/bin:$PATH
export RAY_AUTH_MODE=token RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600

# A full /dev/shm kills Ray's processes.
need=$((object_store_gib + decoded_gib + spare_gib))
# shellcheck disable=SC2016  # each node expands it
srun --ntasks-per-node=1 bash -c '
  free=$(df --output=avail --block-size=1G /dev/shm | tail -n 1)
  ((free >= $0)) || { echo "$(hostname): /dev/shm has ${free// /} GiB free, not $0" >&2; exit 1; }
' "$need"

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --all-ip-addresses)
address=${address%% *}:6379
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_ON_NODE" \
  --object-store-memory "$((object_store_gib << 30))" \
  --object-spilling-directory "$scratch" --disable-usage-stats -- \
  env RAY_ADDRESS="$address" lotus-ray grid "$job" --store "$store" \
  --set dataset.manifest="$data" --set resources.gpus_per_worker=1 \
  --set resources.decoded_memory_gb="$decoded_gib" --set resources.scratch="$scratch"
