package ip

import "godwit/fib"

// FIB is what the nodes ask the tables: fib/patricia's Tables. Results are
// dense group indices, 0 for no route.
type FIB interface {
	LookupBatch4(vrf fib.VRF, addrs []uint32, groups []uint32)
	LookupBatch6(vrf fib.VRF, addrs [][2]uint64, groups []uint32)
}
