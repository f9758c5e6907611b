# Thin: each target sets up .venv if need be and calls one python -m.
PYTHON3 ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
PYTHON := .venv/bin/python
READY := .venv/.ready
STORAGE ?= results
PORT ?= 5000
JOBS ?= 3
PYTEST = $(PYTHON) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: zdc pt ui screenshots test check lint bench clean

zdc: $(READY)  ## the demo search: the carried sample, a few minutes on two cores
	$(PYTHON) -m search.run zdc --storage $(STORAGE)

pt: $(READY)  ## the pT chain on its carried sample: three searches, a few minutes on two cores
	$(PYTHON) -m search.run pt --storage $(STORAGE)

ui: export MLFLOW_DISABLE_TELEMETRY := true
ui: export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
ui: $(READY)  ## the MLflow pages of all searches, on http://127.0.0.1:5000, or another PORT
	@mkdir -p $(STORAGE)/mlflow
	$(PYTHON) -m mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
		--backend-store-uri sqlite:///$(abspath $(STORAGE))/mlflow/mlflow.db

screenshots: $(READY)  ## docs/ui_*.png: the pages of a small search, from the test that looks at them
	SCREENSHOTS=$(abspath docs) $(PYTHON) -m pytest tests/test_ui.py

# Clusters, servers and browsers run here for real, beside whatever else does: a test that fails is tried once more, and
# the summary shows why. Many wait more than they work, so three files at a time are right for two cores.
test: lint  ## everything that .ci/run checks; JOBS=6 takes six test files at a time
	$(PYTEST) --reruns 1 --rerun-show-tracebacks

# Those of the quick part hardly wait: two at a time.
check: JOBS = 2
check: lint  ## the quick part of it
	$(PYTEST) -m "not slow"

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

bench: $(READY)  ## the benchmarks, each prints a table
	$(PYTHON) -m benchmarks.ingest
	$(PYTHON) -m benchmarks.training_step
	$(PYTHON) -m benchmarks.pt_ingest
	$(PYTHON) -m benchmarks.pt_training
	$(PYTHON) -m benchmarks.overhead
	$(PYTHON) -m benchmarks.scale --sizes 10 100 1000
	$(PYTHON) -m benchmarks.faults
	if [ "$$(id -u)" = 0 ]; then $(PYTHON) -m benchmarks.cluster; fi  # it makes hosts
	if command -v nvidia-smi >/dev/null; then $(PYTHON) -m benchmarks.gpu_sharing; fi

clean:
	rm -rf .venv

$(READY): requirements.lock pyproject.toml
	@$(PYTHON3) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "Python 3.11 or newer is needed; found $$($(PYTHON3) --version). Pass PYTHON3=/path/to/python3."; exit 1; }
	@echo "setting up .venv (once, a few minutes)"
	@$(PYTHON3) -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)
