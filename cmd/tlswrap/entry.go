package main

// ignoredAtStart has bit n-1 set where signal n was ignored when the process began.
// entry_*.s fills it in before Go's runtime starts, and is linked as the program's
// entry point (see the Makefile); without that it is 0.
var ignoredAtStart uint64
