package compiled

import (
	"encoding/binary"
	"testing"
)

// FuzzOps makes changes of bytes: each answer must be the twin's, and what is
// left when all is deleted is nothing.
func FuzzOps(f *testing.F) {
	f.Add([]byte{24, 10, 0, 0, 0, 1, 25, 10, 0, 0, 128, 2, 0x98, 10, 0, 0, 0, 0})
	f.Add([]byte{16, 10, 1, 0, 0, 1, 20, 10, 1, 16, 0, 2, 0, 0, 0, 0, 0, 3, 0x90, 10, 1, 0, 0, 0})
	f.Add([]byte{0x7f, 0x20, 1, 2, 3, 4, 0x40, 0x20, 1, 2, 3, 5, 0x41, 0x20, 1, 2, 3, 6, 0xc0, 0x20, 1, 2, 3, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 6*400 {
			t.Skip("long enough")
		}
		g := newRig(t)
		var addrs [2][]Key
		for ; len(ops) >= 6; ops = ops[6:] {
			k, group := decodeOp(ops)
			if group == 0 {
				g.remove(k)
			} else {
				g.set(k, group)
			}
			half := k.f / IPv6
			addrs[half] = append(addrs[half], g.within(k), g.within(k))
		}
		g.settle()
		for i, f := range []Family{IPv4, IPv6} {
			g.compare(0, f, addrs[i], g.scanned(0, f))
		}
		for len(g.twin.list) > 0 {
			g.remove(g.twin.list[0])
		}
		g.settle()
		for i, f := range []Family{IPv4, IPv6} {
			g.compare(0, f, addrs[i], func(Key) uint32 { return 0 })
		}
	})
}

// decodeOp reads 6 bytes: length, IPv6 from 33 on, deletion in the top bit; 4
// bytes of address, spread over 16 for IPv6; group, 0 deletes too.
func decodeOp(b []byte) (k twinKey, group uint32) {
	n, a := uint(b[0]&0x7f), binary.BigEndian.Uint32(b[1:])
	if group = uint32(b[5]); b[0]&0x80 != 0 {
		group = 0
	}
	if n <= 32 {
		return twinKey{0, IPv4, Key4(a).Mask(n), n}, group
	}
	key := Key{uint64(a)<<32 | uint64(a), uint64(a)<<32 | uint64(a)}
	return twinKey{0, IPv6, key.Mask(n), n}, group
}
