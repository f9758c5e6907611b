# Thin: each target sets up .venv if need be and calls one python -m.
PYTHON3 ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
PYTHON := .venv/bin/python
READY := .venv/.ready
STORAGE ?= results
export STORAGE
PORT ?= 5000
JOBS ?= 3
# prints the URI of a database, as search.tracking.client.embedded_uri makes it
DATABASE = import os; path = os.path.abspath(os.environ["STORAGE"]) + "/mlflow/mlflow.db"; \
	quoted = path.replace("%", "%25").replace("?", "%3F"); \
	print("sqlite" + "+pysqlite" * (quoted != path) + ":///" + quoted)
PYTEST = $(PYTHON) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: zdc pt ui screenshots test check lint bench study-zdc study-pt clean help

zdc: $(READY)  ## search zdc on the carried sample, a few minutes on two cores
	$(PYTHON) -m search.run zdc --storage "$$STORAGE"

pt: $(READY)  ## search the pT chain on its carried sample, a few minutes on two cores
	$(PYTHON) -m search.run pt --storage "$$STORAGE"

ui: export MLFLOW_DISABLE_TELEMETRY := true
ui: export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
ui: $(READY)  ## serve the MLflow pages of the searches in STORAGE on http://127.0.0.1:PORT
	@mkdir -p "$$STORAGE/mlflow"
	$(PYTHON) -m mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
		--backend-store-uri "$$($(PYTHON) -c '$(DATABASE)')"

screenshots: $(READY)  ## take docs/ui_*.png again, in the test of MLflow's pages
	SCREENSHOTS="$(CURDIR)/docs" $(PYTHON) -m pytest tests/test_ui.py

# Tests run real clusters, servers and browsers on a machine that may be busy: a test that fails is repeated once, and the
# summary shows why. Many wait more than they compute, so three files at a time suit two cores.
test: lint  ## run lint and all tests, as .ci/run does; JOBS=6 runs six test files at a time
	$(PYTEST) --reruns 1 --rerun-show-tracebacks

# Tests start Python thousands of times: each start is a second shorter where it finds byte code.
test check: export PYTHONDONTWRITEBYTECODE :=

# The quick tests hardly wait, so two files at a time suit two cores.
check: JOBS = 2
check: lint  ## run lint and the quick tests
	$(PYTEST) -m "not slow"

lint: $(READY)  ## check style, types and layers
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

bench: $(READY)  ## run the benchmarks, each of which prints a table
	$(PYTHON) -m benchmarks.ingest
	$(PYTHON) -m benchmarks.zdc_naive
	$(PYTHON) -m benchmarks.training_step
	$(PYTHON) -m benchmarks.pt_ingest
	$(PYTHON) -m benchmarks.pt_training
	$(PYTHON) -m benchmarks.overhead
	$(PYTHON) -m benchmarks.scale --sizes 10 100 1000
	$(PYTHON) -m benchmarks.faults
	if [ "$$(id -u)" = 0 ]; then $(PYTHON) -m benchmarks.cluster; fi  # it creates network namespaces
	if command -v nvidia-smi >/dev/null; then $(PYTHON) -m benchmarks.gpu; fi

study-zdc: $(READY)  ## study zdc on the events of PACKED=file.npz, hours on two cores; a repetition goes on
	$(PYTHON) -m benchmarks.studies.zdc "$(or $(PACKED),$(error PACKED=file.npz names the events))" --out "$$STORAGE/studies" $(OPTIONS)

study-pt: $(READY)  ## study the pT chain on simulated electrons, hours on two cores; a repetition goes on
	$(PYTHON) -m benchmarks.studies.pt --out "$$STORAGE/studies" $(OPTIONS)

clean:  ## remove .venv
	rm -rf .venv

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON3) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "Python 3.11 or newer is needed; found $$($(PYTHON3) --version). Pass PYTHON3=/path/to/python3."; exit 1; }
	@echo "setting up .venv (once, a few minutes)"
	@$(PYTHON3) -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)
