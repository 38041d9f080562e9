#!/bin/bash
# Checks the delivery protocol's model (delivery.pml) with Spin: the protocol must hold, and each mutant must be caught.
#   tests/model/run.sh          about two minutes on one free core, up to 1 GB
#   tests/model/run.sh deep     also the large bounds (some ten minutes of CPU time, up to 3 GB)
#   tests/model/run.sh one -DNAME=VALUE …   one variant of your own, with its trail
# README.md says how to read it. Exit status: 0 when all is as expected, 1 when not, 2 when it could not run.
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
model=$here/delivery.pml

for tool in spin gcc; do
    if ! command -v "$tool" >/dev/null; then
        echo "$0: $tool is not installed: apt-get install spin gcc" >&2
        exit 2
    fi
done
temp=$(mktemp -d) || exit 2
trap 'rm -rf "$temp"' EXIT
cd "$temp" || exit 2

passed=0
failed=0

# check FLAGS…: sets found (holds, P1, P2, or why there is no verdict), states, seconds. Leaves the trail in $temp.
check()
{
    local compile=(-DSAFETY) search=() start
    rm -f delivery.pml.trail pan pan.* out
    states=- seconds=-
    if [[ " $* " == *" -DLIVENESS "* ]]; then
        compile=(-DNFAIR=4)
        search=(-a -f)
    fi
    compile+=("$optimize" -w -DNOREDUCE -DCOLLAPSE -DMEMLIM=6000)
    if ! spin "$@" -a "$model" >out 2>&1 || ! gcc "${compile[@]}" -o pan pan.c >>out 2>&1; then
        found="does not compile"
        return
    fi
    start=$(date +%s%N)
    ./pan -E -n -m2000000 "${search[@]}" >out 2>&1
    seconds=$(awk -v ns=$(($(date +%s%N) - start)) 'BEGIN { printf "%.1f", ns / 1e9 }')
    states=$(awk '/states, stored/ { print $1; exit }' out)
    found=$(verdict)
}

# What pan found: the promise that its trail ends with. A bound of the model that is too small, or an unfinished search,
# is no verdict.
verdict()
{
    if grep -q 'pan:.*assertion violated' out; then
        trail | sed -n '$s/^BROKEN \(P[12]\):.*/\1/p' | grep . || echo assertion
    elif grep -q 'acceptance cycle' out; then
        echo P1
    elif grep -q 'errors: 0' out && ! grep -qiE 'not completed|out of memory|depth too small|max search depth' out; then
        echo holds
    else
        echo "not finished"
    fi
}

trail()
{
    [ -s delivery.pml.trail ] && ./pan -S -r delivery.pml.trail 2>&1 | sed -e '/^BROKEN/q' -e '/^pan:/q'
}

# variant EXPECTED NAME FLAGS…
variant()
{
    local expected=$1 name=$2 result=ok
    shift 2
    optimize=-O1
    [ "$expected" = holds ] || optimize=-O0 # a mutant's search is short: the compiler is the long part
    check "$@"
    if [ "$found" = "$expected" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        result=WRONG
    fi
    printf '%-58s %-8s %-8s %10s %7s  %s\n' "$name" "$expected" "$found" "$states" "$seconds" "$result"
    if [ "$result" = WRONG ]; then
        printf '    flags: %s\n' "$*"
        case $found in
        holds) ;;
        P1 | P2 | assertion) trail ;;
        *) tail -20 out ;;
        esac
    fi
}

protocol()
{
    variant holds "two workers, two crashes, a zombie" -DCRASHES=2
    variant holds "three workers, two lapses" -DWORKERS=3 -DSUBMISSIONS=1 -DLAPSES=2
    variant holds "batches of two under one token, a zombie" -DBATCH=2 -DCRASHES=0
    variant holds "batches of two under one token, a crash" -DBATCH=2 -DLAPSES=0
    variant holds "an answer of store or Redis is lost" -DLOST_ANSWERS=1
    variant holds "replay, the operator may die between its halves" -DREPLAYS=1 -DRECONCILER=1 -DSUBMISSIONS=1
    variant holds "Redis comes back empty, a crash" -DREDIS_LOSSES=1 -DRECONCILER=1 -DLAPSES=0
    variant holds "Redis comes back empty, a zombie" -DREDIS_LOSSES=1 -DRECONCILER=1 -DSUBMISSIONS=1 -DCRASHES=0
    variant holds "the consumer group is lost" -DGROUP_LOSSES=1 -DSUBMISSIONS=1
    variant holds "the reconciler re-queues without need" -DRECONCILER=1 -DSUPERFLUOUS=1 -DSUBMISSIONS=1
    variant holds "it comes to an end (liveness)" -DLIVENESS -DSUBMISSIONS=1
}

