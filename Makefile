# Every target makes the environment .venv first, if it is not whole; see tools/environment.py.
# PYTHON makes it; PORT, LAB_PORT and BROWSER are those of `make course`. README.md explains them.
PYTHON ?= python3
COURSE = @$(PYTHON) tools/environment.py
THEN = && .venv/bin/python

course: ; $(COURSE) -m aiinfra_labs.course.start
test: lint ; $(COURSE) -m pytest -n logical --dist worksteal
lint: ; $(COURSE) -m ruff check $(THEN) -m ruff format --check
labs: ; $(COURSE) -m aiinfra_labs.course.release $(THEN) tools/standing.py
site: ; $(COURSE) -m aiinfra_labs.course.site
bench: ; $(COURSE) benchmarks/emulator.py $(THEN) benchmarks/serving.py
model: ; $(COURSE) -m aiinfra_labs.llm.course_model
bench-gpu: ; $(COURSE) benchmarks/gpu_truth.py $(THEN) benchmarks/gpu.py

.PHONY: course test lint labs site bench bench-gpu model
