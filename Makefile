# Every target makes the environment .venv first, if it is not whole; see tools/environment.py.
# `make test UNIT=3.3` runs one unit's tests; `make test MACHINES=1` runs notebooks and numeric tests
# as they would run on other processors. PYTHON makes the environment; PORT, LAB_PORT and BROWSER are
# those of `make course`. README.md explains them.
PYTHON ?= python3
COURSE = @$(PYTHON) tools/environment.py
THEN = && .venv/bin/python

course: ; $(COURSE) -m aiinfra_labs.course.start
SPREAD = -n logical --dist worksteal
TESTS = $(if $(MACHINES),tools/machines.py,$(if $(UNIT),tools/one_unit.py $(UNIT),-m pytest))
test: lint ; $(COURSE) $(TESTS) $(SPREAD)
lint: ; $(COURSE) -m ruff check $(THEN) -m ruff format --check
labs: ; $(COURSE) -m aiinfra_labs.course.release $(THEN) tools/standing.py
site: ; $(COURSE) -m aiinfra_labs.course.site
bench: ; $(COURSE) benchmarks/emulator.py $(THEN) benchmarks/serving.py
model: ; $(COURSE) -m aiinfra_labs.llm.course_model
bench-gpu: ; $(COURSE) benchmarks/gpu_truth.py $(THEN) benchmarks/gpu.py

.PHONY: course test lint labs site bench bench-gpu model
