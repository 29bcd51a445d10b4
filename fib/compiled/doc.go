// Package compiled holds the lookup tables that forwarding workers read: for
// every VRF one IPv4 and one IPv6 multibit trie, in one flat array of 32-bit
// words outside the Go heap.
//
// # Layout
//
// The array starts with the directory: dirWords words for each VRF number
// (root entry and default group of IPv4, then of IPv6). Behind it are blocks
// of 8, 16, 256, 4,096 or 65,536 words, aligned to their size.
// References are word numbers, so the array may lie anywhere.
//
//	entry   0LLL LLLL LGGG…G   leaf: prefix length (bits 27-20), group (bits 19-0)
//	        1000 R…R           skip at word R (bits 27-0)
//	        1CCC R…R           node at word R: 2^(4·CCC) entries
//	node    entries, indexed by the next 4·CCC bits of the address
//	skip    key (4 words, most significant first), key length n, hit, miss, unused:
//	        an address that agrees with the key in its first n bits goes on with
//	        the entry hit at bit n, any other ends with the leaf miss
//
// Prefixes are expanded into the leaves that they cover (leaf pushing); the
// length in a leaf tells the writer which of two prefixes owns it. The default
// route is kept apart, so that setting it does not touch the trie.
//
// A node of stride s becomes one of stride s+4 when enough of its entries lead
// further down (growAt), and goes back when fewer than half of that would:
// dense regions are indexed directly, sparse ones are skipped. Large tables have
// a root of 16 bits, which stays in the second-level cache; in a full IPv4
// table one more access serves 98 % of the announced addresses.
//
// # Promises
//
// One goroutine (the writer) changes tables; any goroutine looks up, at any
// time, without a lock or an allocation. Every change that a reader can see is
// the store of one word, so an address resolves to the route before or after
// a change and to nothing else. A block that readers may still hold is reused
// only after a grace period: see Reader. A goroutine that looks up concurrently
// with the writer must hold an online Reader.
//
// A lookup is a loop of at most 2 rounds for 4 bits of address, of shifts,
// adds and loads only: a BPF program can run it on the same memory.
package compiled
