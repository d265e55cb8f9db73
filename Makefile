# make demo   set up, fit the example picture, results in out/
# make test   set up, then ruff, mypy and pytest
# make clean  take away what these two made
#
# PYTHON=python3.12 chooses the interpreter (3.10 or later); OUT=folder chooses where results go.

PYTHON ?= python3
OUT ?= out
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq -c constraints.txt
DESCRIBED := setup.cfg pyproject.toml constraints.txt
PICTURE := examples/data/camera

# tried only as root, only for what is missing, and never a reason to fail
APT := DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -q -o Acquire::http::Timeout=20 \
  -o Acquire::Retries=1
INSTALL := $(APT) install -y --no-upgrade --no-install-recommends

.PHONY: demo test clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed-render
	$(BIN)/flowfit fit $(PICTURE).png $(PICTURE)_keypoints.json --out $(OUT)
	@echo "Now look at $(OUT)/camera_overlay.png"

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

$(VENV)/installed-render: $(VENV)/made $(DESCRIBED)
	@echo "Installing Flowfit into $(VENV); the first time takes a minute or two and 2 GB"
	$(PIP) -e '.[render]'
	@touch $@

$(VENV)/installed-test: $(VENV)/made $(DESCRIBED)
	@echo "Installing Flowfit and its test tools into $(VENV); the first time takes minutes and 2 GB"
	$(PIP) -e '.[render,test]'
	@touch $@ $(VENV)/installed-render

# An environment that works is kept, whoever made it.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Flowfit needs Python 3.10 or later; try: make demo PYTHON=python3.11" >&2; exit 1; }
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=""; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="python3-venv"; \
	  ldconfig -p | grep -q 'libEGL\.so\.1' || missing="$$missing libegl1 libgl1 libxrender1"; \
	  if [ -n "$$missing" ]; then \
	    echo "Installing system packages: $$missing"; \
	    $(APT) update >/dev/null 2>&1; \
	    for package in $$missing; do $(INSTALL) $$package >/dev/null 2>&1 \
	      || echo "could not install $$package; going on without"; done; \
	  fi; \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(VENV) \
	  || $(PYTHON) -m virtualenv --clear $(VENV) \
	  || { echo "cannot make $(VENV): apt install python3-venv, then again" >&2; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
