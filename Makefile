# fansyncd: GNU make.
#
#   make                          build/fansyncd
#   make SANITIZE=address,undefined   build/asan/fansyncd
#   make V=1 WERROR=1 CC=clang    show commands, warnings are errors, another compiler
#   make run test check bench soak fuzz install uninstall deb deps format clean
#
# Packagers: CFLAGS, CPPFLAGS and LDFLAGS are yours; what the code itself needs is kept apart from them.

VERSION = 0.1.0

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
USERUNITDIR ?= $(PREFIX)/lib/systemd/user
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR ?= $(PREFIX)/share/zsh/site-functions
FISHCOMPDIR ?= $(PREFIX)/share/fish/vendor_completions.d
DOCDIR ?= $(PREFIX)/share/doc/fansyncd
DESTDIR ?=
INSTALL_PLACES = $(foreach v,INSTALL DESTDIR BUILD BINDIR MANDIR UNITDIR USERUNITDIR SYSCONFDIR TMPFILESDIR BASHCOMPDIR \
	ZSHCOMPDIR FISHCOMPDIR DOCDIR,$(v)=$(call quoted,$($(v))))

ifeq ($(origin CC),default)
CC = gcc
endif
PKG_CONFIG ?= pkg-config
INSTALL ?= install
CFLAGS ?= -O2 -g
CPPFLAGS ?=
LDFLAGS ?=
FUZZ_SECONDS ?= 60

ifneq ($(V),1)
Q = @
say = @printf '  %-7s %s\n' $(1) $(2)
MAKEFLAGS += --no-print-directory
endif

# --- flavours: each has its own directory of objects -----------------------------------------------------------------

comma := ,
SANITIZE ?=
ifeq ($(SANITIZE),)
  FLAVOUR_DIR = build
else ifneq ($(filter $(SANITIZE),address$(comma)undefined undefined$(comma)address),)
  FLAVOUR_DIR = build/asan
else ifneq ($(filter $(SANITIZE),address undefined thread),)
  FLAVOUR_DIR = build/sanitize-$(SANITIZE)
else
  $(error SANITIZE=$(SANITIZE): use address,undefined or one of address, undefined, thread)
endif
BUILD ?= $(FLAVOUR_DIR)

# --- flags -----------------------------------------------------------------------------------------------------------

supports = $(shell $(CC) -Werror $(1) -x c -c -o /dev/null /dev/null 2>/dev/null && echo '$(1)')

# Kept in step with the warnings that check-headers.sh and clang-tidy see: both get them from `make print-FLAGS`.
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 \
	-Wundef -Wvla -Wnull-dereference -Wimplicit-fallthrough -Wpointer-arith -Wcast-qual -Wwrite-strings
# Tests use cmocka's macros, which convert freely, and define __wrap_ functions, which have no prototype.
TEST_WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wformat=2 -Wundef -Wvla -Wimplicit-fallthrough \
	-Wpointer-arith -Wwrite-strings
ifeq ($(WERROR),1)
  WERROR_FLAG = -Werror
endif

ifeq ($(SANITIZE),)
  # A Debian compiler may define _FORTIFY_SOURCE itself, and it means nothing without optimisation.
  HARDEN_CFLAGS := $(if $(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) -fstack-protector-strong -fPIE \
	$(call supports,-fstack-clash-protection) $(call supports,-fcf-protection)
  HARDEN_LDFLAGS = -pie -Wl,-z,relro,-z,now
  MODE_CFLAGS = $(CFLAGS)
else
  # At a fixed address what the sanitizers' checks describe needs no relocation: a sixth of each start.
  FIXED := $(if $(findstring address,$(SANITIZE)),yes)
  HARDEN_CFLAGS = -U_FORTIFY_SOURCE $(if $(FIXED),-fno-pie)
  HARDEN_LDFLAGS = $(if $(FIXED),-no-pie)
  # gcc finds null dereferences in code that the sanitizers' checks produced.
  MODE_CFLAGS = $(filter-out -O%,$(CFLAGS)) -O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZE) \
	-fno-sanitize-recover=all -Wno-null-dereference
endif

# pkg-config module and what to link without pkg-config. A library is one line here.
lib_cflags = $(shell $(PKG_CONFIG) --cflags $(1) 2>/dev/null)
lib_libs = $(shell $(PKG_CONFIG) --libs $(1) 2>/dev/null || echo $(2))
LIB_CFLAGS := $(foreach m,libconfig sqlite3 zlib libzstd openssl libseccomp libssh2 libmicrohttpd,$(call lib_cflags,$(m)))
LIBS := $(call lib_libs,libconfig,-lconfig) $(call lib_libs,sqlite3,-lsqlite3) $(call lib_libs,zlib,-lz) $(call lib_libs,libzstd,-lzstd) \
	$(call lib_libs,openssl,-lssl -lcrypto) $(call lib_libs,libseccomp,-lseccomp) \
	$(call lib_libs,libssh2,-lssh2) $(call lib_libs,libmicrohttpd,-lmicrohttpd) -lrsync -lm

