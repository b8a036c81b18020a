#!/bin/sh
# usage: fuzz.sh RUNS [PACKAGE]...   runs every fuzz target of the packages (all by default) RUNS times, one after another
set -eu
runs=$1
shift
[ $# -gt 0 ] || set -- ./...
for pkg in $(go list "$@"); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "$pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${runs}x" "$pkg"
	done
done
