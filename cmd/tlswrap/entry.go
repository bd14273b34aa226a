package main

// ignoredAtStart has bit n-1 set where signal n was ignored when the process began.
// entry_*.s fills it in before Go's runtime starts, and is linked as the program's
// entry point (see the Makefile); without that it is 0.
var ignoredAtStart uint64

// entered is set where entry_*.s came first. Then a process called goressl is a worker in
// a session of its own, and nobody's child, when main begins.
var entered bool