BASE_CPPFLAGS = -I. -D_GNU_SOURCE -DFANSYNCD_VERSION='"$(VERSION)"' -DFANSYNCD_SYSCONFDIR='"$(SYSCONFDIR)"' $(LIB_CFLAGS)
ALL_CPPFLAGS = $(BASE_CPPFLAGS) $(CPPFLAGS)
ALL_CFLAGS = -std=gnu11 $(HARDEN_CFLAGS) $(MODE_CFLAGS)
ALL_LDFLAGS = $(HARDEN_LDFLAGS) $(LDFLAGS) $(if $(SANITIZE),-fsanitize=$(SANITIZE))
COMPILE = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP

# --- the program -----------------------------------------------------------------------------------------------------

SRC := $(sort $(wildcard core/*.c transports/*.c config/*.c))
HDR := $(sort $(wildcard core/*.h transports/*.h config/*.h))
OBJ := $(SRC:%.c=$(BUILD)/obj/%.o)

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all run test cover check check-analyzer bench soak fuzz fuzz-keep fuzz-cover fuzzers install uninstall deb deps clean format objects tests FORCE
.PHONY: check-format check-layers check-globals check-banned check-cppcheck check-tidy check-shell check-headers check-man

all: $(BUILD)/fansyncd

$(BUILD)/fansyncd: $(OBJ) $(BUILD)/flags
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(OBJ) $(LIBS)

objects: $(OBJ)

$(BUILD)/obj/tests/%.o: tests/%.c $(BUILD)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) $(TEST_WARNINGS) $(WERROR_FLAG) -c -o $@ $<

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) $(WARNINGS) $(WERROR_FLAG) -c -o $@ $<

# The page is put into the program as it stands.
$(BUILD)/obj/core/web_assets.o: $(wildcard core/page/*)

# Other flags, another compiler: everything is compiled anew.
FLAGS_NOW = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) $(WERROR_FLAG) $(ALL_LDFLAGS) $(LIBS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(call quoted,$(FLAGS_NOW)) | cmp -s - $@ || printf '%s\n' $(call quoted,$(FLAGS_NOW)) >$@
quoted = '$(subst ','\'',$(1))'

print-%:
	@printf '%s\n' $(call quoted,$($*))

# --- test programs ---------------------------------------------------------------------------------------------------
# Each test names the sources that it links in its first lines, so that what a module depends on can't grow unseen:
# /* LINK: core/a.c core/b.c */  /* LIBS: -lfoo */  /* WRAP: malloc read */

TEST_SRC := $(sort $(wildcard tests/unit/*.c tests/property/*.c tests/contract/*.c))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
TOOL_SRC := $(sort $(wildcard tests/lib/*_tool.c))
TEST_BIN := $(TEST_SRC:%.c=$(BUILD)/%) $(TOOL_SRC:%.c=$(BUILD)/%)
FUZZ_BIN := $(FUZZ_SRC:%.c=$(BUILD)/%)

LINK_TEST = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)
ifneq ($(FUZZING),)
  HARDEN_CFLAGS := -U_FORTIFY_SOURCE $(FUZZING)
  HARDEN_LDFLAGS :=
  LINK_FUZZ = $(CC) $(ALL_CFLAGS) $(LDFLAGS) -fsanitize=fuzzer,address,undefined
else
  LINK_FUZZ = $(LINK_TEST)
  FUZZ_DRIVER = $(BUILD)/obj/tests/fuzz/driver.o
endif

tests: $(TEST_BIN) $(FUZZ_BIN)

ifneq ($(filter tests fuzzers $(BUILD)/tests/%,$(MAKECMDGOALS)),)
include $(BUILD)/tests.mk
endif
$(BUILD)/tests.mk: scripts/test-rules.sh $(TEST_SRC) $(TOOL_SRC) $(FUZZ_SRC)
	@mkdir -p $(@D)
	@scripts/test-rules.sh $(BUILD) $(TEST_SRC) $(TOOL_SRC) -- $(FUZZ_SRC) >$@

test: deps
	@tests/run

# Lines and branches of the product that the tests reach (scripts/cover.py): about as long as the tests.
# COVER='unit/test_buf cli.py': only those.
COVER ?=
cover: deps
	@scripts/cover.py run build/cover $(COVER)

# Hours. What fails does not keep the others from running; a summary comes last. SOAK='matrix power': only those.
SOAK ?=
soak: all
	@scripts/deps.sh soak
	@FANSYNCD=$(abspath $(BUILD))/fansyncd tests/soak/run $(SOAK)

# Side by side with others, as root; BENCH='--quick --row burst' and the like (tests/bench/mirrors.py --help).
bench: all
	@scripts/deps.sh bench
	@FANSYNCD=$(abspath $(BUILD))/fansyncd tests/bench/mirrors.py $(BENCH)
	@tests/bench/changeset.sh

# Coverage-guided fuzzing (docs/FUZZING.md), FUZZ_SECONDS of CPU time each; `make test` only replays the corpora and
# mutates them a little. FUZZ='wire frame': only those. fuzz-keep makes what was found the corpora of the tests;
# fuzz-cover says what these reach.
FUZZ ?=
FUZZ_ONLY = $(if $(FUZZ),$(FUZZ:%=$(1)/tests/fuzz/fuzz_%),fuzzers)
MAKE_FUZZ = @$(MAKE) CC=clang BUILD=build/fuzz SANITIZE= CFLAGS='-O1 -g -fno-omit-frame-pointer' \
	FUZZING='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all' $(call FUZZ_ONLY,build/fuzz)
fuzz:
	$(MAKE_FUZZ)
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' scripts/fuzz.py run build/fuzz $(FUZZ)

fuzz-keep:
	$(MAKE_FUZZ)
	@scripts/fuzz.py keep build/fuzz $(FUZZ)

fuzz-cover:
	@$(MAKE) CC=clang BUILD=build/fuzz-cover SANITIZE= CFLAGS='-O1 -g -fprofile-instr-generate -fcoverage-mapping' \
		$(call FUZZ_ONLY,build/fuzz-cover)
	@scripts/fuzz.py cover build/fuzz-cover $(FUZZ)

fuzzers: $(FUZZ_BIN)

# --- checks ----------------------------------------------------------------------------------------------------------

check: check-format check-layers check-banned check-globals check-shell check-man check-headers check-cppcheck check-tidy

check-format:
	@scripts/check-format.sh

check-layers:
	@scripts/check-layers.py

check-banned:
	@scripts/check-banned.py

check-globals: $(OBJ)
	@scripts/check-globals.sh $(OBJ)

check-shell:
	@scripts/check-shell.sh

check-man:
	@scripts/check-man.sh

# Each header compiles alone; its stamp is as new as the objects' flags.
check-headers: $(HDR:%=$(BUILD)/headers/%.ok)
$(BUILD)/headers/%.ok: % $(HDR) $(BUILD)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) -Wno-unused-function -Werror -fsyntax-only -x c $<
	@touch $@

# unknownMacro: cmocka's and our own lists of macros are not expanded for it. One configuration: there is one, which _GNU_SOURCE and
# __linux__ choose; all others would be #error.
check-cppcheck:
	$(call say,CPPCHK,)
	@mkdir -p $(BUILD)/cppcheck
	$(Q)cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,performance,portability \
		--suppress=missingIncludeSystem --suppress=unknownMacro --max-configs=1 -I. -D_GNU_SOURCE -D__linux__ \
		--cppcheck-build-dir=$(BUILD)/cppcheck $(SRC)

# The analyzer takes nearly all of the time. What it knows of other languages than C is left out, and it gives a function up
# after a part of the steps that it would take by itself (225000; `make soak` has it take three times as many: twice the time).
TIDY_NODES ?= 8000
TIDY_CHECKS = $(subst $() ,,$(foreach c,apiModeling.google apiModeling.llvm cplusplus fuchsia nullability optin.cplusplus optin.mpi \
	optin.osx osx webkit,-clang-analyzer-$(c)*$(comma)))
# One stamp a source, newer than its object (so than all that it includes): an unchanged file is not looked at again.
TIDY = $(BUILD)/tidy-$(TIDY_NODES)
check-tidy: $(SRC:%.c=$(TIDY)/%.ok)
$(TIDY)/%.ok: %.c $(BUILD)/obj/%.o .clang-tidy
	$(call say,TIDY,$<)
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet --checks='$(TIDY_CHECKS)' $< -- -std=gnu11 $(ALL_CPPFLAGS) \
		-Xclang -analyzer-config -Xclang max-nodes=$(TIDY_NODES) >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

# gcc's own analyzer: some minutes, so by itself and not with the other checks. What it must not say of which file, and why,
# stands beside it.
include scripts/analyzer.mk
check-analyzer: $(SRC:%.c=$(BUILD)/analyzer/%.ok)
$(BUILD)/analyzer/%.ok: %.c $(BUILD)/obj/%.o scripts/analyzer.mk
	$(call say,ANALYZE,$<)
	@mkdir -p $(@D)
	$(Q)gcc -std=gnu11 $(ALL_CPPFLAGS) -O1 -g -fanalyzer $(ANALYZER_OFF) $(ANALYZER_OFF_$*) -Werror -c -o /dev/null $<
	@touch $@

format:
	@scripts/check-format.sh --fix

# --- install ---------------------------------------------------------------------------------------------------------

run:
	@scripts/deps.sh build
	@$(MAKE) all
	@scripts/demo.sh '$(BUILD)/fansyncd'

deps:
	@scripts/deps.sh all

# What is installed, and where to, is listed in scripts/install.sh.
install: all
	$(Q)$(INSTALL_PLACES) scripts/install.sh install

# As root or not; DEBFULLNAME and DEBEMAIL are yours.
deb:
	@scripts/package/build-deb.sh '$(VERSION)'

uninstall:
	$(Q)$(INSTALL_PLACES) scripts/install.sh uninstall

clean:
	rm -rf build

-include $(OBJ:.o=.d) $(patsubst %.c,$(BUILD)/obj/%.d,$(TEST_SRC) $(FUZZ_SRC) $(wildcard tests/lib/*.c))
