# SPDX-License-Identifier: MIT
#
#   apt-get update && apt-get install -y make       (a machine that has nothing yet)
#   make demo                                       (builds it, and shows what it does)
#
# "make help" lists the rest. What is built goes to build/ and nowhere else.

BUILD   ?= build
CNI_BIN ?= /opt/cni/bin
SBIN    ?= /usr/local/sbin
MAN     ?= /usr/local/share/man
UNITS   ?= /usr/local/lib/systemd/system
DESTDIR ?=
LUA     ?= lua5.4
JOBS    ?= 1
KERNEL  ?=
ONLY    ?=
VERSION := 0.1.0

# 0: without the stored Lua state (host/image.h), and position-independent. Starts some 0.7 ms later.
IMAGE  ?= 1
ifdef SANITIZE
override IMAGE := 0
endif

CC     := gcc
CFLAGS ?= -O2 -g
WARN   := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wformat-security \
          $(if $(filter 1 true,$(CI) $(WERROR)),-Werror)
FLAGS  := -std=c11 -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -fPIC -ffunction-sections -fno-asynchronous-unwind-tables $(CFLAGS) \
          $(WARN) $(SANITIZE) -DIMAGE=$(IMAGE) -I/usr/include/lua5.4 -Inetlink-bindings -Ihost
# Only libc and libmnl are looked for when the program starts: Debian has no static libmnl.
LINK   := $(SANITIZE) -Wl,--hash-style=gnu -Wl,-z,lazy -Wl,--gc-sections -Wl,--as-needed \
          -Wl,--wrap=malloc,--wrap=realloc,--wrap=free \
          $(if $(filter 0,$(IMAGE)),-pie,-no-pie -Wl,--section-start=luaimage=0x10000000) $(LDFLAGS)
LIBS   := -Wl,-Bstatic -llua5.4 -llua5.4-cjson -Wl,-Bdynamic -lmnl

