# `make` lists the targets. Everything runs in .venv, which is made from hash-locked requirements.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out
FUZZ_SECONDS ?= 60
CASES ?= 100000
SEED ?= 1
TUF_CONFORMANCE_PYTHON ?= $(firstword $(wildcard $(abspath $(TUF_CONFORMANCE))/env/bin/python) $(CURDIR)/$(BIN)/python)
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
RELEASE := sample_images/os7.toml
IMAGES := sample_images/images
ROOT := keys/public/root.json
COMPILED := $(wildcard packager/vehicle/c/*.c packager/vehicle/c/*.h packager/diff/*.c packager/diff/*.h)

.DEFAULT_GOAL := help
.PHONY: help setup sample-images keys release build verify cars test test-full test-services fuzz lint types architecture format lock clean bench-delta bench-apply bench-metadata bench-matcher random-cases vehicle-wheel vehicle-wheel-test conformance

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(VENV)/installed ## Make .venv with everything that is needed

$(VENV)/installed: .ci/requirements.txt pyproject.toml $(COMPILED)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python %d.%d found, 3.11 or newer expected" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/packager --version
	@$(BIN)/python -c 'from packager.vehicle import kernel; kernel.NAME == "C" or print("No C compiler or no Python headers: bundles are applied by pure Python, slower, and are larger because nothing is predicted.")'
	@touch $@

sample-images: setup ## Get and generate the images of the sample release
	$(BIN)/python -m sample_images obtain

keys: setup ## Create the sample's demo keys and its TUF root
	$(BIN)/packager keys create

release: build verify cars ## Build, verify and install the sample release

build: sample-images keys
	rm -rf $(OUT)/os7
	$(BIN)/packager build $(RELEASE) --out $(OUT)/os7

verify: build
	$(BIN)/packager verify $(OUT)/os7 --root $(ROOT) --images $(IMAGES)

cars: verify
	rm -rf $(OUT)/car-oldest $(OUT)/car-previous
	$(BIN)/python -m sample_images car $(RELEASE) --age 9 --home $(OUT)/car-oldest
	$(BIN)/python -m sample_images car $(RELEASE) --age 0 --home $(OUT)/car-previous
	for car in car-oldest car-previous; do \
		$(BIN)/packager-vehicle --home $(OUT)/$$car init $(ROOT) && \
		$(BIN)/packager-vehicle --home $(OUT)/$$car status && \
		$(BIN)/python -m sample_images serve $(OUT)/os7/repo -- $(BIN)/packager-vehicle --home $(OUT)/$$car update && \
		$(BIN)/packager-vehicle --home $(OUT)/$$car status || exit; \
	done

test: setup ## Run the test suite
	$(BIN)/python -m pytest -n auto -q $(ARGS)

test-full: setup ## Run all tests, also long ones and those that need packages of the system
	$(BIN)/python -m pytest -n auto -q -m "" -rs $(ARGS)

$(OUT)/services/installed: $(VENV)/installed .ci/services-requirements.txt
	$(BIN)/python -m venv $(OUT)/services
	$(OUT)/services/bin/python -m pip install --quiet --require-hashes -r .ci/services-requirements.txt
	@touch $@

test-services: $(OUT)/services/installed ## Test keys in AWS, Google Cloud, Azure and Vault, with their clients in an environment of their own
	PYTHONPATH=. $(OUT)/services/bin/python -m pytest -q -p no:cacheprovider -m services tests/integration/test_key_services.py $(ARGS)

$(VENV)/installed-bench: $(VENV)/installed .ci/bench-requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/bench-requirements.txt
	@touch $@

bench-delta: $(VENV)/installed-bench ## Compare bundles with other tools' patches: CORPUS=DIR PAIRS=FILE ARGS=--help, else the sample images
	$(BIN)/python -m tests.perf.bench_delta $(if $(CORPUS),--corpus $(CORPUS)) $(if $(PAIRS),--pairs $(PAIRS)) --json $(OUT)/bench-delta.json $(ARGS)

conformance: setup ## Run the TUF project's conformance suite against packager-vehicle: TUF_CONFORMANCE=DIR (a checkout; needs faketime)
	@if [ -z "$(TUF_CONFORMANCE)" ]; then \
		echo "conformance: skipped, TUF_CONFORMANCE is not set; expected the directory of a checkout of tuf-conformance"; \
	else \
		command -v faketime >/dev/null || { echo "conformance: faketime is missing; install that package" >&2; exit 1; }; \
		cd "$(TUF_CONFORMANCE)" && PYTHONPATH=. $(TUF_CONFORMANCE_PYTHON) -m pytest -q -ra -p no:cacheprovider -c pyproject.toml tuf_conformance \
			--entrypoint $(CURDIR)/$(BIN)/packager-vehicle; \
	fi

$(VENV)/installed-fuzz: $(VENV)/installed .ci/fuzz-requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/fuzz-requirements.txt
	@touch $@

fuzz: $(VENV)/installed-fuzz ## Fuzz the C kernel and core, and what is read after a power cut, FUZZ_SECONDS each (needs clang with libFuzzer)
	tests/fuzz/run $(FUZZ_SECONDS) $(OUT)/fuzz
	mkdir -p $(OUT)/fuzz/resume/corpus $(OUT)/fuzz/resume/findings
	$(BIN)/python -m tests.fuzz.fuzz_resume -max_total_time=$(FUZZ_SECONDS) -max_len=2048 -print_final_stats=1 \
		-artifact_prefix=$(OUT)/fuzz/resume/findings/ $(OUT)/fuzz/resume/corpus tests/fuzz/corpus/resume

bench-apply: $(VENV)/installed-bench ## Measure how fast bundles are applied, beside peers and the hashes alone: CORPUS=DIR ARGS=--help
	$(BIN)/python -m tests.perf.bench_apply $(if $(CORPUS),--corpus $(CORPUS)) --json $(OUT)/bench-apply.json $(ARGS)

bench-matcher: setup ## Measure the matcher's memory and time for images of 1 to 64 MiB: ARGS=--help
	$(BIN)/python -m tests.perf.bench_matcher --json $(OUT)/bench-matcher.json $(ARGS)

bench-metadata: setup ## Measure a repository of many releases: seconds to publish and verify, bytes that a car reads: ARGS=--help
	$(BIN)/python -m tests.perf.bench_metadata --json $(OUT)/bench-metadata.json $(ARGS)

random-cases: setup ## Apply the bundles of random image pairs: CASES=100000 SEED=1 JOBS=2
	$(BIN)/python -m tests.perf.random_cases --cases $(CASES) --seed $(SEED) --jobs $(JOBS)

VEHICLE_STAGE := $(OUT)/vehicle-wheel/source

$(VEHICLE_STAGE)/pyproject.toml: packager/__init__.py $(wildcard packager/vehicle/* packager/vehicle/*/*.*) docs/vehicle-library.md LICENSE pyproject.toml
	rm -rf $(OUT)/vehicle-wheel
	mkdir -p $(VEHICLE_STAGE)/packager
	cp packager/__init__.py $(VEHICLE_STAGE)/packager
	cp -R packager/vehicle $(VEHICLE_STAGE)/packager
	find $(VEHICLE_STAGE) \( -name __pycache__ -o -name '*.so' \) -prune -exec rm -rf {} +
	cp LICENSE $(VEHICLE_STAGE)
	cp docs/vehicle-library.md $(VEHICLE_STAGE)/README.md
	sed -n '/^\[\[tool.setuptools.ext-modules/,/^$$/p; /^py-limited-api/q' pyproject.toml >>$(VEHICLE_STAGE)/packager/vehicle/wheel.toml
	mv $(VEHICLE_STAGE)/packager/vehicle/wheel.toml $@

