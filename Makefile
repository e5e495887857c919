# Each target makes what it needs: a virtual environment in .venv, with Limbeck in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# $(call bring,TOOLS): bring the Debian packages of missing commands (COMMAND=PACKAGE where their names differ) where we
# may, else say the line that does.
define bring
missing=; for tool in $(1); do command -v "$${tool%%=*}" >/dev/null || missing="$$missing $${tool##*=}"; done; \
if [ -n "$$missing" ]; then \
  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "apt-get install$$missing"; \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
  else false; \
  fi || echo "missing, and what needs it is left out: sudo apt-get install$$missing"; \
fi
endef

.PHONY: demo test test-fast test-floor test-apart lint format reference docs wheel wheel-test tools clean

demo: $(VENV)/installed
	@$(call bring,verilator g++)
	$(BIN)/limbeck demo

test: $(VENV)/installed-dev
	$(BIN)/pytest -n 2 -m "not apart"

# About a minute of laws, for whoever edits: no simulators, browsers, kills or trainings.
test-fast: $(VENV)/installed-dev
	$(BIN)/pytest -n 2 -m "not apart and not slow"

# The same tests on the lowest versions that pyproject.toml allows, in an environment of their own.
test-floor: $(VENV)/floor/installed
	$(VENV)/floor/bin/python -m pytest -n 2 -m "not apart"

# ExecuTorch, and brevitas as an oracle, in an environment of their own on top of ours: each pins what others need newer.
test-apart: $(VENV)/apart/installed
	$(VENV)/apart/bin/python -m pytest -m apart tests/test_executorch.py tests/test_oracles.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# docs/reference.md, from the docstrings and the command line; the RTL's header and the hardware's tables.
reference: $(VENV)/installed-dev
	$(BIN)/python docs/make_contract.py
	$(BIN)/python docs/make_imports.py
	$(BIN)/python docs/make_reference.py

# The documents as a site, build/site/index.html; a link that leads nowhere is an error.
docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -b html . build/site

# A source distribution, and the wheel that it makes.
wheel: $(VENV)/installed-dev
	rm -rf dist
	$(BIN)/python -m build --quiet

# The demo from that wheel, in an empty virtual environment, folder and home. It imports little of torch: --no-compile.
wheel-test: wheel
	@$(call bring,verilator g++)
	set -e; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; mkdir "$$place/home" "$$place/empty"; \
	$(PYTHON) -m venv "$$place/venv"; "$$place/venv/bin/pip" install --quiet --no-compile dist/*.whl; \
	cd "$$place/empty"; env -i HOME="$$place/home" PATH="$$place/venv/bin:$$PATH" limbeck demo

# Simulators, a synthesiser, a browser and shells: tests that lack theirs are skipped, and under CI=true fail.
tools:
	@$(call bring,verilator g++ iverilog yosys chromium zsh fish clang wasm-ld=lld qemu-system-arm \
	  arm-none-eabi-gcc=gcc-arm-none-eabi aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu qemu-aarch64=qemu-user)

clean:
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Limbeck needs Python 3.10 or newer; say which with make PYTHON=python3.10"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python cannot make virtual environments; apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/installed: $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/apart/installed: $(VENV)/installed-dev
	$(BIN)/python -m venv $(VENV)/apart
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(\"%s\")" % sysconfig.get_path("purelib"))' > \
	  "$$($(VENV)/apart/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	$(VENV)/apart/bin/pip install --quiet executorch brevitas
	@touch $@

$(VENV)/floor/installed: $(VENV)/installed-dev
	$(BIN)/pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(VENV)/floor
	UV_HTTP_TIMEOUT=600 $(BIN)/uv pip install --quiet --python $(VENV)/floor --resolution lowest-direct --editable '.[dev]'
	@touch $@
