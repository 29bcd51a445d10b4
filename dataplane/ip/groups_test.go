package ip

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/neigh"
	"godwit/fib"
)

// groupRig is groups over ports whose links and gateways can fail.
type groupRig struct {
	t      *testing.T
	now    time.Time
	neigh  *neigh.Table
	groups *Groups
	slots  *ethernet.Slots
	up     [8]bool
}

func newGroupRig(t *testing.T) *groupRig {
	r := &groupRig{t: t, now: time.Unix(1000, 0), neigh: neigh.New(neigh.DefaultLimits), slots: ethernet.NewSlots()}
	r.groups = NewGroups(1, r.neigh)
	for i := range r.up {
		r.up[i] = true
	}
	r.links()
	return r
}

func ifaceID(i int) fib.InterfaceID { return fib.MakeInterfaceID(1, uint16(i+1)) }

func gate(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i), 2}) }

func (r *groupRig) links() {
	var list []ethernet.Interface
	for i, up := range r.up {
		list = append(list, ethernet.Interface{ID: ifaceID(i), Name: "i", Port: fib.MakePortID(1, uint16(i+1)), MTU: 1500, Up: up,
			MAC: [6]byte{2, 0, 0, 0, 0, byte(i)}, Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), 24)}})
	}
	table, err := ethernet.NewTable(1, list, r.slots)
	if err != nil {
		r.t.Fatal(err)
	}
	r.groups.SetInterfaces(table)
	r.neigh.SetInterfaces(r.now, table)
}

func (r *groupRig) set(index uint32, weights ...uint8) {
	g := fib.Group{ID: fib.GroupID(index)}
	for i, w := range weights {
		g.NextHops = append(g.NextHops, fib.NextHop{Interface: ifaceID(i), Gateway: gate(i), Weight: w})
	}
	r.groups.Set(r.now, index, g)
}

// tick lets time pass for the neighbours.
func (r *groupRig) tick(d time.Duration) {
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(100 * time.Millisecond) {
		r.neigh.Tick(r.now)
	}
}

// choices are the interfaces that the flows of a group take.
func (r *groupRig) choices(index uint32) []fib.InterfaceID {
	g := r.groups.Get(index)
	var out []fib.InterfaceID
	for i := range 1 << 12 {
		if g.one != nil {
			out = append(out, g.one.Out)
			continue
		}
		out = append(out, g.pick(uint32(i)<<20|0xabcde).Out)
	}
	return out
}

// TestDeadPortMovesItsFlowsOnly kills and revives ports at random: flows of living members
// stay, those of dead ones are shared out by weight, and all come back.
func TestDeadPortMovesItsFlowsOnly(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		r := newGroupRig(t)
		weights := make([]uint8, 2+rnd.IntN(7))
		for i := range weights {
			weights[i] = uint8(1 + rnd.IntN(4))
		}
		r.set(1, weights...)
		whole := r.choices(1)
		for range 20 {
			i := rnd.IntN(len(r.up))
			r.up[i] = !r.up[i]
			r.links()
			r.check(whole, weights)
		}
	}
}

func (r *groupRig) check(whole []fib.InterfaceID, weights []uint8) {
	r.t.Helper()
	alive := map[fib.InterfaceID]float64{}
	total := 0.0
	for i, w := range weights {
		// A gateway that was down must answer before it gets packets again.
		if _, dead := r.groups.Members(1); !dead[i] {
			alive[ifaceID(i)] = float64(w)
			total += float64(w)
		}
		if _, dead := r.groups.Members(1); !r.up[i] && !dead[i] {
			r.t.Fatalf("member %d is on a dead port and alive", i)
		}
	}
	got := r.choices(1)
	if len(alive) == 0 {
		if !slices.Equal(got, whole) {
			r.t.Fatal("with no member alive the group is not the whole one")
		}
		return
	}
	count := map[fib.InterfaceID]float64{}
	for k, id := range got {
		if alive[id] == 0 {
			r.t.Fatalf("a flow goes to dead %#x", uint32(id))
		}
		if alive[whole[k]] != 0 && whole[k] != id {
			r.t.Fatalf("the flow of a living member moved from %#x to %#x", uint32(whole[k]), uint32(id))
		}
		count[id]++
	}
	for id, w := range alive {
		if share, want := count[id]/float64(len(got)), w/total; share < want*0.7-0.02 || share > want*1.3+0.02 {
			r.t.Fatalf("%#x has %.3f of the flows, want about %.3f (weights %v)", uint32(id), share, want, weights)
		}
	}
}

