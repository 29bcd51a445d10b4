package bfd

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// TestGolden: the layout of RFC 5880, 4.1, byte by byte.
func TestGolden(t *testing.T) {
	p := Packet{Diag: DiagNeighborDown, State: Up, Poll: true, Independent: true, Multiplier: 3, My: 0x01020304, Your: 0x0a0b0c0d,
		MinTx: 50_000, MinRx: 300_000, MinEcho: 10_000}
	want := "23e80318" + "01020304" + "0a0b0c0d" + "0000c350" + "000493e0" + "00002710"
	b := p.Append(nil)
	if got := hex.EncodeToString(b); got != want {
		t.Fatalf("packet %s, want %s", got, want)
	}
	back, body, auth, why := Decode(append(b, 0xee)) // what follows in the datagram is not ours
	if why != passed || back != p || auth != nil || !bytes.Equal(body, b) {
		t.Errorf("decoded %+v %v", back, why)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := Packet{State: Up, Multiplier: 3, My: 1, Your: 2}
	for _, c := range []struct {
		name string
		harm func([]byte) []byte
		want Drop
	}{
		{"empty", func([]byte) []byte { return nil }, DropShort},
		{"short", func(b []byte) []byte { return b[:23] }, DropShort},
		{"version 0", func(b []byte) []byte { b[0] = 0; return b }, DropVersion},
		{"version 2", func(b []byte) []byte { b[0] = 2 << 5; return b }, DropVersion},
		{"length below header", func(b []byte) []byte { b[3] = 23; return b }, DropLength},
		{"length above datagram", func(b []byte) []byte { b[3] = 25; return b }, DropLength},
		{"A bit without a section", func(b []byte) []byte { b[1] |= bitAuth; return b }, DropLength},
		{"section too short", func(b []byte) []byte { b[1] |= bitAuth; b[3] = 26; return append(b, 1, 3) }, DropAuth},
		{"section too long", func(b []byte) []byte { b[1] |= bitAuth; b[3] = 26; return append(b, 1, 1) }, DropAuth},
		{"multiplier", func(b []byte) []byte { b[2] = 0; return b }, DropMultiplier},
		{"multipoint", func(b []byte) []byte { b[1] |= bitMultipoint; return b }, DropMultipoint},
		{"my discriminator", func(b []byte) []byte { clear(b[4:8]); return b }, DropMyDiscriminator},
		{"your discriminator", func(b []byte) []byte { clear(b[8:12]); return b }, DropYourDiscriminator},
	} {
		if _, _, _, why := Decode(c.harm(good.Append(nil))); why != c.want {
			t.Errorf("%s: %v, want %v", c.name, why, c.want)
		}
	}
}

func TestDatagrams(t *testing.T) {
	payload := []byte("payload that is odd")
	for _, pair := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "fe80::2"}} {
		src, dst := netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])
		b := appendDatagram([]byte("before"), src, dst, 50001, PortControl, payload)[6:]
		d, why := parse(b)
		if why != passed || d.src != src || d.dst != dst || d.ttl != 255 || d.port != PortControl || !bytes.Equal(d.payload, payload) {
			t.Errorf("%v: %+v %v", src, d, why)
		}
		if _, why := parse(append(bytes.Clone(b), 0, 0, 0)); why != passed {
			t.Errorf("%v with padding: %v", src, why)
		}
		flipped := bytes.Clone(b)
		flipped[len(b)-1] ^= 1
		if _, why := parse(flipped); why != DropChecksum {
			t.Errorf("%v flipped: %v", src, why)
		}
		udp := len(b) - len(payload) - udpLen
		long := bytes.Clone(b)
		long[udp+5]++
		if _, why := parse(long); why != DropDatagram {
			t.Errorf("%v with a length too long: %v", src, why)
		}
		none := bytes.Clone(b)
		none[udp+6], none[udp+7] = 0, 0
		want := passed
		if src.Is6() {
			want = DropChecksum
		}
		if _, why := parse(none); why != want {
			t.Errorf("%v without a checksum: %v", src, why)
		}
		for n := range len(b) {
			if _, why := parse(b[:n]); why == passed {
				t.Errorf("%v cut to %d bytes passed", src, n)
			}
		}
	}
}

