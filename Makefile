# make            build/stagerun
# make demo       the main job, shown on real files        (installs what it needs)
# make test       every test                               (installs what it needs)
# make unit | e2e | linux-tree | init-table | lint | bundle | install DESTDIR= PREFIX= | deps | clean
# V=1 shows the commands.
# make fuzz FUZZ=decode SECONDS=60     (libFuzzer, with clang; new inputs in build-fuzz/; unpack: libarchive with the sanitizers, too)
# make SAN=address,undefined test     and     make SAN=thread test      in build directories of their own

PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3
JOBS   ?= $(shell nproc)
MAKEFLAGS += -j$(JOBS)

comma := ,
O     ?= build$(if $(SAN),-$(firstword $(subst $(comma), ,$(SAN))))

VERSION := 0.1.0

# Each shared library costs the start of every run a third of a millisecond or so. What is needed from
# the first moment is therefore linked statically where there is a lib*.a, and libcurl, which brings
# thirty others, is loaded when something is fetched (agent/base/libcurl.c). In libarchive.a only
# the formats that are used are linked, not its XML parser.
STATIC := archive uv_a inih yaml expat zstd lzma deflate lz4 bz2 jansson nettle z
SHARED := isal m

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wformat=2 \
	-Wpointer-arith -Wno-missing-field-initializers $(if $(CI),$(if $(SAN),,-Werror))

