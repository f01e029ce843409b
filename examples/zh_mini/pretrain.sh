#!/bin/sh
# How zh-mini was pretrained: five runs, each going on from the checkpoint of the one before with other batches.
# KEXUE_DATA/corpora holds laws.txt.xz, classical_modern.tsv.xz, novels.txt.xz and poetry.jsonl.xz.
# usage: pretrain.sh OUTPUT
set -e
data=${KEXUE_DATA:?the folder with the corpora}/corpora
here=$(dirname "$0")
output=${1:?a folder for the runs}

run() {
    kexue pretrain --corpus "laws=$data/laws.txt.xz" --corpus "classical_modern=$data/classical_modern.tsv.xz" \
        --corpus "novels=$data/novels.txt.xz" --corpus "poetry=$data/poetry.jsonl.xz" --vocabulary-size 8000 \
        --objective mlm=0.6,clm=0.2,unilm=0.2 --length 128 --dropout 0 --dtype mixed_bfloat16 "$@"
}

export KERAS_BACKEND=torch # whose bfloat16 products are faster on a CPU
# A rate that falls from 2e-3 at update 200 towards 0 at update 5000; the run ends at update 1600 of them.
run --model "$here/config.json" --learning-rate 2e-3 --schedule 200:1,5000:0 --batch-size 16 --steps 1600 \
    --output "$output/first"
run --model "$output/first" --learning-rate 1.5e-3 --warmup 30 --batch-size 16 --steps 2200 --seed 1 \
    --output "$output/second"
# The same rate for 5600 updates, then a fall to 0. The weights of the second run were rounded to float16 before.
run --model "$output/second" --learning-rate 2e-3 --warmup 200 --schedule wsd --batch-size 32 --steps 7000 --seed 7 \
    --output "$output/third"
# The weights of the third run, rounded to float16 too, were saturated (docs/zh_mini.md): those of the blocks times 0.3.
python "$here/shrink.py" "$output/third" "$output/shrunk" --by 0.3
run --model "$output/shrunk" --learning-rate 1e-3 --warmup 200 --schedule wsd --weight-decay 0.2 --batch-size 32 \
    --steps 5000 --seed 11 --output "$output/fourth"
run --model "$output/fourth" --learning-rate 1e-3 --warmup 200 --schedule wsd --weight-decay 0.2 --batch-size 32 \
    --steps 7000 --seed 13 --output "$output/fifth"
