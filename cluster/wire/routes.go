package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
)

// RouteBatchSize is how many bytes a route batch may grow to; with the
// session's header it stays below the bus's largest message. It holds some
// 10,000 IPv4 prefixes of a full table.
const RouteBatchSize = 60 << 10

// Bounds of a route batch.
const (
	// MaxRoutePaths is the most paths of one prefix.
	MaxRoutePaths = 64

	routeVersion = 2
	maxZone      = 15  // IFNAMSIZ - 1
	maxNames     = 768 // bytes of communities: the largest path set still fits a batch
	bits6        = 64  // prefix lengths of IPv6 are sent as 64+bits
	maxLengths   = 192 // 64+128
	headerSize   = 1 + 8
)

// ErrBadRoutes is the error of every malformed route batch.
var ErrBadRoutes = errors.New("malformed route batch")

// RouteBatchBody is a decoded route batch.
type RouteBatchBody struct {
	Seq     uint64 // from 1 in each session, without gaps
	Changes []RouteChange
}

// RoutePathSet is the encoded form of the paths of one prefix. Equal paths have
// equal encodings. The empty set means withdrawn.
type RoutePathSet string

// EncodeRoutePaths encodes the paths of one prefix.
func EncodeRoutePaths(paths []RoutePath) (RoutePathSet, error) {
	if len(paths) == 0 {
		return "", nil
	}
	if len(paths) > MaxRoutePaths {
		return "", fmt.Errorf("encode route paths: %d paths, at most %d", len(paths), MaxRoutePaths)
	}
	b := binary.AppendUvarint(make([]byte, 0, 32*len(paths)), uint64(len(paths)))
	for i := range paths {
		p := &paths[i]
		if !p.NextHop.IsValid() {
			return "", errors.New("encode route paths: path without next hop")
		}
		if p.NextHop.Is4In6() || p.Peer.Is4In6() {
			return "", fmt.Errorf("encode route paths: IPv4-mapped %v or %v", p.NextHop, p.Peer)
		}
		if len(p.Peer.Zone()) > maxZone || len(p.NextHop.Zone()) > maxZone {
			return "", fmt.Errorf("encode route paths: zone of %v or %v too long", p.Peer, p.NextHop)
		}
		if len(p.Communities) > maxNames {
			return "", fmt.Errorf("encode route paths: %d bytes of communities", len(p.Communities))
		}
		b = appendAddr(b, p.NextHop)
		b = appendAddr(b, p.Peer)
		b = binary.AppendUvarint(b, uint64(p.PeerAS))
		b = binary.AppendUvarint(b, uint64(p.MED))
		b = binary.AppendUvarint(b, uint64(p.LocalPref))
		b = binary.AppendUvarint(b, uint64(p.ASPathLen))
		b = append(binary.AppendUvarint(b, uint64(len(p.Communities))), p.Communities...)
	}
	return RoutePathSet(b), nil
}

// Paths decodes the set; nil for the empty one.
func (s RoutePathSet) Paths() ([]RoutePath, error) {
	if s == "" {
		return nil, nil
	}
	r := routeReader{p: []byte(s)}
	paths := r.paths()
	if r.err == nil && len(r.p) > 0 {
		r.fail("bytes behind the paths")
	}
	return paths, r.err
}

// RouteBatchBuilder encodes a route batch change by change:
//
//	version 1 byte, sequence 8 bytes big endian, then for each change
//	uvarint reference: 0 withdrawn; 1 to n a path set of this batch; n+1 a new
//	one, which follows; then 1 byte of length (IPv4: bits, IPv6: 64+bits) and as
//	many bytes of the address as the length needs.
type RouteBatchBuilder struct {
	buf  []byte
	sets map[RoutePathSet]uint64
	n    int
}

// Begin starts a batch.
func (b *RouteBatchBuilder) Begin(seq uint64) {
	b.buf = make([]byte, headerSize, 1024)
	b.buf[0] = routeVersion
	binary.BigEndian.PutUint64(b.buf[1:], seq)
	b.sets = make(map[RoutePathSet]uint64)
	b.n = 0
}

// Add adds a change if the batch stays within RouteBatchSize, and tells whether
// it did. The prefix is masked and not IPv4-mapped.
func (b *RouteBatchBuilder) Add(prefix netip.Prefix, set RoutePathSet) bool {
	ref, known := uint64(0), true
	if set != "" {
		if ref, known = b.sets[set]; !known {
			ref = uint64(len(b.sets)) + 1
		}
	}
	need := binary.MaxVarintLen64 + 17
	if !known {
		need += len(set)
	}
	if len(b.buf)+need > RouteBatchSize && b.n > 0 {
		return false
	}
	b.buf = binary.AppendUvarint(b.buf, ref)
	if !known {
		b.sets[set] = ref
		b.buf = append(b.buf, set...)
	}
	b.buf = appendPrefix(b.buf, prefix)
	b.n++
	return true
}

// Len is the number of changes in the batch.
func (b *RouteBatchBuilder) Len() int { return b.n }

// Bytes is the encoded batch; it is the caller's, the builder needs Begin.
func (b *RouteBatchBuilder) Bytes() []byte {
	p := b.buf
	b.buf, b.sets, b.n = nil, nil, 0
	return p
}

