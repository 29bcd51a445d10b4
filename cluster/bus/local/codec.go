package local

import (
	"encoding/binary"
	"errors"
	"fmt"

	"godwit/cluster/bus"
)

// The operations of the name service. A message is one record: its op, then
// fields of fixed size in network order, then the name where there is one.
type op byte

const (
	opHello  op = 1 // member → server: version, member number, name
	opBind   op = 2 // member → server: sequence, ref, range; answered by opDone
	opUnbind op = 3 // like opBind
	opSync   op = 4 // member → server: sequence; answered behind all earlier events
	opDone   op = 5 // server → member: sequence, code. Sequence 0 ends the initial table
	opUp     op = 6 // server → member: ref, range, pid, name
	opDown   op = 7 // server → member: ref, range
)

// Codes of opDone.
const (
	codeOK    = 0
	codeFull  = 1 // the table has maxBindings
	codeTaken = 2 // the member number is in use
	codeQuota = 3 // the member has maxOwn bindings
)

const protoVersion = 2

// record is a message between a member and the name service; which fields
// count depends on the op.
type record struct {
	op     op
	seq    uint32
	code   byte
	member uint16
	ref    uint32
	pid    uint32
	rng    bus.Range
	name   string
}

var errRecord = errors.New("malformed message")

// sizes are the lengths of records without their names.
var sizes = map[op]int{opHello: 4, opBind: 21, opUnbind: 21, opSync: 5, opDone: 6, opUp: 21, opDown: 17}

func (o op) hasName() bool { return o == opHello || o == opUp }

// append encodes the record.
func (r *record) append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, byte(r.op))
	switch r.op {
	case opHello:
		b = append(b, protoVersion)
		b = be.AppendUint16(b, r.member)
	case opSync:
		b = be.AppendUint32(b, r.seq)
	case opDone:
		b = be.AppendUint32(b, r.seq)
		b = append(b, r.code)
	case opBind, opUnbind:
		b = be.AppendUint32(b, r.seq)
		b = appendBinding(b, r.ref, r.rng)
	case opUp:
		b = appendBinding(b, r.ref, r.rng)
		b = be.AppendUint32(b, r.pid)
	case opDown:
		b = appendBinding(b, r.ref, r.rng)
	}
	if r.op.hasName() {
		b = append(b, r.name...)
	}
	return b
}

func appendBinding(b []byte, ref uint32, r bus.Range) []byte {
	for _, v := range [...]uint32{ref, r.Type, r.Lower, r.Upper} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// parseRecord decodes a message strictly.
func parseRecord(b []byte) (record, error) {
	if len(b) == 0 {
		return record{}, fmt.Errorf("empty: %w", errRecord)
	}
	r := record{op: op(b[0])}
	size, known := sizes[r.op]
	if !known || len(b) < size || (len(b) > size && !r.op.hasName()) || len(b) > size+maxName {
		return record{}, fmt.Errorf("op %d with %d bytes: %w", b[0], len(b), errRecord)
	}
	be, f := binary.BigEndian, b[1:]
	switch r.op {
	case opHello:
		if f[0] != protoVersion {
			return record{}, fmt.Errorf("version %d: %w", f[0], errRecord)
		}
		r.member = be.Uint16(f[1:])
	case opSync:
		r.seq = be.Uint32(f)
	case opDone:
		r.seq, r.code = be.Uint32(f), f[4]
	case opBind, opUnbind:
		r.seq = be.Uint32(f)
		r.ref, r.rng = parseBinding(f[4:])
	case opUp:
		r.ref, r.rng = parseBinding(f)
		r.pid = be.Uint32(f[16:])
	case opDown:
		r.ref, r.rng = parseBinding(f)
	}
	if r.rng.Lower > r.rng.Upper {
		return record{}, fmt.Errorf("range %s: %w", r.rng, errRecord)
	}
	if r.op.hasName() {
		r.name = string(b[size:])
	}
	return r, nil
}

func parseBinding(f []byte) (ref uint32, r bus.Range) {
	be := binary.BigEndian
	return be.Uint32(f), bus.Range{Type: be.Uint32(f[4:]), Lower: be.Uint32(f[8:]), Upper: be.Uint32(f[12:])}
}

// greeting opens a connection between members; data may follow it.
type greeting struct {
	kind   byte        // greetConnect, greetDatagrams or greetLink
	stream bool        // greetConnect: of bytes
	from   uint32      // ref of the socket that connects
	to     uint32      // ref of the listener; 0 for datagrams
	svc    bus.Service // what was dialled; of a link, the tolerance in ms as instance
	data   []byte      // of greetConnect: the first message
}

const (
	greetConnect   = 1
	greetDatagrams = 2
	greetLink      = 3
	greetStream    = 0x80 // flag of greetConnect
	greetLen       = 25
	greetMagic     = "GWB\x02"
)

// The answer to a greeting: one byte, and the tolerance in ms for a link.
const (
	answerAccepted = 3
	answerLen      = 5
)

func (g *greeting) append(b []byte) []byte {
	b = append(b, greetMagic...)
	kind := g.kind
	if g.stream {
		kind |= greetStream
	}
	b = append(b, kind)
	for _, v := range [...]uint32{g.from, g.to, g.svc.Type, g.svc.Instance, uint32(len(g.data))} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, g.data...)
}

