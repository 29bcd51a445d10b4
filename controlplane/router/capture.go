package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
	"godwit/fib"
)

// captureBacklog is how many frames may wait for the reader of a capture;
// further ones are left out.
const captureBacklog = 4096

// captureHeader precedes the frame in a CaptureFrame message: time, length, direction.
const captureHeader = 8 + 4 + 1

// capture is a running capture; a card has one at a time.
type capture struct {
	iface  fib.InterfaceID
	frames chan mgmt.Frame // closed when the card is lost
}

// take decodes a frame and hands it on, unless the reader is behind.
func (c *capture) take(body []byte) error {
	f, err := decodeFrame(body)
	if err != nil {
		return err
	}
	select {
	case c.frames <- f:
	default:
	}
	return nil
}

func decodeFrame(b []byte) (mgmt.Frame, error) {
	if len(b) <= captureHeader {
		return mgmt.Frame{}, fmt.Errorf("capture frame of %d bytes", len(b))
	}
	return mgmt.Frame{
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(b))),
		Length: int(binary.BigEndian.Uint32(b[8:])),
		Out:    b[12] != 0,
		Data:   b[captureHeader:],
	}, nil
}

// startCapture is a request of the loop.
func (r *Router) startCapture(q mgmt.CaptureQuery, done func(*capture, error)) {
	f := r.cfg.Interface(q.Interface)
	if f == nil {
		done(nil, notFound("interface", q.Interface))
		return
	}
	rules, err := captureRules(q)
	c := r.cards.m[fib.CardID(f.Card)]
	switch {
	case err != nil:
		done(nil, &mgmt.Error{Status: http.StatusBadRequest, Message: err.Error()})
		return
	case c == nil || c.sess == nil:
		done(nil, &mgmt.Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf("line card %d is not connected", f.Card)})
		return
	case c.capture != nil:
		done(nil, &mgmt.Error{Status: http.StatusConflict, Message: fmt.Sprintf("a capture is running on line card %d", f.Card)})
		return
	}
	run := &capture{iface: f.Number(), frames: make(chan mgmt.Frame, captureBacklog)}
	c.capture = run
	c.sess.Request(wire.StartCapture, wire.CaptureRequest{Interface: run.iface, Snap: q.Snap, Rules: rules}, requestTimeout, func(_ session.Message, err error) {
		if err != nil && c.capture == run {
			c.capture = nil
		}
		done(run, err)
	})
}

// captureRules permit what a capture selects; none: everything.
func captureRules(q mgmt.CaptureQuery) ([]wire.FilterRule, error) {
	if q.Match == (mgmt.Match{}) {
		return nil, nil
	}
	rule, err := q.Rule()
	if err != nil {
		return nil, err
	}
	return wireRules([]config.ACLRule{rule}), nil
}

func (r *Router) stopCapture(run *capture) {
	c := r.cards.m[run.iface.Card()]
	if c == nil || c.capture != run {
		return
	}
	c.capture = nil
	c.sess.Request(wire.StopCapture, wire.CaptureRequest{Interface: run.iface}, requestTimeout, func(_ session.Message, err error) {
		if err != nil {
			r.opt.Log.Warn("stop capture", "error", err)
		}
	})
}

// runCapture captures until the client goes; it runs on the request's goroutine.
func (r *Router) runCapture(ctx context.Context, q mgmt.CaptureQuery, emit func(mgmt.Frame) error) error {
	// Not with ctx: a capture that was started must be known, to be stopped.
	run, err := call(context.WithoutCancel(ctx), r.request, func(done func(*capture, error)) { r.startCapture(q, done) })
	if err != nil {
		return err
	}
	defer later(r.request, func() { r.stopCapture(run) })
	if err := emit(mgmt.Frame{}); err != nil {
		return err
	}
	for {
		select {
		case f, ok := <-run.frames:
			if !ok {
				return errors.New("line card lost")
			}
			if err := emit(f); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		case <-r.opt.Loop.Done():
			return nil
		}
	}
}
