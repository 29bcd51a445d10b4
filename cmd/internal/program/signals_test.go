package program

import (
	"context"
	"syscall"
	"testing"

	"godwit/event"
)

func TestStopOnSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		l := event.New("l")
		asked := StopOnSignals(l)
		if asked() {
			t.Error("asked to stop before a signal came")
		}
		// Before the loop runs, too: it ends as soon as it does.
		if err := syscall.Kill(syscall.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		if err := l.Run(context.Background()); err != nil || !asked() {
			t.Errorf("%v: %v, asked %v", sig, err, asked())
		}
	}
	l := event.New("l")
	asked := StopOnSignals(l)
	l.Stop()
	if asked() {
		t.Error("ended by itself, and asked")
	}
}