SOURCES  := $(wildcard host/*.c netlink-bindings/*.c netlink-bindings/*/*.c)
HOST     := $(patsubst %.c,$(BUILD)/%.o,$(wildcard host/*.c)) $(BUILD)/embedded.o
BINDINGS := $(patsubst %.c,$(BUILD)/%.o,$(filter netlink-bindings/%,$(SOURCES)))
SCRIPTS  := $(sort $(shell find lua plugins -name '*.lua'))
PAGES    := luacni.8 luacni-plugin.7 luacni-conf.5
TYPES    := $(patsubst plugins/%.lua,%,$(wildcard plugins/*.lua))
BIN      := $(DESTDIR)$(CNI_BIN)
Q        := $(if $(V),,@)

.DELETE_ON_ERROR:
.PHONY: all man doc deps fetched test asan fuzz lint bench demo types install uninstall clean help FORCE

all: $(BUILD)/netlink.so $(BUILD)/cni-bin/.types ## the program, the Lua module, a folder of links (default)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/netlink.so: $(BINDINGS)
	$(Q)$(CC) -shared $(SANITIZE) -o $@.new $^ -lmnl && mv $@.new $@

# What specs need in C: killat kills a plugin at its n-th change or lets a call fail, look takes a
# quick look, answer plays a machine behind a tap, pour sends as fast as it can. Static, since a start is what costs on the second kernel.
HELPERS := $(addprefix $(BUILD)/,killat look answer pour)
$(HELPERS): $(BUILD)/%: spec-tests/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -static -o $@.new $< && mv $@.new $@

# A module for the specs' interpreter, which runs commands; what the second kernel is started with.
SHARED := $(addprefix $(BUILD)/,spawn.so xstate.so)
$(SHARED): $(BUILD)/%.so: spec-tests/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -shared -o $@.new $< && mv $@.new $@

$(BUILD)/luacni.bare: $(HOST) $(BINDINGS) $(BUILD)/image.chosen
	$(Q)$(CC) $(LINK) -o $@.new $(HOST) $(BINDINGS) $(LIBS) && mv $@.new $@

# The program loads all its scripts once, now, and keeps the memory they are in: host/image.h.
$(BUILD)/luacni: $(BUILD)/luacni.bare
ifeq ($(IMAGE),0)
	$(Q)cp $< $@.new && mv $@.new $@
else
	$(Q)env -i $< --make-image $(BUILD)/image
	$(Q)objcopy --update-section luaimage=$(BUILD)/image $< $@.new
	$(Q)env -i $@.new --version >/dev/null && mv $@.new $@
endif

$(BUILD)/embedded.c: host/embed.lua $(BUILD)/scripts.list $(SCRIPTS)
	$(Q)$(LUA) host/embed.lua $(BUILD)/embedded $(SCRIPTS)

$(BUILD)/embedded.o: $(BUILD)/embedded.c
	$(Q)$(CC) $(FLAGS) -c -o $@ $<

$(BUILD)/host/alloc.o: $(BUILD)/image.chosen

# Written only when it differs.
$(BUILD)/image.chosen: FORCE
	@mkdir -p $(@D)
	@echo '$(IMAGE)' | cmp -s - $@ || echo '$(IMAGE)' > $@

# Written only when it differs, so that a script that is gone is noticed like one that is new.
$(BUILD)/scripts.list: FORCE
	@mkdir -p $(@D)
	@echo '$(SCRIPTS)' | cmp -s - $@ || echo '$(SCRIPTS)' > $@

$(BUILD)/cni-bin/.types: $(BUILD)/luacni $(BUILD)/scripts.list
	@mkdir -p $(@D)
	@ln -sfn ../luacni $(@D)/luacni
	@for t in $(TYPES); do [ -L $(@D)/$$t ] || ln -s luacni $(@D)/$$t; done
	@for l in $(@D)/*; do case " luacni $(TYPES) " in *" $${l##*/} "*) ;; *) rm -f "$$l" ;; esac; done
	@touch $@

deps: ## install the Debian packages that are missing (DEPS=build, DEPS=demo: only those for that)
	@packages=$$(awk '!/^#/ && $$2 != "unpack" && ("$(DEPS)" == "" || $$2 == "build" || $$2 == "$(DEPS)") { print $$1 }' \
		packages.txt); \
	missing=$$(for p in $$packages; do \
		dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; \
	done); \
	[ -z "$$missing" ] && exit 0; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get install -qq -y --no-install-recommends $$missing </dev/null >/dev/null 2>&1 || { \
		apt-get update -qq && \
		apt-get install -qq -y --no-install-recommends $$missing </dev/null >/dev/null; }

# What has services is not installed: its programs lie below the build folder, where spec-tests/run finds them.
UNPACKED := $(shell awk '$$2 == "unpack" { print $$1 }' packages.txt)
fetched: $(UNPACKED:%=$(BUILD)/unpacked/%/.fetched)

$(BUILD)/unpacked/%/.fetched:
	@rm -rf $(@D) && mkdir -p $(@D)
	@cd $(@D) && get() { apt-get download -qq -o APT::Sandbox::User=root $*; } && \
		{ get 2>/dev/null || { apt-get update -qq && get; }; } && dpkg -x *.deb . && rm *.deb && touch .fetched

RUN := spec-tests/run -j $(JOBS) $(if $(ALL),-a) $(if $(ONLY),-v -k '$(ONLY)')

test: deps fetched ## all specs, as root. SPECS="NAME...": some; ONLY=PATTERN: tests of such names; KERNEL=second, KERNEL=stock: on another kernel; ALL=1: sweeps leave nothing out
	@$(MAKE) --no-print-directory -s all $(HELPERS) $(SHARED)
	@LUACNI_BUILD=$(BUILD) $(RUN) $(if $(KERNEL),-K $(KERNEL)) $(SPECS)

# Those that are about what the C does; what more there is to a Lua module, or to another type, asks nothing of
# it that these do not. What goes the same way many times goes it less often (t.sanitized in spec-tests/support.lua),
# and of those that take longest one is due each day.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ASAN_LONG  := types/portmap types/bandwidth sweeps/parallel record/gc_batch
ASAN_SPECS := $(filter-out %/make_doc_spec.lua %/schema_spec.lua %/pages_spec.lua,\
                $(wildcard $(addsuffix /*_spec.lua,$(addprefix spec-tests/,netlink program))))\
              $(addprefix spec-tests/,$(addsuffix _spec.lua,sweeps/fuzz\
                $(if $(ALL),$(ASAN_LONG),$(word $(shell expr $$(date -u +%j) % 4 + 1),$(ASAN_LONG)))\
                protocol/json protocol/call_end protocol/protocol protocol/paths\
                types/bridge types/tap\
                world/look record/attachment_lock record/detached record/leases\
                record/leases_survival people/cli_trace people/cli_update people/nft_verbs people/req_verbs\
                people/repair_watch people/traces))

$(BUILD)/asan/.built: FORCE
	@$(MAKE) --no-print-directory all BUILD=$(BUILD)/asan CFLAGS="-O1 -g" SANITIZE="$(SANITIZERS)"
	@$(MAKE) --no-print-directory $(BUILD)/asan/spawn.so BUILD=$(BUILD)/asan

asan: deps fetched $(BUILD)/asan/.built ## the specs with a build that watches memory and undefined behaviour
	@LUACNI_BUILD=$(BUILD)/asan $(RUN) -K own $(or $(SPECS),$(ASAN_SPECS))

fuzz: deps $(BUILD)/asan/.built ## the same build gets FUZZ=1000000 changed answers of the kernel, and as many messages of others; FUZZ_SEED=NUMBER
	@LUACNI_FUZZ=$(or $(FUZZ),1000000) LUACNI_FUZZ_SEED=$(or $(FUZZ_SEED),$(shell date +%s)) \
		LUACNI_BUILD=$(BUILD)/asan $(RUN) -v -K own fuzz dissect

lint: doc ## luacheck; both compilers' warnings as errors; nothing includes what is above it; make doc
	@luacheck -q lua plugins examples spec-tests host
	@for cc in gcc clang; do for f in $(SOURCES); do \
		$$cc $(FLAGS) -Werror -fsyntax-only $$f || exit 1; done; done

# LDoc wants a module's own file before the others of it. What it only warns of is an error.
DOCUMENTED = $(filter lua/%,$(SCRIPTS)) $(foreach tag,module submodule,$(shell grep -l '^@$(tag) ' $(SOURCES)))

doc: deps ## HTML of the library and the bindings, by LDoc, in build/doc; what is undocumented is an error
	@$(LUA) host/lint.lua $(SOURCES) $(wildcard host/*.h netlink-bindings/*.h netlink-bindings/*/*.h) $(SCRIPTS)
	@mkdir -p $(BUILD) && rm -rf $(BUILD)/doc
	@{ cat host/doc.ld; echo 'package = "$(CURDIR)/"'; \
		printf 'file = {'; printf ' "%s",' $(abspath $(DOCUMENTED)); echo ' }'; } >$(BUILD)/doc.ld
	@ldoc -q -c $(BUILD)/doc.ld -d $(abspath $(BUILD)/doc) --fatalwarnings . >/dev/null

include spec-tests/bench/bench.mk

bench: all $(BUILD)/bench/limit $(BUILD)/bench/measure $(BUILD)/bench/flood ## measure against the reference plugins and the kernel's own time; KERNEL=second: what this kernel cannot do
ifeq ($(KERNEL),second)
	@dir=$$(mktemp -d) && BUILD=$(BUILD) BENCH_CASES=$${BENCH_CASES-$$(BENCH_CASES=missing $(LUA) spec-tests/bench/bench.lua)} \
		spec-tests/second-kernel $$dir $(LUA) spec-tests/bench/bench.lua; \
		status=$$?; cat $$dir/output; rm -rf $$dir; exit $$status
else
	@for what in $(BENCH); do BUILD=$(BUILD) $(LUA) spec-tests/bench/$$what.lua || exit 1; done
endif

demo: ## join two sandboxes to a bridge network, and show what happens, step by step
	@$(MAKE) --no-print-directory deps DEPS=demo
	@$(MAKE) --no-print-directory all
	@spec-tests/demo $(BUILD)/cni-bin

types: all ## write the types and their keys, as the scripts declare them, into TYPES.md
	@{ sed '/^###/,$$d' TYPES.md; $(BUILD)/luacni doc --markdown; } >$(BUILD)/TYPES.md && cp $(BUILD)/TYPES.md TYPES.md

$(BUILD)/man/%: $(BUILD)/luacni host/man.sh
	@mkdir -p $(@D)
	@env -i PATH="$(PATH)" host/man.sh $< $* >$@.scd && scdoc <$@.scd >$@.new && mv $@.new $@

man: $(addprefix $(BUILD)/man/,$(PAGES)) ## man pages luacni(8), luacni-conf(5), luacni-plugin(7), of what the program says of itself

install: all $(if $(shell command -v scdoc),man) ## the program and a link for each type in CNI_BIN (/opt/cni/bin), a link in SBIN (/usr/local/sbin), man pages in MAN, units for systemd in UNITS, below DESTDIR
	@install -d $(BIN) $(DESTDIR)$(SBIN)
	@strip -o $(BIN)/.luacni.new $(BUILD)/luacni && chmod 0755 $(BIN)/.luacni.new
	@mv -fT $(BIN)/.luacni.new $(BIN)/luacni
	@for t in $(TYPES); do ln -sfnT luacni $(BIN)/.luacni.link && \
		mv -fT $(BIN)/.luacni.link $(BIN)/$$t || exit 1; done
	@ln -sfnT $(CNI_BIN)/luacni $(DESTDIR)$(SBIN)/.luacni.link && \
		mv -fT $(DESTDIR)$(SBIN)/.luacni.link $(DESTDIR)$(SBIN)/luacni
	@for p in $(PAGES); do [ ! -f $(BUILD)/man/$$p ] || \
		install -D -m 0644 $(BUILD)/man/$$p $(DESTDIR)$(MAN)/man$${p##*.}/$$p || exit 1; done
	@[ -f $(BUILD)/man/luacni.8 ] || echo "without man pages: scdoc is not installed"
	@install -d $(DESTDIR)$(UNITS)
	@for u in $(notdir $(wildcard host/units/*)); do \
		sed 's|@SBIN@|$(SBIN)|' host/units/$$u >$(DESTDIR)$(UNITS)/$$u || exit 1; done
	@echo "luacni $(VERSION) is in $(BIN), for $(TYPES); and in $(DESTDIR)$(SBIN)"

uninstall: ## take that away again; a program of one of these names that is not ours stays
	@for f in $(BIN)/* $(DESTDIR)$(SBIN)/luacni; do case $$(readlink "$$f") in \
		luacni | $(CNI_BIN)/luacni) rm -f "$$f" && echo "removed $$f" ;; esac; done
	@for p in $(PAGES); do f=$(DESTDIR)$(MAN)/man$${p##*.}/$$p; [ ! -f $$f ] || { rm -f $$f && echo "removed $$f"; }; done
	@for u in $(notdir $(wildcard host/units/*)); do f=$(DESTDIR)$(UNITS)/$$u; \
		[ ! -f $$f ] || { rm -f $$f && echo "removed $$f"; }; done
	@[ ! -f $(BIN)/luacni ] || { rm -f $(BIN)/luacni && echo "removed $(BIN)/luacni"; }

clean: ## remove build/
	@rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^#   //p' Makefile | head -2
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

-include $(HOST:.o=.d) $(BINDINGS:.o=.d)