// TestAuthLayouts: sections of RFC 5880, 4.2 to 4.4; each type refuses the others, and any flipped bit.
func TestAuthLayouts(t *testing.T) {
	lens := map[AuthType]int{Simple: 9, KeyedMD5: 24, MeticulousMD5: 24, KeyedSHA1: 28, MeticulousSHA1: 28}
	for typ, n := range lens {
		a := Auth{Type: typ, KeyID: 5, Key: "secret"}
		p := Packet{State: Up, Multiplier: 3, My: 1, Your: 2, Auth: true}
		b := a.sign(p.Append(nil), 77)
		_, body, section, why := Decode(b)
		if why != passed || len(section) != n || section[0] != byte(typ) || section[2] != 5 {
			t.Fatalf("%v: section %x %v", typ, section, why)
		}
		before := bytes.Clone(body)
		seq, ok := a.verify(body, section)
		if !ok || typ != Simple && seq != 77 || !bytes.Equal(before, body) {
			t.Errorf("%v: %d %v", typ, seq, ok)
		}
		for other := range lens {
			o := Auth{Type: other, KeyID: 5, Key: "secret"}
			if _, ok := o.verify(body, section); ok != (other == typ) {
				t.Errorf("%v taken for %v", typ, other)
			}
		}
		for i := range b {
			if typ == Simple && i < headerLen {
				continue // a password vouches for nothing but itself
			}
			b[i] ^= 0x10
			if _, body, section, why := Decode(b); why == passed && section != nil {
				if _, ok := a.verify(body, section); ok && i != headerLen+3 { // reserved octet of a digest: part of it
					t.Errorf("%v: flipped byte %d passed", typ, i)
				}
			}
			b[i] ^= 0x10
		}
		if back, err := ParseAuthType(typ.String()); back != typ || err != nil {
			t.Errorf("%v: %v %v", typ, back, err)
		}
	}
	if _, err := ParseAuthType("rot13"); err == nil {
		t.Error("rot13 is a type")
	}
}

func TestNames(t *testing.T) {
	for _, s := range []string{AdminDown.String(), Up.String(), State(9).String(), DiagExpired.String(), Diag(31).String(), MeticulousSHA1.String(), AuthType(9).String()} {
		if s == "" || strings.Contains(s, "%") {
			t.Errorf("name %q", s)
		}
	}
}

// talk is two cores and a wire between them.
type talk struct {
	core [2]*Core
	now  int64
	rng  *rand.Rand
	loss float64
	cut  bool
}

func (w *talk) carry() {
	for i := range w.core {
		for _, e := range w.core[i].Drain() {
			if e.Kind == Send && !w.cut && w.rng.Float64() >= w.loss {
				w.core[1-i].Receive(w.now, 1, 1, bytes.Clone(e.Data))
			}
		}
	}
}

func (w *talk) run(d int64) {
	for end := w.now + d; ; {
		w.carry()
		next := min(w.core[0].Next(), w.core[1].Next())
		if next > end {
			w.now = end
			return
		}
		w.now = max(next, w.now)
		w.core[0].Advance(w.now)
		w.core[1].Advance(w.now)
	}
}

// TestTwoCores: whatever the timers, both ends come up, agree on what they
// negotiated, stay up in spite of some loss, and notice a cut within the
// detection time.
func TestTwoCores(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := &talk{rng: rng}
		addr := [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
		var cfg [2]Config
		ms := func() int64 { return int64(10+rng.IntN(400)) * 1e6 }
		auth := Auth{Type: AuthType(rng.IntN(6)), KeyID: 1, Key: "k"}
		for i := range w.core {
			cfg[i] = Config{VRF: 1, Interface: 1, Peer: addr[1-i], Local: addr[i], MinTx: dur(ms()), MinRx: dur(ms()), Multiplier: uint8(3 + rng.IntN(4)), Auth: auth}
			w.core[i] = New(rand.New(rand.NewPCG(seed, uint64(i))))
			w.core[i].Set(0, []Config{cfg[i]})
		}
		w.run(5e9)
		w.loss = 0.02
		w.run(20e9)
		w.loss = 0
		w.run(3e9)
		var st [2]Status
		for i := range st {
			st[i] = w.core[i].Sessions(w.now)[0]
		}
		for i := range st {
			if st[i].State != Up || st[i].Tx != max(cfg[i].MinTx, cfg[1-i].MinRx) || st[i].Rx != st[1-i].Tx {
				t.Fatalf("seed %d: end %d is %+v", seed, i, st[i])
			}
		}
		w.cut = true
		w.run(int64(max(st[0].Detection, st[1].Detection)) + 1)
		for i := range st {
			if s := w.core[i].Sessions(w.now)[0]; s.State != Down || !s.Failed || s.Diag != DiagExpired && s.Diag != DiagNeighborDown {
				t.Fatalf("seed %d: end %d has not noticed: %+v", seed, i, s)
			}
		}
		w.cut = false
		w.run(4e9)
		if s := w.core[0].Sessions(w.now)[0]; s.State != Up || s.Flaps == 0 {
			t.Fatalf("seed %d: not back: %+v", seed, s)
		}
	}
}
