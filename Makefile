# multinic.kubernetes: the two commands a person needs are `make demo` and `make test`. `make help` lists the rest.
#
# Settings, each overridable on the command line:
#   MULTINIC_CACHE  the one folder outside the checkout (Python environment, builds, labs)
#   PY              the Python that the environment is made with (3.11 for the locked ansible-core 2.19)
#   INVENTORY       what `make cluster` installs
#   MOLECULE_SCENARIOS, E2E  only some: MOLECULE_SCENARIOS='-s node', E2E='-x -k vip'
#   SLOW            also the end-to-end tests that are marked slow; `make test-all` sets it
#   LAYERS          the layers of `make test`, `make test-all` and `make prove-red`
MULTINIC_CACHE ?=
ifeq ($(strip $(MULTINIC_CACHE)),)
override MULTINIC_CACHE := /var/cache/multinic-kubernetes
endif
export MULTINIC_CACHE
PY ?= /usr/bin/python3
INVENTORY ?= inventories/prod

# What a bare Debian 12 lacks: for the controller, the lab, the bundle build and the tests, in this order.
APT_PACKAGES := ca-certificates git openssh-client sshpass python3-venv netcat-openbsd util-linux \
  iproute2 iptables kmod procps e2fsprogs mmdebstrap rsync \
  build-essential dpkg-dev xz-utils zstd
# What only `make page` needs.
BROWSER_PACKAGES := chromium fonts-dejavu-core
# What only the slow end-to-end tests need: a DHCP server for their lab.
DHCP_PACKAGES := dnsmasq-base

VENV := $(MULTINIC_CACHE)/venv
STAMP := $(VENV)/.made-from-$(firstword $(shell sha256sum < requirements-dev.txt))
HERE := .collections/ansible_collections/multinic/kubernetes
SANITY := $(MULTINIC_CACHE)/sanity
# The small cluster of molecule walks the road of the end-to-end tests once more, so it is for `make test-all`.
MOLECULE_SCENARIOS ?= $(if $(SLOW),--all,-s default -s apiserver_balancer -s lab -s node -s preflight)
E2E ?= -v $(if $(SLOW),,-x)
SLOW ?=
LAYERS := lint types sanity unit netns page molecule e2e
STATIC := lint types sanity unit netns page

