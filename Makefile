# Everything works from a fresh clone: each target creates what it needs. PYTHON names the interpreter to start from,
# MACHINES what a VM of the sandbox is: light, or real (Linux, root).
PYTHON ?= python3
MACHINES ?= light
BIN := .venv/bin
# Each run of a workflow loads its modules anew, in the worker as in the tests: not from source each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-gang docs test test-long test-frameworks chaos chaos-real year sandbox check bench service crds \
  image histories clean

demo: .venv/stamp  ## the whole story in three minutes: two trainings outlast their machines
	$(BIN)/python -m sandbox.demo --machines $(MACHINES)

demo-gang: .venv/stamp  ## its sibling: one training on four machines outlasts one of them
	$(BIN)/python -m sandbox.demo --gang

# The executables first: building them takes minutes once, longer than any test may. Then the parts side by side: four
# processes, which wait for a control plane of theirs part of the time (tests/scheduling.py). No Go server spends its time
# on having more than one processor (sandbox/processes.py).
PYTEST = GOMAXPROCS=1 GOGC=400 $(BIN)/python -m pytest --dist loadscope -n 4
test: .venv/stamp  ## all tests but those of test-long, on real parts
	$(BIN)/python -m sandbox build
	$(PYTEST) $(LONG:%=--ignore=%) --ignore=tests/frameworks

# What takes minutes of real time, because it waits for a whole cloud with the product in it, real machines, restarts,
# removals, upgrades.
LONG = tests/e2e tests/install tests/workflows/real_time tests/sandbox/test_leftovers.py
test-long: .venv/stamp  ## the tests that take long: whole clouds, real machines, restarts, upgrades
	$(BIN)/python -m sandbox build --tools
	$(PYTEST) $(LONG)

# Each framework in an environment of its own, which takes no part in the lock of Outlast. FRAMEWORKS="jax torch" also
# installs PyTorch with its CUDA libraries: 5 GB.
FRAMEWORKS ?= jax
test-frameworks: .venv/stamp $(FRAMEWORKS:%=.venv/%/stamp)  ## the samples of several machines with their frameworks
	$(BIN)/python -m pytest tests/frameworks

.venv/%/stamp: tests/frameworks/%.lock .venv/stamp
	$(BIN)/uv venv --quiet --clear .venv/$*
	$(BIN)/uv pip install --quiet --python .venv/$*/bin/python --require-hashes -r $<
	@touch $@

# The pages as a site in dist/site, in an environment of its own. It fails on links and anchors that lead nowhere.
docs: .venv/docs/stamp  ## the documentation as a site in dist/site
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict --quiet

.venv/docs/stamp: docs/requirements.lock release/mermaid.py .venv/stamp
	$(BIN)/uv venv --quiet --clear .venv/docs
	$(BIN)/uv pip install --quiet --python .venv/docs/bin/python --require-hashes -r $<
	.venv/docs/bin/python release/mermaid.py
	@touch $@

# The figures of docs/reliability.md. A failure is printed with its seed: SEED=<that> RUNS=1 plays it again by itself.
SEED ?= 1
RUNS ?= 1000
chaos: .venv/stamp  ## every crash of the demo's story and RUNS random schedules of faults; with a SEED, schedules from it on
	$(BIN)/python -m tests.chaos --seed $(SEED) --runs $(RUNS) $(if $(filter file,$(origin SEED)),,--no-crashes)

year: .venv/stamp  ## a year of one job on virtual time, with outages of hours to weeks
	$(BIN)/python -m tests.chaos.year

sandbox: .venv/stamp  ## a cloud in a box with Outlast installed, until Ctrl-C
	$(BIN)/python -m sandbox up --product --machines $(MACHINES)

check: .venv/stamp  ## what a commit has to pass besides the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m api.crd --check
	$(BIN)/python -m api.vocabulary --check
	$(BIN)/python -m api.reference --check
	$(BIN)/python -m cli.reference --check
	$(BIN)/python -m release.chart --check
	$(BIN)/python -m tests.audit
	$(BIN)/python -m tests.prose

# How many jobs the crowds of make bench have; those of BESIDE are measured while OTHERS VMs join and as many replicas look
# for one, and those of IDLE for ten idle minutes. The large ones take hours on two cores; this takes ten minutes:
# make bench CROWDS="10 30" BESIDE=10 OTHERS=8 IDLE=30
CROWDS ?= 10 100 300 1000 3000
BESIDE ?= 100 1000
OTHERS ?= 300
IDLE ?= 10000
bench: .venv/stamp  ## the numbers of docs/benchmarks.md
	$(BIN)/python -m sandbox build
	$(BIN)/python -m tests.bench.notice
	$(BIN)/python -m tests.bench.crowd $(CROWDS) --write crowd
	$(BIN)/python -m tests.bench.crowd $(BESIDE) --beside $(OTHERS) --without idle singles restart --write crowd-beside
	$(BIN)/python -m tests.bench.crowd $(IDLE) --without singles storm floors --idle 600 --write crowd-idle
	$(BIN)/python -m tests.bench.market
	$(BIN)/python -m tests.bench.real
	$(BIN)/python -m tests.bench.gang

service: .venv/stamp  ## Temporal's server for production, for: python -m tests.bench.crowd 100 --service postgresql
	$(BIN)/python -m sandbox build --temporal-service

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
crds: .venv/stamp  ## generate CRDs, the reference pages and the chart, and the version in deploy/base from pyproject.toml
	$(BIN)/python -m api.crd
	$(BIN)/python -m api.vocabulary
	$(BIN)/python -m api.reference
	$(BIN)/python -m cli.reference
	sed -i 's/^nameSuffix: .*/nameSuffix: -$(VERSION)/' deploy/base/worker/kustomization.yaml
	$(BIN)/python -m release.chart

image: .venv/stamp  ## Outlast's own image as a file in dist/, without a container engine
	DEBIAN_MIRROR=$(DEBIAN_MIRROR) $(BIN)/python -m release.image

histories: .venv/stamp  ## record, before a release, what it does, writes and reads, for tests/replay of the releases after it
	$(BIN)/python -m tests.replay.record

# More of it: ARGS="--runs 12 --servers temporal etcd --outages Temporal".
chaos-real: .venv/stamp  ## the worker's process ended at its calls in real time, again and again; prints what it found
	$(BIN)/python -m tests.chaos.real_time $(ARGS)

clean:  ## remove everything that was made here; the built executables stay in ~/.cache/outlast
	if [ -x $(BIN)/python ] && [ -d .sandbox ]; then $(BIN)/python -m sandbox down; fi
	rm -rf .venv .sandbox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The lock file pins every package by hash. The project itself comes last, without dependencies or an isolated build, so
# that nothing is fetched that the lock file does not name.
.venv/stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