vehicle-wheel: setup $(VEHICLE_STAGE)/pyproject.toml ## Build packager.vehicle as a wheel of its own, in out/vehicle-wheel
	PYTHONWARNINGS=ignore $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w $(OUT)/vehicle-wheel $(VEHICLE_STAGE)
	@ls $(OUT)/vehicle-wheel/*.whl

vehicle-wheel-test: vehicle-wheel ## Install that wheel in an empty environment and run the vehicle's tests there
	.ci/vehicle-wheel-test $(OUT)/vehicle-wheel

lint: setup ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Check types
	$(BIN)/mypy

architecture: setup ## Check which layer imports which
	$(BIN)/lint-imports --no-logo

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup $(VEHICLE_STAGE)/pyproject.toml ## Renew .ci/*requirements.txt from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -q -o .ci/requirements.txt
	uv pip compile --group bench --constraints .ci/requirements.txt --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -q -o .ci/bench-requirements.txt
	uv pip compile --group fuzz --constraints .ci/requirements.txt --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -q -o .ci/fuzz-requirements.txt
	uv pip compile pyproject.toml --extra aws --extra azure --extra gcp --extra vault --group services --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -q -o .ci/services-requirements.txt
	uv pip compile $(VEHICLE_STAGE)/pyproject.toml --group $(VEHICLE_STAGE)/pyproject.toml:test --constraints .ci/requirements.txt --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -q -o .ci/vehicle-requirements.txt

clean: ## Remove what was made, but not keys and images
	rm -rf $(OUT) $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find packager sample_images tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f packager/vehicle/*.so
