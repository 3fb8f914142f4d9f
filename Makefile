# Everything a checkout needs, from a machine that has only python3 (3.11 to 3.13) with venv or pip.
#
#   make setup    the Python environment, and bitcoind, lnd and aperture
#   make demo     agents on a real network, with a report   (ARGS="--payments 100 --out DIR ...")
#   make test     lint, then all tests: unit, integration, Docker   (ARGS="-k NAME" goes to pytest)
#   make lint     ruff and mypy
#   make stubs    Python stubs, after a change of a .proto file
#   make lock     requirements.lock, after a change of the dependencies in pyproject.toml
#   make bench-env  BenchMARL in an environment of its own (bench/.venv), for `lnagents bench train`
#   make clean    removes all that the above made here; programs stay in ~/.cache/lnagents

ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# uv makes the environment; one that runs is taken from PATH, else it is fetched from PyPI.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .venv-uv/bin/uv)
PACKAGE_INPUTS := pyproject.toml hatch_build.py $(wildcard protos/*/*.proto)

.DELETE_ON_ERROR:
.PHONY: setup demo test lint stubs lock bench-env clean

setup: $(VENV)/.package
	$(BIN)/lnagents setup

demo: setup
	$(BIN)/lnagents demo $(ARGS)

test: lint setup
	$(BIN)/python -m pytest tests/unit tests/integration tests/docker $(ARGS)

lint: $(VENV)/.package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

stubs: $(VENV)/.requirements
	$(UV) pip install --quiet --python $(VENV) --no-deps --editable .
	touch $(VENV)/.package

# The same command as in the first lines of the lock.
lock: | $(UV)
	$(UV) pip compile pyproject.toml --extra learn --extra twin --group dev --universal --generate-hashes \
		--python-version 3.11 --quiet -o requirements.lock
	$(UV) pip compile bench/benchmarl/requirements.in --universal --generate-hashes \
		--python-version 3.11 --quiet -o bench/benchmarl/requirements.lock

bench-env: | $(UV)
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.14' bench/.venv
	$(UV) pip install --quiet --python bench/.venv --require-hashes -r bench/benchmarl/requirements.lock

clean:
	rm -rf $(VENV) .venv-uv bench/.venv dist out lnagents/*/stubs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find lnagents tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Each step is repeated only when what it is made from has changed.
$(VENV)/.package: $(VENV)/.requirements $(PACKAGE_INPUTS)
	$(UV) pip install --quiet --python $(VENV) --no-deps --editable .
	touch $@

# Compiled here once, because seven daemons that start together would each compile all of it where
# Python may not write bytecode.
$(VENV)/.requirements: requirements.lock | $(BIN)/python
	$(UV) pip install --quiet --compile-bytecode --python $(VENV) --require-hashes -r requirements.lock
	touch $@

# With pip in it (--seed), which fetches Go later where uv was needed only for this.
$(BIN)/python: | $(UV)
	$(UV) venv --quiet --allow-existing --seed --python '>=3.11,<3.14' $(VENV)

# A folder of its own, so that nothing is installed into the system's Python. venv is missing on a
# bare Debian, pip on others; `pip --target` works where the system's packages are off limits, too.
.venv-uv/bin/uv:
	rm -rf .venv-uv
	@python3 -m venv .venv-uv >/dev/null 2>&1 && .venv-uv/bin/python -m pip install --quiet uv \
		|| { rm -rf .venv-uv; python3 -m pip install --quiet --target .venv-uv uv; } \
		|| { rm -rf .venv-uv; echo "uv is missing, and python3 can neither make a venv nor run pip:" \
			"install python3-venv (Debian, Ubuntu), pip or uv" >&2; exit 1; }
	echo '*' > .venv-uv/.gitignore
