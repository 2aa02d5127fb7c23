# `make` prints what there is. All targets that need the environment make it first.

.DEFAULT_GOAL := help
.PHONY: help install demo test test-environment lint clean

# Exactly the interpreter and the versions that were tested: nothing is fetched that constraints.txt does not pin.
export UV_PYTHON_DOWNLOADS := never
# uv reads neither the certificates of the machine nor the settings of pip unless told to.
export UV_SYSTEM_CERTS := 1
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
UV_INSTALL := .venv/bin/uv pip install --python .venv/bin/python -c constraints.txt

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

install: .venv/.installed-train  ## create .venv with what training and serving need (no torch)

demo: .venv/.installed-train  ## record, train, serve and drive two robots; writes out/demo/report.html
	.venv/bin/fla demo

test: .venv/.installed-test  ## run all tests; ARGS="-k codec" or ARGS="-m 'not slow'" chooses some
	.venv/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

test-environment: .venv/.installed-test

lint: .venv/.installed-test  ## check style and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/pyright

clean:  ## delete the environment, caches and outputs
	rm -rf .venv out dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The environment --------------------------------------------------------------------------------------------------

CLEAR_ANOTHER_VERSION = $$(.venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null || echo --clear)

.venv/.created: constraints.txt
	@python=$$(.ci/find-python) && echo "creating .venv with $$python" && "$$python" -m venv $(CLEAR_ANOTHER_VERSION) .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@touch $@

.venv/.installed-train: .venv/.created pyproject.toml constraints.txt
	$(UV_INSTALL) -e ".[train]"
	@touch $@

.venv/.installed-test: .venv/.created pyproject.toml constraints.txt
	$(UV_INSTALL) -e ".[train,sim,track,view,lerobot,dev]"
	@touch $@ .venv/.installed-train
