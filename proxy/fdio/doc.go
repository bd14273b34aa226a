// Package fdio makes system calls on descriptors that do not block, and waits for them by way of
// Go's network poller. It is to the worker's packages what internal/poll is to net: it knows
// sockets, pipes, memory files and what the kernel says of them, and nothing of what they are for.
// Any of the worker's packages may call it.
package fdio