# Only the environment and the system: no shims of version managers, no other Python.
export PATH := $(VENV)/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
export ANSIBLE_HOME := $(MULTINIC_CACHE)/ansible
export RUFF_CACHE_DIR := $(MULTINIC_CACHE)/ruff
export MOLECULE_GLOB := molecule/*/molecule.yml
export PYTHONNOUSERSITE := 1
export PYTHONUNBUFFERED := 1
export LANG := C.UTF-8
export LC_ALL := C.UTF-8
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PYENV_VERSION PIP_USER PIP_TARGET PIP_REQUIRE_VIRTUALENV

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

.PHONY: help
help: ## show this list
	@printf 'Cache: %s\n\n' '$(MULTINIC_CACHE)'
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

## What runs the collection

# What makes labs and bundles asks for it first, before anything is installed.
.PHONY: root
root:
	@test "$$(id -u)" = 0 || { echo 'Root is needed: labs and bundles are made by root. Run make as root.' >&2; exit 1; }

.PHONY: demo
demo: root lab ## a real highly available cluster on this machine, in a lab of four hosts
	@printf '\n$$ ansible-playbook playbooks/cluster.yml -i inventories/lab\n'
	ansible-playbook playbooks/cluster.yml -i inventories/lab

.PHONY: demo-down
demo-down: root venv ## stop the lab and forget its hosts
	ansible-playbook playbooks/lab.yml -i inventories/lab -e lab_state=absent

.PHONY: cluster
cluster: venv ## install the hosts of INVENTORY=inventories/…
	ansible-playbook playbooks/cluster.yml -i $(INVENTORY)

.PHONY: bundle
bundle: root venv ## build the Kubernetes bundle of the lab, unless it is in the cache
	ansible-playbook playbooks/bundle.yml -i inventories/lab

.PHONY: lab
lab: root bundle ## boot the lab's hosts
	ansible-playbook playbooks/lab.yml -i inventories/lab

## What tests it

.PHONY: test
test: root venv ## every layer: first those without hosts, two at a time, then the others in order; a failure ends it
	@began=$$SECONDS; printf '%s\n' $(filter $(STATIC),$(LAYERS)) | xargs -r -P 2 -I'{}' $(MAKE) --no-print-directory quiet-'{}'; \
	for layer in $(filter-out $(STATIC),$(LAYERS)); do start=$$SECONDS; printf '\n======== %s ========\n' "$$layer"; \
	$(MAKE) --no-print-directory "$$layer" || { printf '======== %s FAILED after %s s ========\n' "$$layer" "$$((SECONDS - start))"; exit 1; }; \
	printf '======== %s passed in %s s ========\n' "$$layer" "$$((SECONDS - start))"; done; \
	printf '\n======== all layers passed in %s s ========\n' "$$((SECONDS - began))"

# One layer, whose output comes in one piece at its end.
quiet-%:
	@start=$$SECONDS; result=passed; output=$$(mktemp); printf '======== %s begins ========\n' '$*'; \
	$(MAKE) --no-print-directory '$*' > "$$output" 2>&1 || result=FAILED; \
	printf '\n======== %s ========\n%s\n======== %s %s after %s s ========\n' '$*' "$$(cat "$$output")" '$*' "$$result" "$$((SECONDS - start))"; \
	rm -f "$$output"; test "$$result" = passed

.PHONY: test-all
test-all: root venv ## every layer in order and the slow tests too, also after a failure; fails if any did
	@failed=; for layer in $(LAYERS); do printf '\n======== %s ========\n' "$$layer"; \
	$(MAKE) --no-print-directory SLOW=yes "$$layer" || failed="$$failed $$layer"; done; \
	test -z "$$failed" || { printf '\n======== FAILED:%s ========\n' "$$failed"; exit 1; }

.PHONY: lint
lint: venv ## ruff, ansible-lint and yamllint, documentation, changelog
	ruff check . && ruff format --check .
	ansible-lint --offline --profile production
	antsibull-docs lint-collection-docs --plugin-docs .
	antsibull-changelog lint

.PHONY: types
types: venv ## mypy over all that is Python
	mypy --cache-dir $(MULTINIC_CACHE)/mypy $(HERE)/plugins $(HERE)/roles $(HERE)/molecule $(HERE)/tests/unit $(HERE)/tests/prove_red.py
	cd tests/bench && MYPYPATH=../unit:../e2e:$(CURDIR)/.collections mypy --cache-dir $(MULTINIC_CACHE)/mypy --config-file $(CURDIR)/pyproject.toml *.py
	cd tests/netns && MYPYPATH=$(CURDIR)/.collections mypy --cache-dir $(MULTINIC_CACHE)/mypy --config-file $(CURDIR)/pyproject.toml *.py
	cd tests/e2e && MYPYPATH=..:$(CURDIR)/.collections mypy --cache-dir $(MULTINIC_CACHE)/mypy --config-file $(CURDIR)/pyproject.toml *.py
	mypy --cache-dir $(MULTINIC_CACHE)/mypy $(HERE)/tests/page

.PHONY: sanity
sanity: venv ## ansible-test sanity, on a copy of the files under git
	rm -rf $(SANITY)/ansible_collections && mkdir -p $(SANITY)/$(HERE:.collections/%=%) $(SANITY)/home/.ansible/test/cache
	git ls-files -z --cached --others --exclude-standard -- . ':!.collections' | xargs -0 -I{} sh -c 'test ! -f "$$1" || printf "%s\0" "$$1"' - {} | rsync -a --from0 --files-from=- . $(SANITY)/$(HERE:.collections/%=%)
	printf 'import ensurepip; ensurepip.bootstrap()\n' | tee $(SANITY)/home/.ansible/test/cache/get_pip_24_2.py > $(SANITY)/home/.ansible/test/cache/get_pip_25_2.py
	cd $(SANITY)/$(HERE:.collections/%=%) && HOME=$(SANITY)/home ansible-test sanity --local --python default --color no

.PHONY: unit
unit: venv ## pytest over the unit tests
	pytest -q -o cache_dir=$(MULTINIC_CACHE)/pytest tests/unit

.PHONY: netns
netns: root bundle ## the proof on real ways: network namespaces as hosts, with firewalls, black holes, wrong routes
	pytest -q $(if $(SLOW),,-m 'not slow') tests/netns

.PHONY: molecule
molecule: root bundle ## every scenario in molecule/, on lab hosts
	test -n '$(wildcard $(MOLECULE_GLOB))'
	molecule test $(MOLECULE_SCENARIOS) --report --no-command-borders

.PHONY: e2e
e2e: root bundle ## the whole road on the lab: install, break, reboot, reinstall
	$(if $(SLOW),$(MAKE) -s packages APT_PACKAGES='$(DHCP_PACKAGES)')
	pytest -o cache_dir=$(MULTINIC_CACHE)/pytest $(if $(SLOW),,-m 'not slow') $(E2E) tests/e2e

.PHONY: page
page: venv ## look at the report's HTML page in headless Chromium; screenshots in the cache
	$(MAKE) -s packages APT_PACKAGES='$(BROWSER_PACKAGES)'
	pytest -q -o cache_dir=$(MULTINIC_CACHE)/pytest tests/page

.PHONY: prove-red
prove-red: venv ## break a line for each layer, in a copy, and see that the layer fails
	python tests/prove_red.py $(LAYERS)

## What measures it; the last line is one JSON object

.PHONY: bench-plan
bench-plan: venv ## the plan of 5,000 hosts on one core, and how its time grows
	python tests/bench/plan.py

.PHONY: bench-preflight
bench-preflight: root venv ## facts, plan and proof of 100 hosts in namespaces of this machine, each with an sshd
	python tests/bench/preflight.py

.PHONY: bench-distribution
bench-distribution: root venv ## 500 MB to 1, 4, 16 and 64 hosts in namespaces with limited cards, beside plain copy and BitTorrent
	python tests/bench/distribution.py --aria2 16

.PHONY: bench-failover
bench-failover: root bundle ## requests that fail while a control plane freezes, dies, stops, leaves or a link flaps, on a lab
	python tests/bench/failover.py

## What keeps it

.PHONY: venv
venv: $(STAMP) ## system packages and the Python environment, if not there yet

$(STAMP): | packages
	@printf 'Making the Python environment in %s (once, about a minute)\n' '$(VENV)'
	mkdir -p $(MULTINIC_CACHE) && exec 9>$(MULTINIC_CACHE)/venv.lock && flock 9 && if test ! -e $@; then \
	$(PY) -m venv --clear $(VENV) && $(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-dev.txt && touch $@; fi

# Asked of dpkg only when the environment is made or a target needs it: a second run installs nothing.
INSTALLED = $(shell dpkg-query -W -f='$${Package}=$${db:Status-Status} ')
APT_MISSING = $(foreach package,$(APT_PACKAGES),$(if $(filter $(package)=installed,$(INSTALLED)),,$(package)))

.PHONY: packages
packages:
	$(if $(strip $(APT_MISSING)),apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $(APT_MISSING))

.PHONY: requirements
requirements: venv ## resolve the locks anew
	@set -e; for lock in requirements requirements-dev; do pip-compile --quiet --upgrade --allow-unsafe --strip-extras --generate-hashes \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header -o $$lock.lock $$lock.in; \
	{ printf '# Made by "make requirements" with Python 3.11. Do not edit by hand.\n'; cat $$lock.lock; } > $$lock.txt; rm $$lock.lock; done

.PHONY: clean-cache
clean-cache: ## throw away all that is built: environment, bundle, base images (stop the lab first)
	@labs="$$(ls $(MULTINIC_CACHE)/labs 2>/dev/null || true)"; test -z "$$labs" || { printf 'Stop the labs first, each with %s:\n%s\n' \
	"'ansible-playbook playbooks/lab.yml -i inventories/lab -e lab_state=absent -e lab_name=NAME'" "$$labs" >&2; exit 1; }
	rm -rf --one-file-system $(MULTINIC_CACHE)
