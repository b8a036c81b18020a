#!/bin/sh
# Fails when `go generate` would change a file: generated code must be what its generator writes.
set -eu
cd "$(git rev-parse --show-toplevel)"
before=$(git status --porcelain; git diff | cksum)
go generate ./...
after=$(git status --porcelain; git diff | cksum)
if [ "$before" != "$after" ]; then
	echo "go generate changes these files; commit what it writes:" >&2
	git status --porcelain >&2
	exit 1
fi