protocol_deep()
{
    variant holds "three workers, two crashes, two lapses" -DWORKERS=3 -DSUBMISSIONS=1 -DCRASHES=2 -DLAPSES=2
    variant holds "two crashes, two lapses" -DCRASHES=2 -DLAPSES=2
    variant holds "three workers, two submissions" -DWORKERS=3
    variant holds "batches of two, a crash and a zombie" -DBATCH=2
    variant holds "Redis comes back empty, a crash and a zombie" -DREDIS_LOSSES=1 -DRECONCILER=1 -DSUBMISSIONS=1
    variant holds "the consumer group is lost, two submissions" -DGROUP_LOSSES=1
    variant holds "it comes to an end (liveness), two submissions" -DLIVENESS
    variant holds "… though Redis comes back empty (liveness)" -DLIVENESS -DREDIS_LOSSES=1 -DRECONCILER=1 -DSUBMISSIONS=1 -DLAPSES=0
}

# Rules that P1 and P2 do not need: they save work, and this shows that nothing rests on them.
harmless()
{
    variant holds "not needed: signs of life only for one's own entries" -DKEEP_CHECKS_OWNER=0
    variant holds "not needed: settling only what exists" -DSETTLE_CHECKS_ENTRY=0
    variant holds "allowed: settling only what is in one's own pending list" -DSETTLE_CHECKS_OWNER=1
}

mutants()
{
    variant P2 "4c without the token in its filter" -DCOMMIT_CHECKS_TOKEN=0
    variant P2 "4a without the token in its filter" -DDECIDE_CHECKS_TOKEN=0
    variant P1 "settled before the commit (queue first)" -DSTORE_FIRST=0
    variant P2 "effects applied before the decision is stored" -DDECISION_FIRST=0
    variant P2 "effects applied without the applied guard" -DEFFECTS_GUARDED=0
    variant P1 "an owner whose token is gone settles" -DLOST_SETTLES_NOTHING=0
    variant P1 "take-over without the old token in its filter" -DTAKEOVER_CHECKS_TOKEN=0
    variant P2 "take-over overlooks a decision stored since the read" -DTAKEOVER_CHECKS_DECISION=0
    variant P2 "our token is enough: two entries of a batch are both ours" -DOWN_TOKEN_CHECKS_ENTRY=0 -DBATCH=2
    variant P1 "the mark does not tell 4a from 4c" -DMARK_NAMES_STEP=0
    variant P2 "poison wins over a stored decision" -DDECISION_BEATS_POISON=0 -DCRASHES=2
    variant P2 "publishes not left in the document by 4c" -DPUBLISHES_KEPT=0
    variant P2 "publishes guarded by the entry, not by a marker" -DPUBLISHES_MARKED=0 -DRECONCILER=1 -DSUPERFLUOUS=1 -DSUBMISSIONS=1
    variant P2 "a dead letter does not name the attempt that killed" -DLETTER_NAMES_ATTEMPT=0 -DREPLAYS=1 -DSUBMISSIONS=1
    variant P1 "replay queues first" -DREPLAY_STORE_FIRST=0 -DREPLAYS=1 -DSUBMISSIONS=1
    variant P1 "Redis comes back empty and there is no reconciler" -DREDIS_LOSSES=1 -DSUBMISSIONS=1
    variant P1 "a claim bears an epoch newer than its entry's" -DEPOCH_OF_TAKE=0 -DREDIS_LOSSES=1 -DRECONCILER=1 -DSUBMISSIONS=1
    variant P1 "claims never grow old (liveness)" -DCLAIMS_AGE=0 -DLIVENESS -DREDIS_LOSSES=1 -DRECONCILER=1 -DSUBMISSIONS=1 -DLAPSES=0
}

case ${1:-} in
'' | deep) ;;
one)
    shift
    optimize=-O2
    check "$@"
    echo "$found, $states states, $seconds s"
    trail
    [ "$found" = holds ]
    exit
    ;;
*)
    echo "usage: $0 [deep | one -DNAME=VALUE …]" >&2
    exit 2
    ;;
esac

printf '%-58s %-8s %-8s %10s %7s\n' variant expected found states seconds
protocol
[ "${1:-}" = deep ] && protocol_deep
harmless
mutants
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
