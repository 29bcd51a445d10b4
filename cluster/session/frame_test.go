package session

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"godwit/cluster/bus"
	"godwit/cluster/wire"
)

// pack returns the bus messages for some messages.
func pack(t testing.TB, messages []Message) (out [][]byte) {
	p := packer{send: func(b []byte) error {
		if len(b) == 0 || len(b) > bus.MaxMessage {
			t.Errorf("bus message of %d bytes", len(b))
		}
		out = append(out, bytes.Clone(b))
		return nil
	}}
	for i := range messages {
		if err := p.add(&messages[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPackedMessagesComeBack(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		var sent, got []Message
		for range rng.IntN(200) {
			m := Message{Kind: wire.Kind(rng.IntN(70)), ID: rng.Uint32N(3)}
			m.Reply = m.ID != 0 && rng.IntN(2) == 0
			size := rng.IntN(300)
			if rng.IntN(20) == 0 {
				size = rng.IntN(4 * bus.MaxMessage)
			}
			for range size {
				m.Body = append(m.Body, byte(size))
			}
			sent = append(sent, m)
		}
		parts := slices.Clone(sent)
		for i := range parts { // some in two parts, which must not show
			if n := len(parts[i].Body); n > 0 && rng.IntN(3) == 0 {
				cut := 1 + rng.IntN(min(n, 20))
				parts[i].head, parts[i].Body = parts[i].Body[:cut], parts[i].Body[cut:]
			}
		}
		var u unpacker
		for _, b := range pack(t, parts) {
			if err := u.unpack(b, func(m Message) { got = append(got, m) }); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			clear(b) // bodies must be copies
		}
		if len(got) != len(sent) || u.partial != nil {
			t.Fatalf("seed %d: %d messages of %d", seed, len(got), len(sent))
		}
		for i := range got {
			if g, s := got[i], sent[i]; g.Kind != s.Kind || g.ID != s.ID || g.Reply != s.Reply || !bytes.Equal(g.Body, s.Body) {
				t.Fatalf("seed %d: message %d: %d bytes came as %d", seed, i, len(s.Body), len(g.Body))
			}
		}
	}
}

func TestSmallMessagesShareABusMessage(t *testing.T) {
	if n := len(pack(t, make([]Message, 1000))); n != 1 {
		t.Errorf("1,000 empty messages in %d bus messages", n)
	}
	if n := len(pack(t, []Message{{Body: make([]byte, maxFrameBody)}})); n != 1 {
		t.Errorf("one that just fits in %d bus messages", n)
	}
}

func TestPackerReportsTheConnection(t *testing.T) {
	p := packer{send: func([]byte) error { return bus.ErrPeerGone }}
	if err := p.add(&Message{Body: make([]byte, 3*maxFrameBody)}); !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("error %v", err)
	}
}

// frame writes one raw frame.
func frame(kind wire.Kind, id uint32, reply, more bool, size int) []byte {
	return appendFrame(nil, &Message{Kind: kind, ID: id, Reply: reply}, make([]byte, size), more)
}

func TestMalformedFrames(t *testing.T) {
	padding := frame(1, 0, false, false, 0)
	padding[3] = 1
	for what, frames := range map[string][][]byte{
		"short header":       {{1}},
		"short body":         {frame(1, 0, false, false, 9)[:20]},
		"padding":            {padding},
		"reply without ID":   {frame(1, 0, true, false, 1)},
		"other kind inside":  {frame(1, 0, false, true, 1), frame(2, 0, false, false, 1)},
		"other ID inside":    {frame(1, 1, false, true, 1), frame(1, 2, false, false, 1)},
		"reply inside":       {frame(1, 1, false, true, 1), frame(1, 1, true, false, 1)},
		"empty part":         {frame(1, 0, false, true, 0)},
		"trailing half":      {append(frame(1, 0, false, false, 3), 0, 1)},
		"empty part further": {frame(1, 0, false, true, 1), frame(1, 0, false, true, 0)},
	} {
		var u unpacker
		var err error
		for _, f := range frames {
			if err == nil {
				err = u.unpack(f, func(Message) {})
			}
		}
		if !errors.Is(err, ErrFrame) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

func TestEndlessMessageIsCutOff(t *testing.T) {
	var u unpacker
	part := frame(1, 0, false, true, maxFrameBody)
	for i := 0; ; i++ {
		err := u.unpack(part, func(Message) {})
		if errors.Is(err, ErrTooLong) {
			if i != MaxBody/maxFrameBody {
				t.Errorf("cut off behind %d parts", i)
			}
			return
		}
		if err != nil || i > MaxBody/maxFrameBody {
			t.Fatalf("part %d: %v", i, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(frame(1, 0, false, false, 3), frame(2, 9, true, false, 0))
	f.Add(frame(1, 0, false, true, 3), frame(1, 0, false, false, 2))
	f.Add([]byte{}, []byte("garbage that is not a frame at all"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var u unpacker
		var got []Message
		total := 0
		for _, m := range [][]byte{a, b} {
			err := u.unpack(m, func(m Message) {
				got = append(got, m)
				total += len(m.Body) + headerLen
			})
			if err != nil {
				return
			}
		}
		if total > len(a)+len(b) {
			t.Errorf("%d bytes from %d", total, len(a)+len(b))
		}
		// What was accepted packs and unpacks to itself.
		var again []Message
		var v unpacker
		for _, m := range pack(t, got) {
			if err := v.unpack(m, func(m Message) { again = append(again, m) }); err != nil {
				t.Fatal(err)
			}
		}
		if len(again) != len(got) {
			t.Errorf("%d messages came back as %d", len(got), len(again))
		}
		for i := range again {
			if again[i].Kind != got[i].Kind || again[i].ID != got[i].ID || !bytes.Equal(again[i].Body, got[i].Body) {
				t.Errorf("message %d: %+v came back as %+v", i, got[i], again[i])
			}
		}
	})
}
