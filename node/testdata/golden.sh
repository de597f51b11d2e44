#!/bin/bash
# golden.sh IPFS: writes golden.txt, the root CIDs that Kubo (0.43.0, the binary IPFS) gives to the
# inputs of node/src/dag/import/tests.rs. Flags: b = --chunker=buzhash, s = --chunker=size-100000,
# h = --hidden, m = --preserve-mode, t = --preserve-mtime.
set -eu
ipfs=$1
here=$(cd "$(dirname "$0")" && pwd)
inputs=${TMPDIR:-/tmp}/duka-golden
(cd "$here" && cargo test -q -p duka-node --lib -- --ignored write_golden_inputs >/dev/null)

add() { # PROFILE FLAGS INPUT
    local args=(add -Q -r)
    # With a mode or mtime, --only-hash loses the children of the root, and the v1 profile has to be
    # told that raw leaves are off.
    [[ $2 == *[mt]* ]] && args+=(--pin=false --raw-leaves=false) || args+=(-n)
    [[ $2 == *b* ]] && args+=(--chunker=buzhash)
    [[ $2 == *s* ]] && args+=(--chunker=size-100000)
    [[ $2 == *h* ]] && args+=(--hidden)
    [[ $2 == *m* ]] && args+=(--preserve-mode)
    [[ $2 == *t* ]] && args+=(--preserve-mtime)
    echo "$1 $2 $3 $("$ipfs" "${args[@]}" "$inputs/$3")"
}

{
    echo "# made by golden.sh with $("$ipfs" version)"
    for profile in unixfs-v1-2025 unixfs-v0-2015; do
        IPFS_PATH=$(mktemp -d)
        export IPFS_PATH
        "$ipfs" init --empty-repo --profile=test >&2
        "$ipfs" config profile apply "$profile" >&2
        for path in "$inputs"/*; do
            input=$(basename "$path")
            add $profile - "$input"
            case $input in
            mixed) for flags in h m t hm hmt; do add $profile $flags "$input"; done ;;
            many) add $profile m "$input"; add $profile mt "$input" ;;
            size-*) add $profile m "$input"; add $profile mt "$input" ;;
            buz-*) add $profile b "$input"; add $profile s "$input" ;;
            v?-mode-*) add $profile m "$input" ;;
            esac
        done
        rm -rf "$IPFS_PATH"
    done
} >"$here/golden.new"
mv "$here/golden.new" "$here/golden.txt"
rm -rf "$inputs"