// parseGreeting decodes a greeting and tells how much data follows it.
func parseGreeting(b []byte) (g greeting, follows int, err error) {
	if len(b) != greetLen || string(b[:4]) != greetMagic {
		return g, 0, fmt.Errorf("greeting of %d bytes: %w", len(b), errRecord)
	}
	be := binary.BigEndian
	g = greeting{
		kind: b[4] &^ greetStream, stream: b[4]&greetStream != 0, from: be.Uint32(b[5:]), to: be.Uint32(b[9:]),
		svc: bus.Service{Type: be.Uint32(b[13:]), Instance: be.Uint32(b[17:])},
	}
	n := be.Uint32(b[21:])
	if g.kind < greetConnect || g.kind > greetLink || n > bus.MaxMessage || (g.kind != greetConnect && (n > 0 || g.stream)) {
		return greeting{}, 0, fmt.Errorf("greeting of kind %d with %d bytes: %w", b[4], n, errRecord)
	}
	return g, int(n), nil
}

// datagram precedes the data of a connectionless message.
type datagram struct {
	to         uint32      // ref
	svc        bus.Service // it was sent to; of a group, the sender's instance
	importance bus.Importance
	flags      byte
	code       bus.Code // of a returned one
}

const datagramHeader = 16

// Flags of a datagram.
const (
	flagDroppable = 1 // does not come back
	flagGroup     = 2 // waits for room instead of being refused
	flagKnown     = flagDroppable | flagGroup
)

func (d *datagram) append(b []byte) []byte {
	for _, v := range [...]uint32{d.to, d.svc.Type, d.svc.Instance} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, byte(d.importance), d.flags, byte(d.code), 0)
}

func parseDatagram(b []byte) (d datagram, data []byte, err error) {
	if len(b) <= datagramHeader || len(b) > datagramHeader+bus.MaxMessage {
		return d, nil, fmt.Errorf("datagram of %d bytes: %w", len(b), errRecord)
	}
	if b[12] > byte(bus.Critical) || b[13]&^flagKnown != 0 || b[14] > byte(bus.Shutdown) || b[15] != 0 {
		return d, nil, fmt.Errorf("datagram %x: %w", b[12:datagramHeader], errRecord)
	}
	be := binary.BigEndian
	return datagram{
		to: be.Uint32(b), svc: bus.Service{Type: be.Uint32(b[4:]), Instance: be.Uint32(b[8:])},
		importance: bus.Importance(b[12]), flags: b[13], code: bus.Code(b[14]),
	}, b[datagramHeader:], nil
}
