package inspect

import (
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Loader is a dynamic loader that is started as a program. It maps the program that its
// arguments name, so that one is what has to be looked at.
type Loader struct {
	Library string // for the loader itself, where it starts nothing
	name    string
	options map[string]int
}

// How many arguments an option takes, with itself. With an option that takes 0 the loader
// starts nothing.
var (
	glibcOptions = map[string]int{
		"--inhibit-cache": 1, "--library-path": 2, "--inhibit-rpath": 2, "--audit": 2, "--preload": 2,
		"--argv0": 2, "--glibc-hwcaps-prepend": 2, "--glibc-hwcaps-mask": 2,
		"--list": 0, "--verify": 0, "--list-tunables": 0, "--list-diagnostics": 0, "--help": 0, "--version": 0,
	}
	// musl's --preload takes LD_PRELOAD's place.
	muslOptions = map[string]int{"--library-path": 2, "--argv0": 2, "--list": 0}
)

// isLoaderName tells whether glibc's or musl's loader is called so on some machine: ld.so.1, ld64.so.2,
// ld-linux-x86-64.so.2.
func isLoaderName(name string) bool {
	machine, _, isLibrary := strings.Cut(name, ".so.")
	machine, isLoader := strings.CutPrefix(machine, "ld")
	return isLibrary && isLoader &&
		(machine == "" || machine == "64" || strings.HasPrefix(machine, "-") && !strings.Contains(machine, "\n"))
}

// asLoader returns the dynamic loader in f, or nil.
func asLoader(f *elf.File) *Loader {
	if f.Type != elf.ET_DYN {
		return nil
	}
	names, err := f.DynString(elf.DT_SONAME)
	if err == nil && len(names) == 1 && isLoaderName(names[0]) {
		return &Loader{name: names[0], options: glibcOptions}
	}
	// musl's is its libc, mostly without a name.
	symbols, _ := f.DynamicSymbols()
	if slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "_dlstart" && s.Section != elf.SHN_UNDEF }) {
		return &Loader{name: "musl's loader", options: muslOptions}
	}
	return nil
}

// Argument is what an argument of a loader's means to it.
type Argument struct {
	Program bool // it is the program's file
	Next    int  // it is an option: the next one to look at is so many behind it; 0: nothing is started
}

// Argument tells what an argument means, "" where there are no more.
func (l *Loader) Argument(argument string) (Argument, error) {
	switch next, known := l.options[argument]; {
	case known:
		return Argument{Next: next}, nil
	case argument == "":
		return Argument{}, nil
	case strings.HasPrefix(argument, "--"):
		return Argument{}, fmt.Errorf("it is an option of %s that is not known, or that replaces LD_PRELOAD", l.name)
	case !strings.Contains(argument, "/"):
		return Argument{}, errors.New("a dynamic loader looks for it in folders of its own")
	}
	return Argument{Program: true}, nil
}

// Program finds the program's file among the arguments after the loader's own name: it is
// at, or at is -1 where the loader starts nothing. An error is about the argument at at.
func (l *Loader) Program(arguments []string) (at int, err error) {
	for at < len(arguments) {
		argument, err := l.Argument(arguments[at])
		if err != nil || argument.Program {
			return at, err
		}
		if argument.Next == 0 {
			return -1, nil
		}
		at += argument.Next
	}
	return -1, nil
}
