# The front door. `make run` and `make test` install what is missing, build, and do what they say.
# Everything real is in meson.build; the variables below are the knobs.

BUILD ?= build
CC_FOR ?= cc
MODEL ?=
PROMPT ?= The old house stood
ARGS ?=

.DEFAULT_GOAL := build
.PHONY: build run chat test bench asan tsan fuzz cov format lint setup install clean ci

$(BUILD)/build.ninja: | .setup-done
	CC=$(CC_FOR) meson setup $(BUILD) --buildtype=release

.setup-done:
	tools/setup

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

setup:
	tools/setup

run: build
	@$(BUILD)/cadre run $(MODEL) -p "$(PROMPT)" --echo $(ARGS)

chat: build
	@$(BUILD)/cadre chat $(MODEL) $(ARGS)

test: build
	@tools/setup peer || echo "the peer test will be skipped"
	@tools/setup jinja || echo "the test of chat templates against Jinja2 will be skipped"
	@tools/setup tokenizers || echo "the tokenizers test will be skipped"
	@tools/setup valgrind || echo "the tests under valgrind will be skipped"
	meson test -C $(BUILD) --print-errorlogs

bench: build
	$(BUILD)/cadre bench $(MODEL) $(ARGS)

asan: | .setup-done
	[ -d build-asan ] || CC=clang meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false --buildtype=debugoptimized
	meson test -C build-asan --print-errorlogs

tsan: | .setup-done
	[ -d build-tsan ] || CC=clang meson setup build-tsan -Db_sanitize=thread -Db_lundef=false --buildtype=debugoptimized
	meson test -C build-tsan --print-errorlogs

fuzz: | .setup-done
	tools/fuzz $(SECONDS)

cov: | .setup-done
	tools/setup cov
	[ -d build-cov ] || meson setup build-cov -Db_coverage=true --buildtype=debug
	meson test -C build-cov --print-errorlogs -t 4 --no-suite peer --no-suite tools --no-suite memcheck
	gcovr --root . --filter src/ --filter cli/ --gcov-ignore-parse-errors build-cov/libcadre-internal.a.p build-cov/cadre.p

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

lint: build
	tools/check-layers
	git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror
	tools/setup lint
	git ls-files 'src/*.c' 'cli/*.c' | xargs cppcheck --quiet --std=c11 --enable=warning --error-exitcode=1 \
	  --suppress=autoVariables --suppress=invalidFunctionArg --suppress=returnDanglingLifetime \
	  --suppress=memleakOnRealloc --suppress=preprocessorErrorDirective -Iinclude -Isrc -Icli

install: build
	meson install -C $(BUILD)

clean:
	rm -rf build build-*

