# Each target makes .venv by itself the first time; after that it costs seconds.
PYTHON ?= python3
BIN = .venv/bin
export VIRTUAL_ENV = $(CURDIR)/.venv

.PHONY: reproduce test lab lessons lint clean

reproduce: .venv/ready
	$(BIN)/dglab reproduce --preset quick

# one thread: images as small as the tests' are slower on several
test: export OMP_NUM_THREADS = 1
test: .venv/ready
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest --nbval-lax --nbval-cell-timeout=300 notebooks

lab: .venv/ready
	$(BIN)/jupyter lab notebooks

# for those who change the lessons: renew what ships along, and store the outputs that it gives in the notebooks
lessons: .venv/ready
	$(BIN)/dglab reproduce --preset quick
	$(BIN)/python tools/ship_results.py
	$(BIN)/python tools/store_lessons.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv
