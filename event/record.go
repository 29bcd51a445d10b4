package event

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Input is a named entrance of a loop for values of one type. What comes in can
// be recorded with its time, and replayed later into the same handlers: with a
// virtual clock they do the same again. T must survive JSON.
type Input[T any] struct {
	h    *Handler
	name string
	f    func(T)
}

// NewInput registers an input of h's loop; names are unique in a loop. f runs as
// an event of h.
func NewInput[T any](h *Handler, name string, f func(T)) *Input[T] {
	in := &Input[T]{h: h, name: name, f: f}
	l := h.loop
	l.handlerMu.Lock()
	defer l.handlerMu.Unlock()
	if l.inputs == nil {
		l.inputs = make(map[string]func([]byte) error)
	}
	if l.inputs[name] != nil {
		panic("event: input " + name + " of loop " + l.name + " registered twice")
	}
	l.inputs[name] = in.replay
	return in
}

// Post queues v like Handler.Post.
func (in *Input[T]) Post(v T) error {
	return in.h.Post(func() { in.Do(v) })
}

// Do takes v in at once. Only an event of the loop may call it: a timer's, or
// one that learned v otherwise.
func (in *Input[T]) Do(v T) {
	if r := in.h.loop.recorder.Load(); r != nil {
		r.record(in.h.loop, in.name, v)
	}
	in.f(v)
}

func (in *Input[T]) replay(data []byte) error {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	return in.Post(v)
}

// Recorder writes what the inputs of a loop take in, in the order of the loop,
// as JSON lines.
type Recorder struct {
	l *Loop

	mu  sync.Mutex
	w   io.Writer
	err error
}

// recordLine is one line: loop time, input and value.
type recordLine struct {
	At    time.Time       `json:"at"`
	Input string          `json:"input"`
	Value json.RawMessage `json:"value"`
}

// Record begins to write to w, until Close; it replaces an earlier recorder. A
// line is one Write, so that a crash leaves whole lines. After an error nothing
// more is written.
func (l *Loop) Record(w io.Writer) *Recorder {
	r := &Recorder{l: l, w: w}
	l.recorder.Store(r)
	return r
}

// Close ends the recording and returns its first error.
func (r *Recorder) Close() error {
	r.l.recorder.CompareAndSwap(r, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.err
	if errors.Is(err, errRecorderClosed) {
		err = nil
	}
	if r.err == nil {
		r.err = errRecorderClosed
	}
	return err
}

var errRecorderClosed = errors.New("recorder closed")

func (r *Recorder) record(l *Loop, input string, v any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	value, err := json.Marshal(v)
	if err != nil {
		r.err = fmt.Errorf("record input %s: %w", input, err)
		return
	}
	line, err := json.Marshal(recordLine{At: l.Now(), Input: input, Value: value})
	if err == nil {
		_, err = r.w.Write(append(line, '\n'))
	}
	if err != nil {
		r.err = fmt.Errorf("record input %s: %w", input, err)
	}
}

// maxRecordLine bounds a line of a recording, in bytes.
const maxRecordLine = 64 << 20

// Replay feeds a recording into the inputs of the loop, which has a virtual
// clock: it moves to each line's time, timers run on the way, and then takes the
// value in. The clock should stand at or before the recording's begin.
func (l *Loop) Replay(r io.Reader) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxRecordLine)
	n := 0
	for sc.Scan() {
		n++
		if err := l.replayLine(sc.Bytes()); err != nil {
			return fmt.Errorf("replay line %d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("replay line %d: %w", n+1, err)
	}
	return nil
}

func (l *Loop) replayLine(data []byte) error {
	var line recordLine
	if err := json.Unmarshal(data, &line); err != nil {
		return err
	}
	l.handlerMu.Lock()
	take := l.inputs[line.Input]
	l.handlerMu.Unlock()
	if take == nil {
		return fmt.Errorf("loop %s has no input %q", l.name, line.Input)
	}
	l.Advance(max(line.At.Sub(l.Now()), 0))
	if err := take(line.Value); err != nil {
		return fmt.Errorf("input %s: %w", line.Input, err)
	}
	l.Advance(0)
	return nil
}
