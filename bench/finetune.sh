#!/bin/sh
# Compares `zoo finetune` with PyTorch's transfer-learning recipe, in turns, and prints a JSON line for each run.
#
#   finetune.sh ZOO SQUEEZENET.safetensors HYMENOPTERA [EPOCHS [SEEDS [MODES]]]
set -e
zoo=$1 weights=$2 data=$3 epochs=${4:-10} seeds=${5:-"1 2 3"} modes=${6:-"frozen full cached"}
here=$(dirname "$0")
ZOO_HOME=$(mktemp -d)
export ZOO_HOME
trap 'rm -rf "$ZOO_HOME"' EXIT
third=0.00392156862745098
"$zoo" import "$weights" --as base --model squeezenet1_1 --resize 256 --crop 227 \
  --mean 0.48235294,0.45882353,0.40784314 --std $third,$third,$third >/dev/null
run() { # MODE SEED FLAGS...
  mode=$1 seed=$2
  shift 2
  began=$(date +%s.%N)
  "$zoo" finetune base --data "$data" --epochs "$epochs" --seed "$seed" --out "$mode-$seed" -o json "$@" 2>/dev/null |
    python3 -c 'import json, sys, time
r = json.load(sys.stdin)
print(json.dumps({"zoo": sys.argv[1], "seed": int(sys.argv[2]), "last": round(r["last"]["top1"], 2), "best": round(r["metrics"]["top1"], 2),
                  "images_per_s": round(r["images_per_s"], 1), "seconds": round(time.time() - float(sys.argv[3]), 1)}))' "$mode" "$seed" "$began"
}
for seed in $seeds; do
  for mode in $modes; do
    case $mode in
    frozen) run frozen "$seed" --freeze features ;;
    full) run full "$seed" --strategy finetune ;;
    cached) run cached "$seed" --freeze features --cache-features; continue ;;
    esac
    /usr/bin/python3 "$here/finetune_peer.py" "$weights" "$data" "$mode" --seed "$seed" --epochs "$epochs" | tail -1
  done
done
