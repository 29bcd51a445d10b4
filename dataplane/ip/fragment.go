package ip

import (
	"encoding/binary"

	"godwit/dataplane/header"
)

// Fragment cuts a valid IPv4 packet into fragments of at most mtu bytes (RFC 791,
// 3.2); nil if it can't be. A packet that is a fragment itself may be cut again.
func Fragment(h header.IPv4, mtu int) [][]byte {
	hl, data := h.HeaderLen(), h.Payload()
	later := laterHeader(h)
	if h.DF() || mtu < hl+8 {
		return nil
	}
	base := binary.BigEndian.Uint16(h[6:8])
	var list [][]byte
	head := []byte(h[:hl])
	for off := 0; off < len(data); {
		n := len(data) - off
		flags := base + uint16(off/8)
		if n > mtu-len(head) {
			n = (mtu - len(head)) &^ 7 // all but the last are multiples of 8
			flags |= header.FlagMF
		}
		list = append(list, fragment(head, data[off:off+n], flags))
		off += n
		head = later
	}
	return list
}

func fragment(head, data []byte, flags uint16) []byte {
	f := make([]byte, len(head)+len(data))
	copy(f, head)
	copy(f[len(head):], data)
	binary.BigEndian.PutUint16(f[2:4], uint16(len(f)))
	binary.BigEndian.PutUint16(f[6:8], flags)
	header.IPv4(f).SetChecksum()
	return f
}

// laterHeader is the header of all fragments but the first: with the options
// whose copied flag is set.
func laterHeader(h header.IPv4) []byte {
	b := append([]byte(nil), h[:header.IPv4Len]...)
	for o := h[header.IPv4Len:h.HeaderLen()]; len(o) > 0 && o[0] != header.OptEnd; {
		n := 1
		if o[0] != header.OptNop {
			if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
				break
			}
			n = int(o[1])
		}
		if o[0]&0x80 != 0 {
			b = append(b, o[:n]...)
		}
		o = o[n:]
	}
	for len(b)%4 != 0 {
		b = append(b, header.OptEnd)
	}
	b[0] = 0x40 | uint8(len(b)/4)
	return b
}