CFLAGS ?= $(if $(SAN),-O1 -g1,-O2 -g)
HARDEN := -fstack-protector-strong -fPIE $(if $(SAN),,-D_FORTIFY_SOURCE=2)
override CPPFLAGS += -D_GNU_SOURCE -iquote include -DSTAGERUN_VERSION='"$(VERSION)"'
override CFLAGS   += -std=gnu11 -pthread $(WARN) $(HARDEN) \
	$(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
override LDFLAGS  += -pie -Wl,-z,relro,-z,now
# Expanded when used: `make test` installs the packages first.
lib_file = $(filter /%,$(shell $(CC) -print-file-name=lib$(1).a))
override LDLIBS   += $(foreach l,$(STATIC),$(or $(call lib_file,$(l)),-l$(l:_a=))) $(SHARED:%=-l%)

SRC  := $(filter-out agent/main.c,$(wildcard agent/*.c agent/*/*.c agent/*/*/*.c hooks/*.c))
UNIT := $(wildcard tests/unit/*.c)
LIB  := $(O)/libstagerun.a
Q    := $(if $(V),,@)
obj   = $(patsubst %.c,$(O)/obj/%.o,$(1))

.PHONY: all deps demo test unit e2e linux-tree init-table fuzz bench bench-datastores bench-warm bench-resume lint bundle install clean
all: $(O)/stagerun

# Everything but main.c is a library, linked by the program, the tests and the fuzzers.
$(O)/stagerun: $(call obj,agent/main.c) $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# The tests also write archives, in formats that would bring libraries for their static counterparts.
$(O)/unit: $(call obj,$(UNIT)) $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(patsubst %/libarchive.a,-larchive,$(LDLIBS)) -lcmocka
$(LIB): $(call obj,$(SRC))
	$(Q)rm -f $@ && $(AR) qcs $@ $^
$(O)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)

# What was built before the packages were there would be built without them.
ifneq ($(filter test demo bench bench-datastores bench-warm bench-resume,$(MAKECMDGOALS)),)
$(call obj,agent/main.c $(SRC) $(UNIT) $(wildcard tests/bench/*.c)): | deps
endif

deps:
	@packaging/deps $(MORE_DEPS)

demo: $(O)/stagerun
	STAGERUN=$(abspath $<) packaging/demo/run

export STAGERUN_TEST_BUILD := $(abspath $(O))
export ASAN_OPTIONS  ?= detect_leaks=1:abort_on_error=0:exitcode=99
export LSAN_OPTIONS  ?= suppressions=$(abspath tests/lsan.supp):print_suppressions=0
export UBSAN_OPTIONS ?= print_stacktrace=1
export TSAN_OPTIONS  ?= exitcode=99:suppressions=$(abspath tests/tsan.supp)
# The kernel's address randomisation can use more bits than the sanitizers' maps allow.
UNRANDOM := $(if $(SAN),setarch -R)

# Where the agent is one thread that starts programs, the thread sanitizer has nothing to see.
ONE_THREAD := actions bundle config dependencies documents dry_run end_actions exec faultserver grid_example \
	hook_command hooks job_control logs oom redaction runc samples slips supervise trees
# SHORT=1, for the gate: under a sanitizer only what fetches, parses and writes, or what several threads share.
SHORT_address := config datastore_fetch fetch_formats hostile_archives publish resume sources
SHORT_thread  := cache resume signals slow_disk
UNITS_thread  := ahead block budget cache cancel create crew fetch index lease pace stage throttle transfer tree zip
SAN_NAME := $(firstword $(subst $(comma), ,$(SAN)))
E2E := $(or $(if $(SHORT),$(SHORT_$(SAN_NAME):%=tests/e2e/test_%.py)),tests/e2e)
PYTEST := $(PYTHON) -m pytest -q -p no:cacheprovider -n 4 $(E2E) \
	$(if $(filter thread,$(SAN_NAME)),$(ONE_THREAD:%=--ignore=tests/e2e/test_%.py))

UNITS := $(or $(if $(SHORT),$(UNITS_$(SAN_NAME):%=%*)),*)
RUN_UNITS = for t in $(UNITS:%='%'); do $(UNRANDOM) $(O)/unit -j 6 "$$t" || exit 1; done

unit: $(O)/unit
	$(UNRANDOM) $(O)/unit -j 6 $(T)
e2e: $(O)/stagerun $(O)/bench/slowfs
	$(UNRANDOM) $(PYTEST) $(T)
test: $(O)/unit $(O)/stagerun $(O)/bench/slowfs
	@$(RUN_UNITS)
	$(UNRANDOM) $(PYTEST)

# The heavy check, by hand: Debian's Linux source in every format, compared with GNU tar's tree.
linux-tree: $(O)/stagerun
	$(PYTHON) tests/e2e/linux_tree $(T)

# The agent beside other inits, each under the same checks: the table of ARCHITECTURE.md.
init-table: MORE_DEPS := tini dumb-init catatonit hyperfine
init-table: deps $(O)/stagerun
	$(PYTHON) tests/e2e/init_table

BENCH := $(addprefix $(O)/bench/,slowfs measure floor_write floor_inflate)
$(O)/bench/slowfs: BENCH_LIBS := -lfuse3
$(O)/bench/floor_write: BENCH_LIBS := -larchive
$(O)/bench/floor_inflate: BENCH_LIBS := -ldeflate
$(O)/bench/floor_write $(O)/bench/floor_inflate: $(call obj,tests/bench/floor.c)
$(BENCH): $(O)/bench/%: $(call obj,tests/bench/%.c)
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(BENCH_LIBS)
bench: MORE_DEPS := aria2 fuse3 hyperfine isal linux-source-6.1 rclone
bench: $(O)/stagerun $(BENCH)
	$(PYTHON) tests/bench/run --build $(O) $(B)

FUZZ    ?= decode
SECONDS ?= 60
fuzz:
	$(if $(filter unpack,$(FUZZ)),tests/fuzz/libarchive build-fuzz/libarchive \
		-fsanitize=fuzzer-no-link$(comma)address$(comma)undefined -fno-sanitize-recover=all)
	$(MAKE) CC=clang SAN=fuzzer-no-link,address,undefined O=build-fuzz build-fuzz/fuzz-$(FUZZ)
	mkdir -p build-fuzz/corpus/$(FUZZ)
	cd build-fuzz && setarch -R ./fuzz-$(FUZZ) -max_total_time=$(SECONDS) -timeout=20 \
		corpus/$(FUZZ) ../tests/fuzz/corpus/$(FUZZ)
# build/replay-decode FILE...: a crash of the fuzzer, under a debugger.
$(O)/fuzz-%: $(O)/obj/tests/fuzz/fuzz_%.o $(LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ \
		$(if $(filter unpack,$*),$(patsubst %/libarchive.a,$(O)/libarchive/libarchive.a,$(LDLIBS)),$(LDLIBS))
$(O)/replay-%: $(O)/obj/tests/fuzz/fuzz_%.o $(O)/obj/tests/fuzz/replay.o $(LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

bench-datastores: MORE_DEPS := linux-source-6.1 rclone
bench-datastores: $(O)/stagerun $(O)/bench/measure
	$(PYTHON) tests/bench/datastores --build $(O) $(B)

bench-warm: $(O)/stagerun
	$(PYTHON) tests/bench/warm --build $(O) $(B)

bench-resume: $(O)/stagerun
	$(PYTHON) tests/bench/resume --build $(O) $(B)

lint:
	tests/lint/run

bundle: $(O)/stagerun
	packaging/bundle/make $(O)/stagerun $(O)/bundle

install: $(O)/stagerun
	install -Dm755 $(O)/stagerun $(DESTDIR)$(PREFIX)/bin/stagerun
	install -Dm644 agent.ini.example $(DESTDIR)$(PREFIX)/share/doc/stagerun/agent.ini.example
	install -Dm644 packaging/man/stagerun.1 $(DESTDIR)$(PREFIX)/share/man/man1/stagerun.1
	install -Dm644 packaging/man/config.yml.5 $(DESTDIR)$(PREFIX)/share/man/man5/stagerun-config.yml.5
	install -Dm644 packaging/man/agent.ini.5 $(DESTDIR)$(PREFIX)/share/man/man5/stagerun-agent.ini.5
	install -Dm644 packaging/man/stagerun-hooks.5 $(DESTDIR)$(PREFIX)/share/man/man5/stagerun-hooks.5
	install -Dm644 packaging/man/stagerun-store.5 $(DESTDIR)$(PREFIX)/share/man/man5/stagerun-store.5

clean:
	rm -rf build build-*
