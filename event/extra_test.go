package event

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestStopWithoutRun(t *testing.T) {
	l := New("l")
	tm := l.Handler("h", Normal).After(time.Hour, func() {})
	l.Stop()
	within(t, l.Done(), "Done")
	if tm.Stop() {
		t.Error("a timer outlived its loop")
	}
	l.Stop()
	if err := l.Run(context.Background()); err != nil {
		t.Errorf("Run of a stopped loop: %v", err)
	}
	if err := l.Run(context.Background()); !errors.Is(err, ErrStopped) {
		t.Errorf("second Run: %v", err)
	}
}

func TestStopWithinAdvance(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	post(t, h, l.Stop)
	post(t, h, func() { t.Error("ran after Stop") })
	l.Advance(0)
	within(t, l.Done(), "Done")
	l.Advance(time.Second)
}
