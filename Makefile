# SPDX-License-Identifier: Apache-2.0
# Copyright The virt-vnet Authors

# libvirt is opened when it is needed, so that no headers are needed to build
# and any version of it will do.
TAGS    := libvirt_dlopen
PREFIX  ?= /usr/local
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
NFPM    := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
UNITDIR := $(PREFIX)/lib/systemd/system
UNITS   := $(notdir $(wildcard cmd/virt-vnet/systemd/*))
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Debian's Go would not fetch the version that go.mod names.
export GOTOOLCHAIN ?= auto
export GOFLAGS := -tags=$(TAGS) $(filter-out -tags=%,$(GOFLAGS))

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install the Debian packages that are missing (as root)
	@test/setup.sh

.PHONY: build
build: ## build bin/virt-vnet and bin/virt-vnet-hook
	CGO_ENABLED=1 go build -trimpath -ldflags '-s -w -X main.release=$(VERSION)' -o bin/virt-vnet ./cmd/virt-vnet
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/virt-vnet-hook ./cmd/virt-vnet-hook

.PHONY: demo
demo: setup build ## show the main job on real guests, in a lab of its own (as root)
	@go run ./test/demo

.PHONY: test
test: setup build lint bin/tools/nfpm ## run every test; none that can run here may be skipped (as root)
	@test/run.sh

.PHONY: test-unit
test-unit: ## run the tests that need neither root nor a lab
	go test -short ./...

.PHONY: test-vm
test-vm: setup ## run what the machine's kernel may lack on Debian's, in an emulated machine (as root)
	VIRT_VNET_REQUIRE_LAB=1 go test -count=1 -v -run '^(TestOnDebianKernel|TestVLANHost)$$' ./test

.PHONY: lint
lint: ## check style, formatting and modules
	@GOFLAGS= go install $(LINT)
	"$$(go env GOPATH)/bin/golangci-lint" run --allow-parallel-runners
	go mod tidy -diff

.PHONY: bench
bench: setup build ## measure against the peers; writes bin/bench.json (as root)
	@test/setup.sh test/bench/packages.txt
	@go run ./test/bench

.PHONY: install
install: build ## install below PREFIX (default /usr/local)
	install -D -m 0755 bin/virt-vnet $(DESTDIR)$(PREFIX)/bin/virt-vnet
	install -D -m 0755 bin/virt-vnet-hook $(DESTDIR)$(PREFIX)/libexec/virt-vnet/virt-vnet-hook
	install -d $(DESTDIR)$(UNITDIR)
	for unit in $(UNITS); do \
		sed 's|@BINDIR@|$(PREFIX)/bin|g' cmd/virt-vnet/systemd/$$unit >$(DESTDIR)$(UNITDIR)/$$unit && \
		chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	done

.PHONY: uninstall
uninstall: ## remove what install put below PREFIX; first run virt-vnet hooks uninstall
	rm -f $(DESTDIR)$(PREFIX)/bin/virt-vnet $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS))
	rm -rf $(DESTDIR)$(PREFIX)/libexec/virt-vnet

# v1.2.3-4-gabcdef is 1.2.3+4.abcdef, which sorts after 1.2.3.
.PHONY: packages
packages: bin/tools/nfpm ## build bin/virt-vnet*.deb and bin/virt-vnet*.rpm
	rm -rf bin/installed bin/virt-vnet[-_]*.deb bin/virt-vnet-*.rpm
	$(MAKE) install DESTDIR=$(CURDIR)/bin/installed PREFIX=/usr
	for format in deb rpm; do \
		PACKAGE_ARCH=$$(go env GOARCH) PACKAGE_VERSION=$$(echo '$(VERSION)' | sed -E 's/^v//; /^[0-9]+[.]/!s/^/0.0.0-/; s/-([0-9]+)-g/+\1./; s/^([^+-]*)-/\1+/; s/-/./g') \
		$< package -f cmd/virt-vnet/packages/nfpm.yaml -p $$format -t bin || exit 1; \
	done

bin/tools/nfpm: Makefile
	GOFLAGS= GOBIN=$(CURDIR)/bin/tools go install $(NFPM)
	@touch $@

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
