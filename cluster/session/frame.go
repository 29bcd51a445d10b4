package session

import (
	"encoding/binary"
	"fmt"
	"slices"

	"godwit/cluster/wire"
)

// A bus message holds one or more frames, each with a header in network order:
//
//	0  2  kind
//	2  1  flags
//	3  1  zero
//	4  4  ID: 0 no request, else pairs a reply with its request
//	8  4  length of the body that follows
//
// A body too long for one frame goes in several that follow each other, all
// but the last with flagMore.
const (
	headerLen = 12
	flagReply = 1
	flagMore  = 2
)

// Message is one received message.
type Message struct {
	Kind  wire.Kind
	ID    uint32 // of a request, to be answered; 0: no answer wanted
	Reply bool
	Body  []byte // the receiver's to keep
	head  []byte // of one to be sent: goes before Body
}

// size is what a message to be sent takes, in bytes.
func (m *Message) size() int { return headerLen + len(m.head) + len(m.Body) }

func appendFrame(b []byte, m *Message, body []byte, more bool) []byte {
	var flags byte
	if m.Reply {
		flags |= flagReply
	}
	if more {
		flags |= flagMore
	}
	be := binary.BigEndian
	b = be.AppendUint16(b, uint16(m.Kind))
	b = append(b, flags, 0)
	b = be.AppendUint32(b, m.ID)
	b = be.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// packer fills bus messages with frames and hands them to send.
type packer struct {
	buf  []byte
	send func([]byte) error
}

// add packs a message, sending bus messages that are full.
func (p *packer) add(m *Message) error {
	body := m.Body
	switch {
	case len(m.head) == 0:
	case m.size() > maxFrameBody+headerLen:
		body = slices.Concat(m.head, body)
	default:
		return p.whole(m)
	}
	for {
		if len(p.buf)+headerLen+min(len(body), maxFrameBody) > maxFrameBody+headerLen {
			if err := p.flush(); err != nil {
				return err
			}
		}
		part := body[:min(len(body), maxFrameBody)]
		body = body[len(part):]
		p.buf = appendFrame(p.buf, m, part, len(body) > 0)
		if len(body) == 0 {
			return nil
		}
	}
}

// whole packs a message in two parts that fits one frame.
func (p *packer) whole(m *Message) error {
	if len(p.buf)+m.size() > maxFrameBody+headerLen {
		if err := p.flush(); err != nil {
			return err
		}
	}
	at := len(p.buf)
	p.buf = append(appendFrame(p.buf, m, m.head, false), m.Body...)
	binary.BigEndian.PutUint32(p.buf[at+8:], uint32(m.size()-headerLen))
	return nil
}

// flush sends what is packed.
func (p *packer) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	err := p.send(p.buf)
	p.buf = p.buf[:0]
	return err
}

// unpacker takes bus messages apart. Its partial message stays until its last
// frame comes.
type unpacker struct {
	partial *Message
}

// unpack hands the complete messages of a bus message to emit.
func (u *unpacker) unpack(b []byte, emit func(Message)) error {
	for len(b) > 0 {
		if len(b) < headerLen {
			return fmt.Errorf("header of %d bytes: %w", len(b), ErrFrame)
		}
		be := binary.BigEndian
		m := Message{Kind: wire.Kind(be.Uint16(b)), ID: be.Uint32(b[4:]), Reply: b[2]&flagReply != 0}
		flags, length := b[2], int(be.Uint32(b[8:]))
		if flags&^(flagReply|flagMore) != 0 || b[3] != 0 || length > len(b)-headerLen || (m.Reply && m.ID == 0) {
			return fmt.Errorf("%s, flags %#x, body of %d bytes in %d: %w", m.Kind, flags, length, len(b)-headerLen, ErrFrame)
		}
		body := b[headerLen : headerLen+length]
		b = b[headerLen+length:]
		if err := u.frame(m, body, flags&flagMore != 0, emit); err != nil {
			return err
		}
	}
	return nil
}

// frame handles one frame, whose body belongs to the bus message.
func (u *unpacker) frame(m Message, body []byte, more bool, emit func(Message)) error {
	p := u.partial
	switch {
	case p == nil:
		p = &m
	case p.Kind != m.Kind || p.ID != m.ID || p.Reply != m.Reply:
		return fmt.Errorf("%s inside %s: %w", m.Kind, p.Kind, ErrFrame)
	case len(p.Body)+len(body) > MaxBody:
		return fmt.Errorf("%s: %w", m.Kind, ErrTooLong)
	}
	if more && len(body) == 0 {
		return fmt.Errorf("%s: empty part: %w", m.Kind, ErrFrame)
	}
	p.Body = append(p.Body, body...)
	if more {
		u.partial = p
		return nil
	}
	u.partial = nil
	emit(*p)
	return nil
}
