package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/ringbuf"
)

// Sample is a frame that express programs have taken.
type Sample struct {
	Slot   uint16 // of the ingress interface
	Rate   uint32
	Length uint32 // of the whole frame
	Time   int64  // CLOCK_MONOTONIC, ns
	Header []byte // valid until the next one
}

// sampleHeader precedes the frame's bytes in a record: slot, rate, length, bytes, time.
const sampleHeader = 4*4 + 8

// Samples takes what the express programs have sampled, up to most frames, and returns how many
// there were. It does not wait.
func (x *Express) Samples(most int, f func(*Sample)) (int, error) {
	if x.samples == nil {
		r, err := ringbuf.NewReader(x.shared["samples"])
		if err != nil {
			return 0, fmt.Errorf("read samples: %w", err)
		}
		x.samples = r
	}
	if err := x.samples.Flush(); err != nil { // what is there is read without waiting
		return 0, fmt.Errorf("read samples: %w", err)
	}
	for n := range most {
		if err := x.samples.ReadInto(&x.record); errors.Is(err, ringbuf.ErrFlushed) {
			return n, nil
		} else if err != nil {
			return n, fmt.Errorf("read samples: %w", err)
		}
		if s, ok := parseSample(x.record.RawSample); ok {
			f(&s)
		}
	}
	return most, nil
}

func parseSample(b []byte) (s Sample, ok bool) {
	if len(b) < sampleHeader {
		return s, false
	}
	h := binary.NativeEndian
	n := h.Uint32(b[12:])
	if int(n) > len(b)-sampleHeader {
		return s, false
	}
	return Sample{Slot: uint16(h.Uint32(b)), Rate: h.Uint32(b[4:]), Length: h.Uint32(b[8:]), Time: int64(h.Uint64(b[16:])),
		Header: b[sampleHeader : sampleHeader+n]}, true
}

// SamplesLost counts the samples that found no room. Any goroutine.
func (x *Express) SamplesLost() uint64 { return sumCounter(x.shared["samples_lost"]) }
