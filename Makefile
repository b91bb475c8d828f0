# First run: `make demo`, then `make test`. `make help` lists the rest.
#
# Works from a bare environment (env -i) with Python >= 3.11, its venv module and make; the first
# run downloads pinned wheels into .venv, every later run works offline.

SHELL := /bin/sh
ifeq ($(strip $(PATH)),)
export PATH := /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
endif
# An empty HOME would make "~" mean "/": without one, programs ask the password database.
ifeq ($(strip $(HOME)),)
unexport HOME
endif
unexport PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
PY := $(VENV)/bin/python
VECTORS := $(if $(ATTESTED_VECTORS),$(ATTESTED_VECTORS),../shared/vectors)
FUZZ_RUNS ?= 20000
MUTANTS ?= 120
RECEIPTS ?= 100000
SEED ?= 1
CYCLES ?= 50
RUNS ?= 20000
MINUTES ?= 30
STATES ?= 100000
SHOTS ?= 0
ARGS ?=
PROFILE ?= cpu
IMAGE_INPUTS = $(if $(ENGINE),--engine $(ENGINE)) $(if $(MODEL),--model $(MODEL)) \
	$(if $(CONFIG),--config $(CONFIG)) $(if $(KEYS),--keys $(KEYS))

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format types layering coverage fuzz tamper mutants check-mutants bench bench-verify bench-edge \
	crash crash-power crash-strace fuzz-edge soak \
	conformance \
	image image-lock image-check image-scan image-boot image-injections image-packs \
	test-vllm check lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

setup: ## make .venv with every pinned requirement (offline once done)
	@tools/setup.sh

demo: setup ## run the whole story: gateway, engine, receipts, verifier, tampering
	@$(VENV)/bin/attested demo $(ARGS)

test: setup ## run every test but those that need a real vLLM
	@$(PY) -m pytest -m "not vllm" $(ARGS)

lint: setup ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: setup ## let ruff put imports and layout in order
	@$(PY) -m ruff check --fix-only --select I .
	@$(PY) -m ruff format .

types: setup ## mypy --strict
	@$(PY) -m mypy --strict

layering: setup ## import-linter: who may import whom
	@$(VENV)/bin/lint-imports

coverage: setup ## 100 % branch coverage of attestation/, without the vectors
	@tools/coverage.sh

fuzz: setup ## fuzz every parser with FUZZ_RUNS inputs (coverage-guided where atheris has wheels)
	@tools/setup.sh fuzz
	@$(PY) tools/fuzz.py --target all --runs $(FUZZ_RUNS) --seed $(SEED) $(ARGS)

tamper: setup ## change an audit folder in every way; none may be accepted (an hour; ARGS=DIR)
	@$(PY) tools/tamper.py $(ARGS)

mutants: setup ## kill a sample of MUTANTS mutants of attestation/ (SEED)
	@$(PY) tools/mutate.py --sample $(MUTANTS) --seed $(SEED) $(ARGS)

check-mutants: setup ## take each check of the verifier away; a test has to notice every time (20 min)
	@$(PY) tools/check_mutants.py $(ARGS)

bench: setup ## measure the notary on this machine: receipts a second, a long boot (minutes)
	@$(PY) -m benchmarks.sealing
	@$(PY) -m benchmarks.receipts $(ARGS)
	@$(PY) -m benchmarks.million --receipts $(RECEIPTS)

bench-verify: setup ## measure the verifier: receipts and quotes a second, memory of a long run
	@$(PY) -m benchmarks.verifying --long $(RECEIPTS) $(ARGS)

bench-edge: setup ## measure the edge beside nginx, vllm-router and others (ARGS=--quick, --profile)
	@$(PY) -m benchmarks.edge --prepare $(ARGS)

crash: setup ## kill the gateway under load CYCLES times and audit what is left (SEED, else fresh)
	@$(PY) tools/crash.py --cycles $(CYCLES) $(if $(filter file,$(origin SEED)),,--seed $(SEED)) $(ARGS)

crash-power: setup ## let the power go in STATES ways over recorded lives of a notary (SEED)
	@$(PY) tools/power.py --states $(STATES) --seed $(SEED) $(ARGS)

crash-strace: setup ## fail or kill a notary at its system calls (SHOTS at random; 0: at every one)
	@$(PY) tools/crash_strace.py --sample $(SHOTS) --seed $(SEED) $(ARGS)

fuzz-edge: setup ## send RUNS requests with changed bytes to a served gateway (SEED)
	@$(PY) tools/fuzz_edge.py --runs $(RUNS) --seed $(SEED) $(ARGS)

soak: setup ## load a served gateway for MINUTES; memory and descriptors must stay flat
	@$(PY) tools/soak.py --minutes $(MINUTES) $(ARGS)

conformance: setup ## attested conformance on the vectors, where they are
	@tools/conformance.sh "$(VECTORS)"

image: setup ## build the measured image: PROFILE=cpu or gpu; ENGINE= MODEL= root hashes, CONFIG= KEYS= files
	@$(PY) enclave_image/tools/image_build.py $(PROFILE) $(IMAGE_INPUTS) $(ARGS)

image-lock: setup ## build it with what the mirror has now, and pin that
	@$(PY) enclave_image/tools/image_build.py $(PROFILE) --lock $(ARGS)

image-check: setup ## build it again and compare every artefact bit by bit
	@$(PY) enclave_image/tools/image_check.py $(PROFILE) $(IMAGE_INPUTS) $(ARGS)

image-scan: setup ## look into the built image for shells, compilers, agents, package state
	@$(PY) enclave_image/tools/image_scan.py $(PROFILE) $(ARGS)

image-boot: setup ## boot it under QEMU with a software TPM: event log as predicted, a chat with a receipt
	@$(PY) enclave_image/tools/image_boot.py $(PROFILE) $(ARGS)

image-injections: setup ## boot it with what a host may slip in: each is refused or measured
	@$(PY) enclave_image/tools/image_injections.py $(PROFILE) $(ARGS)

image-packs: setup ## boot it with a model pack, intact and altered
	@$(PY) enclave_image/tools/image_packs.py $(PROFILE) $(ARGS)

test-vllm: setup ## prepare a real vLLM on CPU once (2 GB), then run the end-to-end tests on it
	@tests/vllm/prepare
	@$(PY) -m pytest -m vllm tests/vllm $(ARGS)

check: ## everything .ci/run does
	@.ci/run

lock: ## compile requirements/*.in into hashed pins (needs uv)
	@tools/lock.sh

clean: ## remove .venv and every cache inside the checkout
	rm -rf $(VENV) $(VENV).lock .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage htmlcov .ci-logs fuzz-out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
