package calls

// withoutShim is all that programs without the shim do not do as those with it, and why: a family
// stands for all of its tests, and a variant's name before it for that variant. What is not here is the
// same for both.
var withoutShim = map[string]string{
	"early":  "a static program has no libraries, whose constructors could connect",
	"lost":   "it is about the library without its worker; without a worker the kernel fails all of these calls",
	"sunrpc": "no static libc has Sun RPC any more",

	"exec/own_preload_is_kept":           "a static program has no LD_PRELOAD that could be kept",
	"exec/own_preload_with_ours_is_kept": "a static program has no LD_PRELOAD that could be kept",
	"exec/again":                         "it is about LD_PRELOAD, which does not grow",
	"exec/old_popen_after_clearenv":      "dlsym finds nothing in a static program",

	"hygiene/a_full_table_is_emfile_and_changes_nothing": "it is no obstacle: see a_full_table_is_no_obstacle",
	"hygiene/a_full_table_on_a_channel_is_emfile":        "it is no obstacle: see a_full_table_is_no_obstacle",

	"traced/exec/a_child_in_a_sandbox_has_its_sockets": "a stopped thread makes calls for the tracer, for which such a filter ends it",
	"traced/hygiene/a_full_table_is_no_obstacle":       "a thread that is traced takes a descriptor by a socket, which needs a number for itself",
	"copied/addresses": "no descriptor is copied for it in another way than for traced",
	"copied/exec":      "no descriptor is copied for it in another way than for traced",
	"copied/hygiene":   "it takes long, and traced does the same",
	"traced/hygiene/nothing_stays_open_after_many_connects": "each of its thousands of calls stops for the tracer, which takes too long; the other tests count what is open, too",
	"copied/stream": "what a connection carries goes by nobody who copies a descriptor",
	"copied/inherit/nothing_leaves_by_what_was_taken":    "it takes by pidfd_getfd, which is not there",
	"connect/refused_nonblocking_told_by_the_first_read": "read and its like are the kernel's, to which a failed setup is a reset",
	"connect/refused_nonblocking_told_by_the_first_send": "send and its like are the kernel's, to which a failed setup is a closed end",

	"listen/clients_words_name_no_sender":   "recvmsg is the kernel's, which names the channel",
	"options/interfaces_are_asked_for":      "ioctl is the kernel's, which asks no interface about a channel",
	"options/what_is_on_its_way_is_counted": "ioctl is the kernel's, which counts the reset byte",
	"stream/the_error_queue_is_empty":       "recv is the kernel's, and a channel does not know MSG_ERRQUEUE",
	"stream/what_is_cut_off_is_dropped":     "recv is the kernel's, and a channel does not know MSG_TRUNC as TCP does",

	"names/datagram_hints_keep_the_address": "a DNS question does not say what kind of socket the answer is for",

	"names/gethostent":                 "it reads /etc/hosts, and nothing of it is asked of anybody",
	"names/gethostbyaddr":              "a question for the name of a synthetic address is the name server's, which has none",
	"names/getnameinfo":                "a question for the name of a synthetic address is the name server's, which has none",
	"static-musl/names/many_addresses": "musl asks by datagrams alone, and takes what fits into one",
	"copied/names/many_addresses":      "musl asks by datagrams alone, and takes what fits into one",
	"names/rcmd_and_rexec_are_refused": "they connect as everything else does, and need not be refused",
}
