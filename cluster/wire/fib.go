package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"godwit/fib"
)

// A FIBBatch body is a header and changes to its end:
//
//	header  version (1 byte: 1), flags (1 byte: bit 0 sweep), epoch (4), sequence (8), big endian
//	change  operation (1 byte: fib.Op; bit 7: the prefix is IPv6), then
//	  set-group     id, kind (1 byte), number of next hops (1 byte), next hops
//	  delete-group  id
//	  set-route     VRF, prefix length (1 byte), as many bytes of prefix as it has bits for, group id
//	  delete-route  VRF, prefix length (1 byte), prefix
//	next hop  interface, weight (1 byte), length of gateway (1 byte: 0, 4 or 16; bit 7: a backup), gateway
//
// IDs, VRFs and interfaces are unsigned varints (encoding/binary).
const (
	fibVersion   = 1
	fibHeaderLen = 14
	fibSweep     = 1
	fibIPv6      = 0x80
	fibBackup    = 0x80
)

var errShort = errors.New("truncated")

// AppendFIBHeader begins a FIBBatch body; changes are appended to it.
func AppendFIBHeader(dst []byte, epoch uint32, seq uint64, sweep bool) []byte {
	flags := byte(0)
	if sweep {
		flags = fibSweep
	}
	dst = append(dst, fibVersion, flags)
	dst = binary.BigEndian.AppendUint32(dst, epoch)
	return binary.BigEndian.AppendUint64(dst, seq)
}

// AppendFIBChange adds a valid change to a body.
func AppendFIBChange(dst []byte, c *fib.Change) []byte {
	switch c.Op {
	case fib.SetGroup:
		dst = append(dst, byte(c.Op))
		dst = binary.AppendUvarint(dst, uint64(c.Group.ID))
		dst = append(dst, byte(c.Group.Kind), byte(len(c.Group.NextHops)))
		for _, nh := range c.Group.NextHops {
			gw := nh.Gateway.AsSlice()
			dst = binary.AppendUvarint(dst, uint64(nh.Interface))
			form := byte(len(gw))
			if nh.Backup {
				form |= fibBackup
			}
			dst = append(dst, nh.Weight, form)
			dst = append(dst, gw...)
		}
	case fib.DeleteGroup:
		dst = binary.AppendUvarint(append(dst, byte(c.Op)), uint64(c.Group.ID))
	default:
		dst = appendRoute(dst, c)
	}
	return dst
}

func appendRoute(dst []byte, c *fib.Change) []byte {
	p := c.Route.Prefix
	n := (p.Bits() + 7) / 8
	op := byte(c.Op)
	if p.Addr().Is6() {
		op |= fibIPv6
	}
	dst = binary.AppendUvarint(append(dst, op), uint64(c.Route.VRF))
	dst = append(dst, byte(p.Bits()))
	if p.Addr().Is4() {
		a := p.Addr().As4()
		dst = append(dst, a[:n]...)
	} else {
		a := p.Addr().As16()
		dst = append(dst, a[:n]...)
	}
	if c.Op == fib.SetRoute {
		dst = binary.AppendUvarint(dst, uint64(c.Route.Group))
	}
	return dst
}

// AppendFIBBatch appends the body of a batch of valid changes.
func AppendFIBBatch(dst []byte, b fib.Batch) []byte {
	dst = AppendFIBHeader(dst, b.Epoch, b.Seq, b.Sweep)
	for i := range b.Changes {
		dst = AppendFIBChange(dst, &b.Changes[i])
	}
	return dst
}

// DecodeFIBBatch reads a FIBBatch body. Every change in the result is valid
// (fib.Change.Validate); nothing in it refers to body. With an error, epoch and
// sequence are set if they could be read.
func DecodeFIBBatch(body []byte) (fib.Batch, error) {
	b, changes, err := SplitFIBBatch(body)
	if err != nil {
		return b, fmt.Errorf("decode fib-batch: %w", err)
	}
	return DecodeFIBChanges(b, changes)
}

// DecodeFIBChanges is DecodeFIBBatch of a body whose header is read already.
func DecodeFIBChanges(b fib.Batch, changes []byte) (fib.Batch, error) {
	r := fibReader{changes, nil}
	if n := len(r.b) / 8; n > 0 { // a route takes 8 bytes and more
		b.Changes = make([]fib.Change, 0, n)
	}
	for len(r.b) > 0 {
		c := r.change()
		if r.err == nil {
			r.err = c.Validate()
		}
		if r.err != nil {
			return fib.Batch{Epoch: b.Epoch, Seq: b.Seq}, fmt.Errorf("decode fib-batch %d/%d: change %d: %w", b.Epoch, b.Seq, len(b.Changes), r.err)
		}
		b.Changes = append(b.Changes, c)
	}
	return b, nil
}

// fibReader reads from b until the first error, then zeros.
type fibReader struct {
	b   []byte
	err error
}

func (r *fibReader) bytes(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = errShort
	}
	if r.err != nil {
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *fibReader) byte() byte { return r.bytes(1)[0] }

func (r *fibReader) uint32() uint32 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<32-1 {
		r.err = errors.New("number truncated or above 32 bits")
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *fibReader) change() (c fib.Change) {
	op := r.byte()
	c.Op = fib.Op(op &^ fibIPv6)
	switch c.Op {
	case fib.SetGroup:
		c.Group = r.group()
	case fib.DeleteGroup:
		c.Group.ID = fib.GroupID(r.uint32())
	case fib.SetRoute, fib.DeleteRoute:
		c.Route.VRF = fib.VRF(r.uint32())
		c.Route.Prefix = r.prefix(op&fibIPv6 != 0)
		if c.Op == fib.SetRoute {
			c.Route.Group = fib.GroupID(r.uint32())
		}
		return c
	}
	if op&fibIPv6 != 0 && r.err == nil {
		r.err = fmt.Errorf("operation %#x", op)
	}
	return c
}

func (r *fibReader) group() (g fib.Group) {
	g.ID = fib.GroupID(r.uint32())
	g.Kind = fib.Kind(r.byte())
	n := int(r.byte())
	if n > fib.MaxNextHops && r.err == nil {
		r.err = fmt.Errorf("%d next hops", n)
	}
	for i := 0; i < n && r.err == nil; i++ {
		nh := fib.NextHop{Interface: fib.InterfaceID(r.uint32()), Weight: r.byte()}
		form := r.byte()
		nh.Backup = form&fibBackup != 0
		switch l := int(form &^ fibBackup); l {
		case 0:
		case 4, 16:
			nh.Gateway, _ = netip.AddrFromSlice(r.bytes(l))
		default:
			r.err = fmt.Errorf("gateway of %d bytes", l)
		}
		g.NextHops = append(g.NextHops, nh)
	}
	return g
}

func (r *fibReader) prefix(v6 bool) netip.Prefix {
	bits, most := int(r.byte()), 32
	if v6 {
		most = 128
	}
	if bits > most && r.err == nil {
		r.err = fmt.Errorf("prefix length %d", bits)
	}
	if r.err != nil {
		return netip.Prefix{}
	}
	var a [16]byte
	copy(a[:], r.bytes((bits+7)/8))
	if v6 {
		return netip.PrefixFrom(netip.AddrFrom16(a), bits)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[:4])), bits)
}
