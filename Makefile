# sockmesh. The two commands a newcomer needs are `make demo` and `make test`; `make help` lists the rest.
# Objects go to $(BUILD); V=1 shows the commands; CC=clang builds with clang.

BUILD   ?= build
CLANG   ?= clang
BPFTOOL ?= $(or $(shell command -v bpftool 2>/dev/null),/usr/sbin/bpftool)
PREFIX  ?= /usr
VERSION := 0.1.0
BPF_ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(patsubst ppc64le,powerpc,$(patsubst riscv64,riscv,$(shell uname -m)))))
Q := $(if $(V),,@)
say = $(if $(V),@:,@printf '  %-6s %s\n' $(1) $(2))

CFLAGS  ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith \
           -Wno-unused-parameter -Wno-missing-field-initializers -Werror
ALL_CFLAGS = -std=gnu11 $(WARN) -D_GNU_SOURCE -DMESH_VERSION='"$(VERSION)"' -I. -Iinclude -I$(BUILD) \
             -fno-strict-aliasing -fstack-protector-strong $(CFLAGS) -MMD -MP
SAN     := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

LIB_SRC    := $(wildcard lib/*.c)
AGENT_SRC  := $(wildcard agent/*.c agent/*/*.c)
MESHD_SRC  := $(wildcard ctl/meshd/*.c ctl/meshd/*/*.c)
CTL_SRC    := $(wildcard ctl/meshctl/*.c)
DEMO_SRC   := $(filter-out demo/app.c,$(wildcard demo/*.c))
BPF_SRC    := $(filter-out %.test.bpf.c %.trial.bpf.c,$(wildcard bpf/*.bpf.c))
UI_SRC     := $(wildcard ctl/meshd/ui/*.* ctl/meshd/ui/vendor/*.*)
SKELS      := $(BUILD)/bpf/mesh.skel.h $(BUILD)/bpf/decide.skel.h $(BUILD)/bpf/trial.skel.h

UNIT_SRC   := $(wildcard tests/unit/test_*.c)
BPFT_SRC   := $(wildcard tests/bpf/test_*.c)
E2E_SRC    := $(wildcard tests/e2e/test_*.c)
HARNESS    := $(filter-out $(E2E_SRC),$(wildcard tests/e2e/*.c))
TOOL_SRC   := $(filter-out %.bpf.c,$(wildcard tests/bench/*.c tests/fuzz/*.c))

PROGRAMS   := $(BUILD)/meshd $(BUILD)/mesh-agent $(BUILD)/meshctl
DEMOS      := $(DEMO_SRC:%.c=$(BUILD)/%)
TOOLS      := $(TOOL_SRC:%.c=$(BUILD)/%)
UNIT_TESTS := $(UNIT_SRC:%.c=$(BUILD)/%)
BPF_TESTS  := $(BPFT_SRC:%.c=$(BUILD)/%)
E2E_TESTS  := $(E2E_SRC:%.c=$(BUILD)/%)

obj  = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
sobj = $(patsubst %.c,$(BUILD)/san/%.o,$(1))
lib_libs   := -lcurl -lcjson -lmicrohttpd -lz -lm
agent_libs := -lbpf -lelf -lseccomp $(lib_libs)
meshd_libs := -lsqlite3 -lz $(lib_libs)

.PHONY: all help deps demo test unit bpf-tests e2e e2e-modes test-kernels bench soak fuzz format format-check install clean
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-13s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

deps: ## install what is missing (apt), as root or through sudo
	$(Q)deploy/install-deps.sh $(DEPS)

# What a target needs beyond the common: named here, installed by its `deps`.
DEPS := $(if $(findstring clang,$(CC)),clang)
test unit bpf-tests e2e e2e-modes: DEPS += tests
fuzz: DEPS := clang
format format-check: DEPS := format
test-kernels: DEPS := kernels

# On all CPUs, unless -j says otherwise.
JOBS = --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

all: deps ## build everything into build/
	$(Q)$(MAKE) $(JOBS) programs

.PHONY: programs everything
programs: $(PROGRAMS) $(DEMOS)
	@:
everything: programs $(UNIT_TESTS) $(BPF_TESTS) $(E2E_TESTS) $(TOOLS)

demo: deps ## four services, the mesh and some traffic on a virtual host; Ctrl-C cleans up (DEMO_SECONDS=20 ends by itself)
	$(Q)$(MAKE) $(JOBS) programs
	$(Q)BUILD=$(BUILD) demo/run.sh

test: deps ## every test: unit (ASan, UBSan), BPF, end to end
	$(Q)$(MAKE) $(JOBS) everything
	$(Q)BUILD=$(BUILD) tests/run.sh unit bpf e2e

unit: deps ## unit tests only
	$(Q)$(MAKE) $(JOBS) $(UNIT_TESTS)
	$(Q)BUILD=$(BUILD) tests/run.sh unit

bpf-tests: deps ## BPF tests only (needs root)
	$(Q)$(MAKE) $(JOBS) $(BPF_TESTS)
	$(Q)BUILD=$(BUILD) tests/run.sh bpf

e2e: deps ## end-to-end tests only (needs root); T=name runs one
	$(Q)$(MAKE) $(JOBS) programs $(E2E_TESTS) $(TOOLS)
	$(Q)BUILD=$(BUILD) tests/run.sh e2e $(T)

test-kernels: deps ## BPF tests and a smoke of the main path under Debian's 6.1 and 6.12 kernels in qemu (K=6.1 for one)
	$(Q)$(MAKE) $(JOBS) programs $(BPF_TESTS) $(E2E_TESTS) $(TOOLS)
	$(Q)BUILD=$(BUILD) tests/kernels/run.sh $(if $(T),--e2e "$(T)") $(K)

e2e-modes: deps ## end-to-end tests in each mode of skipping TCP; T=name runs one
	$(Q)$(MAKE) $(JOBS) programs $(E2E_TESTS) $(TOOLS)
	$(Q)for mode in redirect verdict off; do \
		MESH_ACCELERATE_MODE=$$mode BUILD=$(BUILD) tests/run.sh e2e $(T) || exit 1; done

bench: deps ## compare with no mesh, nginx, HAProxy and sidecars, interleaved (PART=http|tcp|accelerate|sidecar|telemetry|floor)
	$(Q)$(MAKE) $(JOBS) programs $(TOOLS)
	$(Q)BUILD=$(BUILD) tests/bench/bench.sh $(if $(PART),--only $(PART))

soak: deps ## a million checked requests through two hops (N=20000 for a short one)
	$(Q)$(MAKE) $(JOBS) programs $(TOOLS) $(BUILD)/tests/e2e/test_soak
	$(Q)BUILD=$(BUILD) tests/bench/soak.sh $(N)

soak-upgrade: deps ## a million requests while the agent is replaced 100 times (N=10 for a short one)
	$(Q)$(MAKE) $(JOBS) programs $(TOOLS) $(BUILD)/tests/e2e/test_endure
	$(Q)BUILD=$(BUILD) tests/bench/soak-upgrade.sh $(N)

soak-kill: deps ## 200 kills of supervisor, workers and both under new connections (N=20 for a short one)
	$(Q)$(MAKE) $(JOBS) programs $(TOOLS) $(BUILD)/tests/e2e/test_endure
	$(Q)BUILD=$(BUILD) tests/bench/soak-kill.sh $(N)

fuzz: deps ## fuzz the HTTP/1 parser and trace context for SECONDS=60
	$(Q)mkdir -p $(BUILD)/fuzz/http1
	$(Q)$(CLANG) -std=gnu11 $(WARN) -D_GNU_SOURCE -I. -DLIBFUZZER $(SAN) -fsanitize=fuzzer \
		tests/fuzz/http1.c $(wildcard agent/proxy/http1_*.c) agent/proxy/trace_read.c agent/proxy/trace_put.c lib/trace_id.c -o $(BUILD)/fuzz/http1.fuzz
	$(Q)$(BUILD)/fuzz/http1.fuzz -max_total_time=$(or $(SECONDS),60) -max_len=20000 -print_final_stats=1 \
		-artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/http1 tests/fuzz/corpus/http1

format: deps ## clang-format the tree
	$(Q)git ls-files '*.c' '*.h' | grep -v '^vmlinux.h' | xargs clang-format -i
format-check: deps
	$(Q)git ls-files '*.c' '*.h' | grep -v '^vmlinux.h' | xargs clang-format --dry-run -Werror

install: deps ## install to $(DESTDIR)$(PREFIX)
	$(Q)$(MAKE) $(JOBS) programs
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/sbin $(BUILD)/meshd $(BUILD)/mesh-agent
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(BUILD)/meshctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system deploy/systemd/meshd.service deploy/systemd/mesh-agent.service
	cd deploy && find prometheus grafana -type f -exec install -D -m 644 {} $(abspath $(DESTDIR)$(PREFIX))/share/sockmesh/{} \;

clean: ## remove build/
	$(Q)rm -rf $(BUILD)

# --- BPF: each hook is one object; they are linked into one, and that becomes a skeleton ------------
$(BUILD)/%.bpf.o: %.bpf.c vmlinux.h
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) -target bpf -mcpu=v3 -O2 -g -Wall -Werror -I. -Iinclude -D__TARGET_ARCH_$(BPF_ARCH) -MMD -MP -c $< -o $@
$(BUILD)/bpf/mesh.linked.o: $(BPF_SRC:%.c=$(BUILD)/%.o)
	$(Q)$(BPFTOOL) gen object $@ $^
$(BUILD)/bpf/decide.linked.o: $(BUILD)/bpf/decide.test.bpf.o
	$(Q)$(BPFTOOL) gen object $@ $^
$(BUILD)/bpf/trial.linked.o: $(BUILD)/bpf/splice.trial.bpf.o $(BUILD)/bpf/splice.bpf.o
	$(Q)$(BPFTOOL) gen object $@ $^
$(BUILD)/bpf/floor.linked.o: $(BUILD)/tests/bench/floor.bpf.o
	$(Q)$(BPFTOOL) gen object $@ $^
$(BUILD)/bpf/%.skel.h: $(BUILD)/bpf/%.linked.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

# --- C ---------------------------------------------------------------------------------------------
$(BUILD)/obj/%.o: %.c | $(SKELS)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@
$(BUILD)/san/%.o: %.c | $(SKELS)
	$(call say,SAN,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(SAN) -c $< -o $@
%.a:
	$(Q)rm -f $@; ar rcs $@ $^

mains := agent/main.c ctl/meshd/main.c ctl/meshctl/main.c
$(foreach p,LIB AGENT MESHD CTL,$(eval $(BUILD)/$(p).a: $$(call obj,$$(filter-out $(mains),$$($(p)_SRC)))))
$(foreach p,LIB AGENT MESHD CTL,$(eval $(BUILD)/$(p).san.a: $$(call sobj,$$(filter-out $(mains),$$($(p)_SRC)))))

$(BUILD)/mesh-agent: $(call obj,agent/main.c) $(BUILD)/AGENT.a $(BUILD)/LIB.a
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(agent_libs)
$(BUILD)/ui/%.gz: ctl/meshd/ui/%
	@mkdir -p $(@D)
	$(Q)gzip -9nc $< > $@
$(BUILD)/obj/ctl/meshd/page.o $(BUILD)/san/ctl/meshd/page.o: $(UI_SRC) $(UI_SRC:ctl/meshd/%=$(BUILD)/%.gz)
$(BUILD)/meshd: $(call obj,ctl/meshd/main.c) $(BUILD)/MESHD.a $(BUILD)/LIB.a
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(meshd_libs)
$(BUILD)/meshctl: $(call obj,ctl/meshctl/main.c agent/kernel/qualify.c) $(BUILD)/CTL.a $(BUILD)/LIB.a
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(lib_libs) -lbpf -lelf -lz

$(BUILD)/tests/bench/parse $(BUILD)/tests/bench/record_path $(BUILD)/tests/fuzz/http1: $(BUILD)/AGENT.a
$(BUILD)/tests/bench/record_path: lib_libs := $(BUILD)/LIB.a $(agent_libs)
$(BUILD)/tests/bench/recording: $(BUILD)/MESHD.a
$(BUILD)/tests/bench/recording: lib_libs := $(BUILD)/LIB.a $(meshd_libs)
$(BUILD)/obj/tests/bench/floor.o: $(BUILD)/bpf/floor.skel.h
$(BUILD)/tests/bench/floor: lib_libs += -lbpf -lelf -lz
$(DEMOS): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/obj/demo/app.o
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -lpthread
$(TOOLS): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/LIB.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(lib_libs)
# test_meshd_* and test_meshctl_* are linked with those parts, all others with the agent's
unit_part = $(if $(findstring /test_meshd_,$(1)),MESHD,$(if $(findstring /test_meshctl_,$(1)),CTL,AGENT))
.SECONDEXPANSION:
$(UNIT_TESTS): $(BUILD)/%: $(BUILD)/san/%.o $$(BUILD)/$$(call unit_part,$$@).san.a $(BUILD)/LIB.san.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SAN) -o $@ $^ $(agent_libs) -lsqlite3 -lcmocka
$(BPF_TESTS): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/AGENT.a $(BUILD)/LIB.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(agent_libs) -lcmocka
$(E2E_TESTS): $(BUILD)/%: $(BUILD)/obj/%.o $(call obj,$(HARNESS)) $(BUILD)/LIB.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(lib_libs) -lcmocka

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -name '*.d')
