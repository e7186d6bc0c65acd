# Everything a newcomer and a reviewer run. Go and a shell are all it needs; see `make help`.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
PORTION ?= ./...

.PHONY: help build run test unit hot lint race fuzz sim mutants prove explore cross trial bench bench-peers bench-fs bench-full check clean

help:
	@echo 'make run      a local cluster of three servers and two spares, and a prompt'
	@echo 'make test     everything that must pass before a change lands'
	@echo 'make build    bin/balsa'
	@echo 'make lint race hot fuzz sim mutants trial bench bench-peers bench-fs bench-full check'
	@echo 'make sim SEEDS=1000 FIRST=1 [VERBOSE=1] [MUTANT=N]'

build:
	@mkdir -p bin
	@$(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/balsa ./cmd/balsa

run: build
	@bin/balsa up

# The parts are timed, so that whoever closes a change can say where the ten minutes go.
test: build
	@.ci/timed lint    $(MAKE) --no-print-directory lint
	@.ci/timed tests   $(MAKE) --no-print-directory unit
	@.ci/timed hot     .ci/hot >/dev/null
	@.ci/timed mutants $(GO) run ./node/sim/mutants -check
	@.ci/timed sim     $(MAKE) --no-print-directory sim SEEDS=$(TEST_SEEDS)

TEST_SEEDS ?= 200

unit:
	@$(GO) test $(PORTION)

# The checkers of go vet and staticcheck; the version stands here, so that a finding is the change's own.
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	@$(GO) vet ./...
	@$(MAKE) --no-print-directory cross
	@GOFLAGS=-mod=mod $(GO) run $(STATICCHECK) ./...

# What other systems and processors would compile: everything, and the tests of the portable sockets, which run here, too.
cross:
	@GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	@GOOS=darwin GOARCH=arm64 $(GO) test -c -o /dev/null ./wire/udp
	@GOOS=linux GOARCH=arm64 $(GO) vet ./wire/... ./node
	@$(GO) test -tags portable ./wire/udp

# Each stage of a put and of a get: fails when one allocates. HOTTIME=1s for figures.
hot:
	@.ci/hot

race:
	@$(GO) test -race $(PORTION)

# Each fuzz target for a while; what one finds is kept under testdata/fuzz and is a test from then on.
FUZZTIME ?= 20s
fuzz:
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package || exit 1; \
		done; \
	done

SEEDS ?= 300
FIRST ?= 1
ifdef MUTANT
sim:
	@$(GO) run ./node/sim/mutants -only $(MUTANT) -sim -seeds $(SEEDS) -first $(FIRST)
else
sim:
	@$(GO) run ./node/sim/simulate -seeds $(SEEDS) -first $(FIRST) $(if $(VERBOSE),-verbose)
endif

mutants:
	@$(GO) run ./node/sim/mutants

# Every small run of the Raft core, deeper than the tests go.
explore:
	@$(GO) test -run 'TestExplore$$' -count=1 -v -timeout 2h -explore.depth 60 -explore.states 3000000 ./node/raft

# The same seeds give the same hashes: fifty of them twice, and again with the race detector on one processor.
prove:
	@$(GO) test ./node/sim -run TestSame -proof -timeout 1800s

# The membership of a cluster of processes changes under load, with leaders killed and without, for so many rounds.
ROUNDS ?= 25
trial:
	@$(GO) test ./cmd/balsa -run TestMembershipChanges -count=1 -v -timeout 2h -trial.rounds $(ROUNDS)

BENCH_OUT ?= out/bench
bench: build
	@bin/balsa bench commit --local 3 --out $(BENCH_OUT)/commit
	@bin/balsa bench read --local 3 --out $(BENCH_OUT)/read
	@bin/balsa bench election --trials 100 --out $(BENCH_OUT)/election
	@bin/balsa bench wal --out $(BENCH_OUT)/wal

# Other systems under the same harness, in the same run. A module of its own: no part of the tests, and its modules are
# fetched when it is built.
PEERS_OUT ?= out/peers
bench-peers: build bin/bench-peers
	@mkdir -p $(PEERS_OUT)
	@bin/bench-peers log --out $(PEERS_OUT)/log
	@bin/bench-peers cluster --balsa bin/balsa --out $(PEERS_OUT)/cluster.json

# The log on an ext4 with a journal and on XFS, mounted by loop; needs root, and says so where it is not there.
bench-fs: build
	@bench/fs.sh

# A file system of 20 MiB under three servers, filled to the brim and emptied again; needs root.
bench-full: build
	@bench/full.sh

.PHONY: bin/bench-peers
bin/bench-peers:
	@mkdir -p bin
	@cd bench/peers && $(GO) build -trimpath -buildvcs=false -o ../../bin/bench-peers .

check: test race

clean:
	@rm -rf bin
