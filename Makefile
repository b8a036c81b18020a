# zoo is built by Go alone: no cgo, no Python. The README's two commands are `make run` and `make test`.
export CGO_ENABLED = 0

GO          ?= go
STATICCHECK  = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FAMILIES     = $(notdir $(patsubst %/cmd,%,$(wildcard plugins/*/cmd)))
PLATFORMS    = linux/amd64 linux/arm64 linux/386 darwin/arm64 windows/amd64
FUZZRUNS    ?= 1000000

.PHONY: run test build check generate cross race emulated emulated-amx conformance bench fuzz soak clean

run: build ## build everything and classify the example photographs
	bin/zoo predict examples/photos

test: ## run all tests; those that need absent files or programs say so and skip
	$(GO) test ./...
	$(GO) -C examples/ghostnet test ./...

build: bin/zoo $(FAMILIES:%=bin/plugins/zoo-%)

.PHONY: FORCE
bin/zoo: FORCE
	$(GO) build -trimpath -ldflags="-s -w" -o $@ ./cmd/zoo

bin/plugins/zoo-%: FORCE
	$(GO) build -trimpath -ldflags="-s -w" -o $@ ./plugins/$*/cmd/zoo-$*

check: ## formatting, vet, staticcheck, generated files, registry, all platforms
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "gofmt these files: $$bad" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags noasm ./engine/... ./vision/...
	$(STATICCHECK) ./...
	$(GO) -C examples/ghostnet mod tidy -diff
	$(MAKE) --no-print-directory cross
	internal/check/generated.sh

cross: ## compile for every platform
	@set -e; for p in $(PLATFORMS); do echo "build $$p"; GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build ./...; done

generate: ## regenerate assembly, protocol and tables
	$(GO) generate ./...

race: ## the race detector needs a C compiler; it is the only target that does
	@# Without GORACE each of its many processes sleeps a second at its end.
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(GO) test -race -short -timeout=30m ./...

emulated: emulated-amx ## the kernels where qemu-user emulates arm64 and amd64 without AVX-512, and everything that uses AMX where amxemu does: half an hour
	GOARCH=arm64 $(GO) test -short -exec qemu-aarch64-static ./engine/kernel/gemm
	$(GO) test -short -exec 'qemu-x86_64-static -cpu max' -run 'Random|SmallGroups|Winograd' ./engine/kernel/gemm
	$(GO) test -short -timeout=60m -exec $(CURDIR)/bin/amxemu ./engine/infer ./engine/train ./conformance

emulated-amx: ## the AMX kernels, on Linux with AVX-512 BF16 and VBMI
	$(GO) build -o bin/amxemu ./internal/amxemu
	$(GO) test -short -timeout=30m -exec $(CURDIR)/bin/amxemu ./engine/kernel/...

conformance: ## every golden at every precision, as a table, and a batch of every network
	ZOO_CONFORMANCE=all $(GO) test -count=1 -timeout=30m -run "Golden|Batch" -v ./conformance

bench: build ## zoo beside ONNX Runtime, OpenVINO and PyTorch; writes docs/benchmarks.md
	$(GO) run ./bench -rounds 2

fuzz: ## every fuzz target for FUZZRUNS executions
	internal/check/fuzz.sh $(FUZZRUNS)

soak: ## long runs under fault
	ZOO_SOAK=1 $(GO) test -count=1 -timeout=180m -v ./hub ./host ./cmd/zoo ./finetune ./engine/infer

clean:
	rm -rf bin
