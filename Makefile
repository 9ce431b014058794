# SPDX-License-Identifier: GPL-2.0-or-later
.DEFAULT_GOAL := help
.PHONY: help setup lint test vm-test kmod bench fuzz soak doctor clean

PYTHON := build/venv/bin/python
export KERNEL
vm_options = $(if $(T),-k '$(T)') $(if $(CONFIG),--config '$(CONFIG)') $(if $(KERNEL),--kernel '$(KERNEL)') \
	$(if $(DRIVER),--driver '$(DRIVER)') $(if $(DRIVER_PATCH),--driver-patch '$(DRIVER_PATCH)') \
	$(if $(SMT_KMOD),--smt-kmod '$(SMT_KMOD)') $(if $(SMT_CFLAGS),--smt-cflags='$(SMT_CFLAGS)') \
	$(if $(NIC),--nic '$(NIC)') $(if $(SEED),--seed $(SEED)) $(if $(ACCEL),--accel $(ACCEL)) \
	$(if $(RESULTS),--results '$(RESULTS)') $(if $(SHARD),--shard $(SHARD)) $(if $(JOBS),--jobs $(JOBS))

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  vm-test takes T=expression KERNEL=package|tree DRIVER=stock|tls DRIVER_PATCH=file|folder"
	@echo "    SMT_KMOD=folder SMT_CFLAGS=words NIC=profile SEED=number ACCEL=auto|kvm|tcg CONFIG=file.toml"
	@echo "    RESULTS=folder SHARD=1/3 JOBS=2"

setup: ## Install and build all that is needed; a second run does nothing
	@nicmodel/testbed/setup.sh

lint: setup ## ruff, mypy --strict, import-linter, shellcheck, C with -Werror
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	build/venv/bin/lint-imports
	git grep -lE '^#!.*[ /](ba|da)?sh$$' | xargs shellcheck
	qemu-plugin/build.sh

test: setup ## Tests that need no guest, in some minutes
	$(PYTHON) -m pytest tests --ignore=tests/vm -q -n auto --dist loadfile

vm-test: setup ## Boot guests and test the NIC in them; results in build/results
	$(PYTHON) -m nicmodel test $(vm_options)

kmod: setup ## The SMT kernel modules for KERNEL=package|path, into build/kmod
	$(PYTHON) -m nicmodel.testbed.smt $(KERNEL)

bench: setup ## Our NIC beside QEMU's e1000e, and the model alone; T=model|vm|ktls|smt; results in build/bench
	$(PYTHON) -m tests.bench $(T)

fuzz: setup ## Hostile input: 10 minutes to the model, then two times PACKETS=1000000 to SMT in a guest
	NICMODEL_FUZZ_SECONDS=600 $(PYTHON) -m pytest tests/unit -m fuzz -q --timeout 1200
	NICMODEL_FUZZ_PACKETS=$(or $(PACKETS),1000000) $(PYTHON) -m nicmodel test -k hostile_packets $(vm_options)

soak: setup ## SMT over cables that misbehave, for MINUTES=30
	$(PYTHON) -m tests.soak $(MINUTES)

doctor: ## Say what this machine has, what is missing and what to type
	@$(PYTHON) -m nicmodel doctor

clean: ## Remove what was built here; the cache that clones share stays
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
