#!/bin/sh
# usage: fuzz.sh RUNS [PACKAGE]...   runs every fuzz target of the packages (all by default) RUNS times, one after another
# Little of that goes into making interesting inputs smaller, for which Go takes a minute each where inputs are large.
set -eu
runs=$1
shift
[ $# -gt 0 ] || set -- ./...
for pkg in $(go list "$@"); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "$pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${runs}x" -fuzzminimizetime 100x "$pkg"
	done
done
