package express

import (
	"sync/atomic"

	"godwit/dataplane/header"
	"godwit/fib"
)

// Neighbor is a neighbour as the state of an earlier process has it.
type Neighbor struct {
	Interface fib.InterfaceID
	Hi, Lo    uint64 // IPv4 is in mapped form
	MAC       header.MAC
}

// Neighbor reads what an entry of the kernel's table of neighbours leads to. It believes
// nothing: the state may be damaged.
func (st *State) Neighbor(a Address, adjacency uint32) (n Neighbor, ok bool) {
	if adjacency == 0 || adjacency >= Adjacencies || a.Scope == 0 {
		return n, false
	}
	i := atomic.LoadUint32(&st.Adjacency[adjacency])
	if i == 0 || i >= Adjacencies {
		return n, false
	}
	n = Neighbor{Interface: fib.InterfaceID(a.Scope), Hi: a.Hi, Lo: a.Lo, MAC: header.MAC(st.Rewrite[i].MAC[:6])}
	return n, n.MAC != header.MAC{} && n.MAC[0]&1 == 0
}
