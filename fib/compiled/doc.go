// Package compiled holds the lookup tables that forwarding workers read: for
// every VRF one IPv4 and one IPv6 multibit trie, in one flat array of 32-bit
// words outside the Go heap.
//
// # Layout
//
// Words are numbered from 0, in the byte order of the machine. References are word numbers below
// 2^27, so the array may lie anywhere, and be copied anywhere (see SetMirror).
//
//	word 0                               the directory, 4 words for each VRF number 0 … 65,535
//	     4·vrf+0   root entry of IPv4
//	     4·vrf+1   group of 0.0.0.0/0, 0: none
//	     4·vrf+2   root entry of IPv6
//	     4·vrf+3   group of ::/0, 0: none
//	word 262,144                         blocks of 8, 16, 256, 4,096 or 65,536 words,
//	                                     aligned to their size
//
//	         31 30 28 27      20 19                     0
//	        ┌──┬─────┬──────────┬────────────────────────┐
//	leaf    │ 0│ 000 │ length   │ group (0: the default) │
//	        ├──┼─────┼──────────┴────────────────────────┤
//	skip    │ 1│ 000 │ word number of a block of 8        │
//	        ├──┼─────┼───────────────────────────────────┤
//	node    │ 1│ ccc │ word number of a block of 2^(4·ccc)│   ccc from 1 to 4
//	        └──┴─────┴───────────────────────────────────┘
//
//	node    [entry 0][entry 1] … [entry 2^(4·ccc)-1]     by the next 4·ccc bits of the address
//	skip    [key0][key1][key2][key3][n][hit][miss][–]    key0 has the first 32 bits of the key;
//	                                                     1 ≤ n ≤ 32 (IPv4) or 128 (IPv6)
//
// A leaf's length is that of the prefix it stands for (0: the default route or
// none); readers need the group only. The entry 0 of an empty table is the
// leaf without a route. In a skip, hit is any entry, miss a leaf.
//
// # Lookup
//
//	e = word[4·vrf + family]             family: 0 IPv4, 2 IPv6
//	pos = 0                              bits of the address that are done
//	while bit 31 of e is set:
//	    w, ref = 4·(e>>28 & 7), e & 0x0fffffff
//	    if w != 0:                       a node
//	        e = word[ref + bits pos … pos+w-1 of the address]
//	        pos = pos + w
//	    else:                            a skip: keys count from bit 0 of the address
//	        n = word[ref+4]
//	        if the first n bits of the address are those of word[ref] … word[ref+3]:
//	            e, pos = word[ref+5], n
//	        else:
//	            e = word[ref+6]          a leaf: the end
//	group = e & 0xfffff
//	if group == 0: group = word[4·vrf + family + 1]
//
// Each round takes a step of at least 1 bit, and pos is a multiple of 4 at
// each node; two skips never follow each other without a node between them or a
// difference in their misses. The rounds of an address are at most 16 in IPv4 and
// 64 in IPv6; the real full table needs 2 and 6 for all but 1 in 1,000 of its
// announced addresses. A BPF program bounds its loop and treats what is left
// over as "no answer". Nothing but loads, shifts, adds and compares is needed.
//
// # Growth
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
package compiled
