package lsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Reason is why something was refused: the enum of bpf/enforce.c.
type Reason uint32

var reasons = []string{
	1: "executed a file that was not verified",
	2: "mapped a file as code that was not verified",
	3: "mapped executable memory without a file",
	4: "made memory executable",
	5: "traced a process",
	6: "opened the memory of a process",
	7: "tried to leave the cgroup",
	8: "touched BPF programs that are not for networks",
	9: "gave the kernel code to run",
}

func (r Reason) String() string {
	if r == 0 || int(r) >= len(reasons) {
		return "reason " + strconv.Itoa(int(r))
	}
	return reasons[r]
}

// Denial is something that the kernel refused inside the group.
type Denial struct {
	Reason  Reason
	PID     int
	Command string // of the process
	File    string // its last name; may be empty
	Inode   uint64 // of the file
}

// reader takes denials from the kernel.
type reader struct {
	ring *ringbuf.Reader
	mu   sync.Mutex // one Read at a time
}

func newReader(m *ebpf.Map) (*reader, error) {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, fmt.Errorf("read denials: %w", err)
	}
	return &reader{ring: r}, nil
}

func (r *reader) close() error { return r.ring.Close() }

// probeFile is the name of the file that Start tries.
const probeFile = "memfd:godwit-probe"

// Next waits for the next denial; os.ErrClosed after Close.
func (e *Enforcer) Next() (Denial, error) {
	e.reader.mu.Lock()
	defer e.reader.mu.Unlock()
	for {
		rec, err := e.reader.ring.Read()
		if errors.Is(err, ringbuf.ErrClosed) {
			return Denial{}, os.ErrClosed
		}
		if err != nil {
			return Denial{}, fmt.Errorf("read denials: %w", err)
		}
		d, err := parseDenial(rec.RawSample)
		if err != nil {
			return Denial{}, err
		}
		if d.File != probeFile || d.Reason != 1 {
			return d, nil
		}
	}
}

// parseDenial reads struct denial of bpf/enforce.c.
func parseDenial(b []byte) (Denial, error) {
	var d enforceDenial
	if err := binary.Read(bytes.NewReader(b), binary.NativeEndian, &d); err != nil {
		return Denial{}, fmt.Errorf("read denials: %w", err)
	}
	return Denial{Reason: Reason(d.Reason), PID: int(d.Pid), Command: text(d.Command[:]), File: text(d.File[:]), Inode: d.Inode}, nil
}

func text(c []int8) string {
	b := make([]byte, 0, len(c))
	for _, x := range c {
		if x == 0 {
			break
		}
		b = append(b, byte(x))
	}
	return string(b)
}

// Denied counts what was refused since Start, by reason.
func (e *Enforcer) Denied() (map[string]uint64, error) {
	counts := map[string]uint64{}
	for r := Reason(1); int(r) < len(reasons); r++ {
		var n uint64
		if err := e.objects.Maps["gwlsm_counts"].Lookup(uint32(r), &n); err != nil {
			return nil, fmt.Errorf("count denials: %w", err)
		}
		if r == 1 {
			n -= min(n, 1) // the probe of Start
		}
		if n > 0 {
			counts[r.String()] = n
		}
	}
	return counts, nil
}
