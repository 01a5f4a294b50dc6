# SPDX-License-Identifier: MIT
# The programs `make bench` needs beside ours. Included by the Makefile at the root.

# Which of them: calls; a chain of plugins, on an empty and a full node; packets to published ports.
BENCH ?= bench chain packets

BENCH_CFLAGS := -std=c11 -D_GNU_SOURCE -O2 $(WARN)

$(BUILD)/bench/limit: $(wildcard spec-tests/bench/limit*.c spec-tests/bench/limit.h)
	@mkdir -p $(@D)
	$(Q)$(CC) $(BENCH_CFLAGS) -o $@ $(filter %.c,$^) -lmnl

# Static and small: a process inherits the peak memory of the one that started it.
$(BUILD)/bench/measure: spec-tests/bench/measure.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BENCH_CFLAGS) -static -o $@ $<

$(BUILD)/bench/flood: spec-tests/bench/flood.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BENCH_CFLAGS) -o $@ $<
