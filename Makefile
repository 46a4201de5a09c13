# Two commands: `make demo` does the whole job on sample_data, `make test` runs the tests.
# Both set up .venv first; all they need is Python 3.12 and make.

PYTHON ?= python3.12
BIN := .venv/bin

.PHONY: demo test check lock clean

demo: .venv/ready
	$(BIN)/rscontrast demo --catalog sample_data/catalog.json --out demo_out

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Names and versions only: whoever installs chooses the index.
lock: .venv/ready
	$(BIN)/uv pip compile pyproject.toml --extra dev --no-header --no-annotate \
	  --no-emit-index-url --upgrade --quiet --output-file constraints.txt
	$(BIN)/uv --version | sed 's/uv \([^ ]*\).*/uv==\1/' >> constraints.txt
	sort -o constraints.txt constraints.txt

clean:
	rm -rf .venv demo_out runs

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt --editable '.[dev]'
	touch $@
