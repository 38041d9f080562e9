# Waybill's front door. `make` alone lists what there is.
#
# Every target that needs Debian packages installs what is missing (tools/deps.sh), so a fresh clone needs only
# `make run`.

.DEFAULT_GOAL := help
.PHONY: help deps build run demo test chaos model loadtest peers images test-compose lint fmt clean

C_FILES = $(shell git ls-files '*.c' '*.h')
PYTHON = /usr/bin/python3
EXECUTABLES = waybill-ingest waybill-worker waybillctl waybill-devstore
# What `make deps` installs for; `make deps DEPS=build` is enough to compile.
DEPS = build run test lint

help: ## list the targets (the default)
	@echo 'Waybill, a resilient event gateway. Start with `make run`.'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
	  printf '  make %-12s %s\n' "$$name" "$$text"; done

deps: ## install the Debian packages that are missing
	@tools/deps.sh $(DEPS)

build: ## compile into build/bin/
	@tools/deps.sh build
	@mkdir -p build && test -w build || { echo "make: cannot write to $(CURDIR)/build: clone into a folder of your own" >&2; exit 1; }
	@test -f build/build.ninja || cmake --preset release --log-level=WARNING >/dev/null
	@test -x build/bin/waybillctl || echo 'Building ...'
	@cmake --build --preset release --target $(EXECUTABLES) >build/build.log || { cat build/build.log; exit 1; }

run: ## install, build and start everything; Ctrl-C stops it
	@tools/deps.sh build run
	@$(MAKE) --no-print-directory build
	@exec $(PYTHON) tools/run.py --stop-with-parent

demo: ## start a stack of its own, send real events through it and check what happens
	@tools/deps.sh build run
	@$(MAKE) --no-print-directory build
	@exec $(PYTHON) tools/demo.py

# `make test STEPS=system`: one step; `make test STEPS=--all`: also the model, chaos, load test and Compose, as CI does
STEPS =

test: ## run the tests (STEPS= for some of them, or --all)
	@tools/deps.sh build run test
	@exec $(PYTHON) tools/test.py $(STEPS)

# `make chaos SECONDS=900 SEED=42 ACKED=1000000`: longer, the faults of that seed again, until so many are acknowledged
SECONDS = 60
SEED =
ACKED = 0

chaos: ## break everything for a minute while events flow, then count (SECONDS=, SEED=, ACKED=)
	@tools/deps.sh build run test
	@tools/go_tools.sh >/dev/null
	@$(MAKE) --no-print-directory build
	@exec $(PYTHON) tests/chaos/chaos.py --seconds $(SECONDS) --acked $(ACKED) $(if $(SEED),--seed $(SEED))

model: ## check a model of the delivery protocol (a minute or two)
	@tools/deps.sh model
	@exec tests/model/run.sh

# Profiles: loadtest/profiles.toml. WORKERS=3 INGEST_THREADS=2 change the stack; docs/load-testing.md
PROFILE = smoke
loadtest: ## attack a stack of its own with vegeta and reconcile (PROFILE=smoke, concurrent-100, sustained, burst, soak)
	@tools/deps.sh build run test
	@$(MAKE) --no-print-directory build
	@exec $(PYTHON) loadtest/run.py --profile $(PROFILE) $(if $(WORKERS),--workers $(WORKERS)) \
	  $(if $(INGEST_THREADS),--ingest-threads $(INGEST_THREADS))

peers: ## compare ingest with an nginx-and-Lua and a Go gateway (some minutes; bench/peers/README.md)
	@tools/deps.sh build run test peers
	@$(MAKE) --no-print-directory build
	@exec $(PYTHON) bench/peers/run.py

images: ## build the container images and print their sizes (BASE_IMAGE=, IMAGE_TAG=)
	@docker/build.sh

test-compose: ## run the Compose file for real, where a Docker engine answers
	@tools/deps.sh test
	@exec tests/compose/run.sh

lint: ## check format, scripts and the floors of the house
	@tools/deps.sh lint
	@tools/lint.sh

fmt: ## format the C files
	@tools/deps.sh lint
	@clang-format -i $(C_FILES)

clean: ## remove what was built (not .run/, which holds the data of `make run`)
	@rm -rf build
