# Every target makes the environment .venv first, if it is not whole; see tools/environment.py.
# PYTHON makes it; PORT, LAB_PORT and BROWSER are those of `make course`. README.md explains them.
PYTHON ?= python3
COURSE = @$(PYTHON) tools/environment.py

course: ; $(COURSE) -m aiinfra_labs.course.start
test: lint ; $(COURSE) -m pytest -n logical --dist worksteal
site: ; $(COURSE) -m aiinfra_labs.course.site
labs: ; $(COURSE) -m aiinfra_labs.course.release
bench: ; $(COURSE) benchmarks/emulator.py
lint: ; $(COURSE) -m ruff check && .venv/bin/python -m ruff format --check

.PHONY: course test site labs bench lint