// TestSilentGatewayIsLeft lets one of two gateways never answer, then answer.
func TestSilentGatewayIsLeft(t *testing.T) {
	r := newGroupRig(t)
	r.set(1, 1, 1)
	mac := [6]byte{2, 0, 0, 0, 1, 1}
	r.neigh.SetStatic(r.now, []neigh.Static{{Interface: ifaceID(0), Address: gate(0), MAC: mac}})
	if got := r.choices(1); !slices.Contains(got, ifaceID(1)) {
		t.Fatal("a gateway that was not asked yet gets no packets")
	}
	r.tick(4 * time.Second) // three requests, a second apart
	if got := r.choices(1); slices.Contains(got, ifaceID(1)) {
		t.Fatal("a silent gateway gets packets")
	}
	if r.groups.Switches() != 1 {
		t.Errorf("%d switches, want 1", r.groups.Switches())
	}
	asked := 0
	r.neigh.Drain()
	for range 10 {
		r.tick(time.Second)
		asked += len(r.neigh.Drain())
	}
	if asked < 3 {
		t.Errorf("a lost gateway was asked %d times in 10 s", asked)
	}
	r.neigh.SetStatic(r.now, []neigh.Static{{Interface: ifaceID(0), Address: gate(0), MAC: mac}, {Interface: ifaceID(1), Address: gate(1), MAC: mac}})
	if got := r.choices(1); !slices.Contains(got, ifaceID(1)) {
		t.Error("a gateway that came back gets no packets")
	}
}

// TestGroupsLeaveNothing sets and frees groups and looks for notes left behind.
// TestFailedPathIsLeft: a neighbour that answers ARP is left all the same while its
// path has failed, known before or not.
func TestFailedPathIsLeft(t *testing.T) {
	r := newGroupRig(t)
	r.neigh.SetPath(neigh.KeyOf(ifaceID(1), gate(1)), true)
	r.set(7, 1, 1, 1)
	for i := range 3 {
		r.neigh.SetStatic(r.now, []neigh.Static{{Interface: ifaceID(i), Address: gate(i), MAC: [6]byte{2, 0, 0, 0, 9, byte(i)}}})
	}
	uses := func(i int) bool { return slices.Contains(r.choices(7), ifaceID(i)) }
	if !uses(0) || uses(1) || !uses(2) {
		t.Errorf("at first: %v %v %v", uses(0), uses(1), uses(2))
	}
	r.neigh.SetPath(neigh.KeyOf(ifaceID(2), gate(2)), true)
	if !uses(0) || uses(2) {
		t.Error("a second path failed")
	}
	before := r.groups.Switches()
	r.neigh.SetPath(neigh.KeyOf(ifaceID(2), gate(2)), true)
	if r.groups.Switches() != before {
		t.Error("the same said again is a change")
	}
	for i := 1; i < 3; i++ {
		r.neigh.SetPath(neigh.KeyOf(ifaceID(i), gate(i)), false)
	}
	if !uses(1) || !uses(2) {
		t.Error("not taken back")
	}
}

func TestGroupsLeaveNothing(t *testing.T) {
	r := newGroupRig(t)
	for i := range uint32(3000) {
		r.set(i+1, 1, uint8(i%3+1), 1)
		r.set(i+1, 1, 1)
	}
	r.up[1] = false
	r.links()
	for i := range uint32(3000) {
		r.groups.Free(r.now, i+1)
	}
	if g := r.groups; len(g.plans)+len(g.byAdj)+len(g.byOut) != 0 {
		t.Errorf("%d plans, %d gateways, %d interfaces left", len(g.plans), len(g.byAdj), len(g.byOut))
	}
	r.tick(30 * time.Second)
	if n := r.neigh.Len(); n != 0 {
		t.Errorf("%d neighbours left", n)
	}
}

// BenchmarkLinkDown is the work of a lost port with 4,096 groups on it.
func BenchmarkLinkDown(b *testing.B) {
	r := &groupRig{now: time.Unix(1000, 0), neigh: neigh.New(neigh.DefaultLimits), slots: ethernet.NewSlots()}
	r.groups = NewGroups(1, r.neigh)
	for i := range r.up {
		r.up[i] = true
	}
	r.links()
	for i := range uint32(4096) {
		r.set(i+1, 1, uint8(i%200+1))
	}
	for b.Loop() {
		r.up[0] = !r.up[0]
		r.links()
	}
}
