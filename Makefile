# A fresh machine needs Python 3.11 or 3.12 and make; everything else is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What `make serve` serves: a folder, a URL or a hub id; by default what `make demo` trains.
DEMO_MODEL := out/demo/run/model
MODEL ?= $(DEMO_MODEL)

.PHONY: demo overfit serve test test-slow lint constraints rendered clean

demo: $(VENV)/.installed-model ## preprocess, encode, train and generate with what ships; one page shows it
	$(BIN)/python jobs/demo.py

overfit: $(VENV)/.installed-model ## learn four clips with both stages, generate them, draw them
	$(BIN)/python jobs/preprocess.py --config jobs/configs/sample.yaml --resolution 64 --output out/sample64
	$(BIN)/python jobs/overfit.py --config jobs/configs/overfit.yaml

serve: $(VENV)/.installed-model $(if $(filter $(DEMO_MODEL),$(MODEL)),$(DEMO_MODEL)/model_index.json) ## the service and its page at http://127.0.0.1:8000
	$(BIN)/python -m serve model=$(MODEL)

$(DEMO_MODEL)/model_index.json:
	$(MAKE) demo

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --no-loadscope-reorder

# TESTS limits them to some files. One after the other: they wait for what a busy machine brings late.
test-slow: $(VENV)/.installed-browser ## end to end: an hour of video, faults, the service in a browser
	$(BIN)/python -m pytest -m slow $(TESTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every pin again, for all extras, both Pythons, with and without a GPU.
constraints: $(VENV)/.installed-dev
	echo '# Every version that the project is tested with; pip reads it as -c. Made by `make constraints`.' > constraints.txt
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-annotate --quiet >> constraints.txt

rendered: $(VENV)/.installed-dev ## render the clips that ship with the project again
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[render]'
	$(BIN)/python -m pipelines.rendered.render --output pipelines/rendered/clips

clean:
	rm -rf $(VENV) out build *.egg-info

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@$(BIN)/python -c "import ctypes, sys; [ctypes.CDLL(n) for n in ('libGL.so.1', 'libEGL.so.1', 'libGLESv2.so.2', 'libglib-2.0.so.0') if sys.platform == 'linux']" 2>/dev/null \
	  || { echo 'error: MediaPipe or OpenCV misses a system library; on Debian: apt-get install libgl1 libegl1 libgles2 libglib2.0-0'; exit 1; }
	touch $@

$(VENV)/.installed-model: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[model,serve]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-model
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	@command -v chromium > /dev/null || { apt-get update -qq && apt-get install -qq -y chromium > /dev/null; } \
	  || { echo 'error: the tests of the page need Chromium; on Debian: apt-get install chromium'; exit 1; }
	touch $@
