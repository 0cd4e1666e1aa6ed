# Each target makes .venv by itself the first time; after that it costs seconds.
PYTHON ?= python3
BIN = .venv/bin
export VIRTUAL_ENV = $(CURDIR)/.venv
# Bytecode is written, also where that is switched off (in many containers): every process would else compile torch
# anew, 4 s of a core each, and the tests start some sixty.
export PYTHONDONTWRITEBYTECODE =

.PHONY: reproduce test test-oldest lab demo course book slides lessons lint clean

reproduce: .venv/ready
	$(BIN)/dglab reproduce --preset quick

# Each file's tests, and each notebook's cells, by a process on one of the cores, with one thread: images as small as
# the tests' are slower on several. -rs says which were skipped and why: those of tests/browser, without Chromium.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 -rs \
  --dist=loadfile --no-loadscope-reorder

test: .venv/ready
	$(PYTEST) --nbval-lax --nbval-cell-timeout=900 notebooks tests

# What a processor may round otherwise, with the instructions of one of 2006: sums are taken in another order.
test-oldest: export ATEN_CPU_CAPABILITY = default
test-oldest: export ONEDNN_MAX_CPU_ISA = SSE41
test-oldest: .venv/ready
	$(PYTEST) -m numerical

lab: .venv/ready
	$(BIN)/jupyter lab notebooks

# all explorers as one page for a projector
demo: .venv/ready
	$(BIN)/python -m dglab.teaching.demo

# the lessons for students, with solutions, for instructors and for nbgrader, in the folder course: docs/teaching.md
course: .venv/ready
	$(BIN)/python tools/course.py

# the lessons as plain pages, in the folder book
book: .venv/ready
	$(BIN)/python -m tools.book

# the lessons as slides with notes for the lecturer, in the folder slides
slides: .venv/ready
	$(BIN)/python -m tools.slides

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
