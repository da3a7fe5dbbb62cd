# railbed: `make help` lists what there is. Variables: LAB, a lab's name or file; BACKEND, who runs it.
LAB ?= clos_frr
BACKEND ?= auto
NAME ?= $(subst _,-,$(firstword $(subst ., ,$(notdir $(LAB)))))

CALLED := $(if $(filter file,$(origin NAME)),,--name '$(NAME)')

AS_USER := scripts/run_as user
AS_ROOT := scripts/run_as root
RAILBED := $(AS_ROOT) .venv/bin/railbed
PYTEST := .venv/bin/python -m pytest
BY_ALL := -n auto --maxprocesses 8 --dist worksteal
ON_LABS := $(AS_ROOT) $(PYTEST) -p no:cacheprovider --durations=10 --lab-scope=session --lab-rerun-invalid

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup native setup-containerlab images lab-up lab-down lab-status lab-shell check test test-harness test-dataplane test-fabric test-netns test-containerlab smoke nightly bench doctor lock

help: ## this list
	@echo 'make TARGET [LAB=$(LAB)] [BACKEND=$(BACKEND)]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 22

setup: ## install what is missing: system packages (Debian, Ubuntu), then .venv
	@scripts/bootstrap

native: setup ## build the soft ASIC and rnic, where missing or of other sources
	@$(AS_USER) scripts/build_native

setup-containerlab: setup ## a Docker engine (asks first), containerlab, images: what BACKEND=containerlab needs
	@scripts/setup_containerlab

images: ## build the images labs on containerlab start from, where missing or of an older recipe
	@scripts/build_images

lab-up: native ## bring LAB up on BACKEND and wait until it has converged
	@scripts/setup_containerlab --for '$(BACKEND)'
	@$(RAILBED) up '$(LAB)' --backend '$(BACKEND)' $(CALLED)

lab-down: setup ## take it down
	@$(RAILBED) down '$(NAME)'

lab-status: setup ## show its nodes, links and sessions
	@$(RAILBED) status '$(NAME)'

lab-shell: setup ## Python with the running lab at hand
	@RAILBED_LAB='$(NAME)' $(RAILBED) shell

doctor: setup ## what this workstation can and cannot do for a lab
	@$(RAILBED) doctor

check: ## format, lint, types, import contracts, unit tests: under a minute, no root
	@scripts/bootstrap --venv
	$(AS_USER) .venv/bin/ruff format --check && $(AS_USER) .venv/bin/ruff check
	$(AS_USER) .venv/bin/mypy && $(AS_USER) .venv/bin/lint-imports && $(AS_USER) $(PYTEST) -q $(BY_ALL) tests/unit

test: export RAILBED_DEAL ?= today
test: setup native setup-containerlab check test-harness test-dataplane test-fabric ## everything but most tests on labs, of which it plays others every day; half an hour

test-harness: setup ## golden files, the native programs, and the harness on a backend that is only pretended
	@[ -x /usr/bin/tshark ] || $(AS_ROOT) scripts/bootstrap --packages tshark
	$(AS_USER) $(PYTEST) $(BY_ALL) tests/golden tests/native tests/harness --junitxml=build/junit/harness.xml

test-dataplane: native ## the soft ASIC's programs, fed packet by packet; as root, without a lab
	@[ -x /usr/sbin/bpftool ] || $(AS_ROOT) scripts/bootstrap --packages bpftool
	@$(AS_USER) mkdir -p build/junit && $(AS_USER) touch build/junit/dataplane.xml
	$(ON_LABS) $(BY_ALL) tests/dataplane --junitxml=build/junit/dataplane.xml

test-fabric: test-netns test-containerlab ## real labs, real packets, on both backends; as root

test-netns: native ## the same on network namespaces alone, and what needs but one backend
	@[ -x /usr/bin/tshark ] || $(AS_ROOT) scripts/bootstrap --packages tshark
	@$(AS_USER) mkdir -p build/junit && $(AS_USER) touch build/junit/netns.xml
	RAILBED_LAB_BACKEND=netns $(ON_LABS) tests/fabric tests/netns --junitxml=build/junit/netns.xml

test-containerlab: native setup-containerlab ## the same in containers alone, and what only these can have
	@$(AS_USER) mkdir -p build/junit && $(AS_USER) touch build/junit/containerlab.xml
	RAILBED_LAB_BACKEND=containerlab $(ON_LABS) tests/fabric tests/containers --junitxml=build/junit/containerlab.xml

smoke: native ## the smoke set of scenarios: three minutes on two processors, exit code of the worst
	@$(AS_ROOT) scripts/smoke --backend '$(BACKEND)'

nightly: export RAILBED_NIGHTLY = 1
nightly: test bench ## everything, each case on both backends, and the benchmarks

bench: native ## how long labs take to come up; what packets, pauses and hashes cost
	@failed=; for one in scripts/bench_*; do $(AS_ROOT) $$one || failed=1; done; [ -z "$$failed" ]

lock: ## resolve requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --upgrade --custom-compile-command 'make lock' -o requirements.lock