// EncodeRouteBatch encodes a whole batch of any size.
func EncodeRouteBatch(batch RouteBatchBody) ([]byte, error) {
	var b RouteBatchBuilder
	b.Begin(batch.Seq)
	for _, c := range batch.Changes {
		if !c.Prefix.IsValid() || c.Prefix != c.Prefix.Masked() || c.Prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("encode route batch: bad prefix %v", c.Prefix)
		}
		set, err := EncodeRoutePaths(c.Paths)
		if err != nil {
			return nil, err
		}
		if !b.Add(c.Prefix, set) {
			return nil, fmt.Errorf("encode route batch: more than %d bytes", RouteBatchSize)
		}
	}
	return b.Bytes(), nil
}

// DecodeRouteBatch decodes a batch strictly. Changes with the same paths share
// one slice of them: read only.
func DecodeRouteBatch(p []byte) (RouteBatchBody, error) {
	if len(p) < headerSize || p[0] != routeVersion {
		return RouteBatchBody{}, fmt.Errorf("%w: no header of version %d", ErrBadRoutes, routeVersion)
	}
	batch := RouteBatchBody{Seq: binary.BigEndian.Uint64(p[1:headerSize])}
	r := routeReader{p: p[headerSize:]}
	batch.Changes = make([]RouteChange, 0, len(r.p)/6)
	var sets [][]RoutePath
	for len(r.p) > 0 && r.err == nil {
		var c RouteChange
		switch ref := r.uvarint(math.MaxUint64); {
		case ref == uint64(len(sets))+1:
			sets = append(sets, r.paths())
			c.Paths = sets[ref-1]
		case ref > uint64(len(sets)):
			r.fail("reference to an unknown path set")
		case ref > 0:
			c.Paths = sets[ref-1]
		}
		c.Prefix = r.prefix()
		batch.Changes = append(batch.Changes, c)
	}
	if r.err != nil {
		return RouteBatchBody{}, r.err
	}
	return batch, nil
}

func appendAddr(b []byte, a netip.Addr) []byte {
	zone := a.Zone()
	n := a.BitLen() / 8
	b = append(b, byte(n), byte(len(zone)))
	b = append(b, zone...)
	switch n {
	case 4:
		x := a.As4()
		b = append(b, x[:]...)
	case 16:
		x := a.As16()
		b = append(b, x[:]...)
	}
	return b
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	n := (p.Bits() + 7) / 8
	if p.Addr().Is4() {
		x := p.Addr().As4()
		return append(append(b, byte(p.Bits())), x[:n]...)
	}
	x := p.Addr().As16()
	return append(append(b, byte(bits6+p.Bits())), x[:n]...)
}

// routeReader reads a batch; after the first error it returns zeroes.
type routeReader struct {
	p   []byte
	err error
}

func (r *routeReader) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrBadRoutes, why)
	}
	r.p = nil
}

func (r *routeReader) take(n int) []byte {
	if n > len(r.p) {
		r.fail("truncated")
		return nil
	}
	b := r.p[:n]
	r.p = r.p[n:]
	return b
}

func (r *routeReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *routeReader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.p)
	if n <= 0 || v > most || n > 1 && r.p[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *routeReader) addr() netip.Addr {
	n, zoneLen := int(r.byte()), int(r.byte())
	if n != 16 && zoneLen > 0 || zoneLen > maxZone || n != 0 && n != 4 && n != 16 {
		r.fail("bad address")
		return netip.Addr{}
	}
	zone := string(r.take(zoneLen))
	a, _ := netip.AddrFromSlice(r.take(n))
	if a.Is4In6() {
		r.fail("IPv4-mapped address")
	}
	if zone != "" {
		a = a.WithZone(zone)
	}
	return a
}

func (r *routeReader) paths() []RoutePath {
	n := r.uvarint(MaxRoutePaths)
	if n == 0 {
		r.fail("empty path set")
	}
	paths := make([]RoutePath, 0, n)
	for range n {
		p := RoutePath{NextHop: r.addr(), Peer: r.addr()}
		p.PeerAS = uint32(r.uvarint(math.MaxUint32))
		p.MED = uint32(r.uvarint(math.MaxUint32))
		p.LocalPref = uint32(r.uvarint(math.MaxUint32))
		p.ASPathLen = uint16(r.uvarint(math.MaxUint16))
		p.Communities = string(r.take(int(r.uvarint(maxNames))))
		if r.err == nil && !p.NextHop.IsValid() {
			r.fail("path without next hop")
		}
		if r.err != nil {
			return nil
		}
		paths = append(paths, p)
	}
	return paths
}

func (r *routeReader) prefix() netip.Prefix {
	l := r.byte()
	var a netip.Addr
	bits := int(l)
	switch {
	case l <= 32:
		var x [4]byte
		copy(x[:], r.take((bits+7)/8))
		a = netip.AddrFrom4(x)
	case l >= bits6 && l <= maxLengths:
		bits -= bits6
		var x [16]byte
		copy(x[:], r.take((bits+7)/8))
		a = netip.AddrFrom16(x)
	default:
		r.fail("bad prefix length")
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(a, bits)
	if p != p.Masked() || a.Is4In6() {
		r.fail("bad prefix")
	}
	return p
}
